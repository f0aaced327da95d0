"""A JSON object kept as text. Tens of thousands of them are held and one at a time is looked at; as dictionaries they
would take five times the memory.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Document:
    """Equal to another of the same content, whatever the order of its keys."""

    text: bytes

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Document":
        """Packs what an API object has."""
        return cls(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())

    def read(self) -> dict[str, Any]:
        """The content, the caller's own."""
        content: dict[str, Any] = json.loads(self.text)
        return content
