"""RFC 6902, as far as our patches need it: test, add, remove."""

import copy
from collections.abc import Sequence
from typing import Any


class PatchError(Exception):
    """The patch does not fit the document."""


def apply_patch(document: Any, operations: Sequence[dict[str, Any]]) -> Any:
    """The document after the operations, which are all done or none. Raises PatchError."""
    result = copy.deepcopy(document)
    for operation in operations:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        try:
            parent = result
            for part in way:
                parent = parent[int(part)] if isinstance(parent, list) else parent[part]
            _change(parent, last, operation)
        except (KeyError, IndexError, ValueError, TypeError):
            raise PatchError(operation["op"]) from None
    return result


def _change(parent: Any, last: str, operation: dict[str, Any]) -> None:
    place: Any = int(last) if isinstance(parent, list) and last != "-" else last
    match operation["op"]:
        case "test":
            if parent[place] != operation["value"]:
                raise PatchError("test")
        case "remove":
            del parent[place]
        case "add" if not isinstance(parent, list):
            parent[place] = copy.deepcopy(operation["value"])
        case "add" if place == "-":
            parent.append(copy.deepcopy(operation["value"]))
        case "add" if place <= len(parent):
            parent.insert(place, copy.deepcopy(operation["value"]))
        case _:
            raise IndexError
