"""Server-side apply as far as our writes need it: which fields are whose, what conflicts, and what goes away.

Fields are the leaves below the parts that are applied: maps by key, owner references by UID.
"""

import copy
from collections.abc import Mapping
from typing import Any

Body = dict[str, Any]
Fields = dict[tuple[str, ...], Any]

_MAPS = (("data",), ("metadata", "labels"), ("metadata", "annotations"))


def fields(body: Mapping[str, Any]) -> Fields:
    """The leaves of an object that an apply can set."""
    found: Fields = {("type",): body["type"]} if "type" in body else {}
    for way in _MAPS:
        part: Any = body
        for key in way:
            part = part.get(key) or {}
        found |= {(*way, key): value for key, value in part.items()}
    for owner in body["metadata"].get("ownerReferences") or []:
        found["metadata", "ownerReferences", owner["uid"]] = owner
    return found


def conflicts(live: Body, before: Fields, wanted: Body) -> bool:
    """Whether somebody else holds a field that would get another value. `before` is what we applied last."""
    there = fields(live)
    return any(
        field in there and there[field] != value and before.get(field) != there[field]
        for field, value in fields(wanted).items()
    )


def merge(live: Body, before: Fields, wanted: Body) -> Body:
    """The object with the wanted fields, and without those that we applied before and do not want any more."""
    there, now = fields(live), fields(wanted)
    for field, value in before.items():
        if field not in now and there.get(field) == value:
            del there[field]
    there |= now
    result = copy.deepcopy(live)
    result.pop("type", None)
    result["metadata"].pop("ownerReferences", None)
    for way in _MAPS:
        parent = result
        for key in way[:-1]:
            parent = parent[key]
        if way[-1] in parent:
            parent[way[-1]] = {}
    for field, value in sorted(there.items(), key=lambda item: item[0]):
        parent = result
        if field[:2] == ("metadata", "ownerReferences"):
            result["metadata"].setdefault("ownerReferences", []).append(copy.deepcopy(value))
            continue
        for key in field[:-1]:
            parent = parent.setdefault(key, {})
        parent[field[-1]] = copy.deepcopy(value)
    return result
