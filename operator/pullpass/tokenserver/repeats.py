"""Answers a request that was answered already in this very second with the same bytes.

Clients ask in bursts: the same node, credential and scope many times over, once for each layer or image. Times in an
access token are whole seconds, so within one second, and as long as nothing in the mirror has changed, a second
token would differ from the first in nothing but its id. An answer thus never outlives the decision behind it.
"""

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from pullpass.api.registries import Registry

MOST = 4096
"""Answers kept of one second, about 1.5 KiB each."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A granted request's outcome (the metric's label) and body."""

    outcome: str
    body: bytes = field(repr=False)
    line: str = ""
    """Its line in the audit log."""
    registry: Registry | None = None
    """The registry that it is for."""


class Repeats:
    """The answers of the current second."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._answers: dict[bytes, Answer] = {}
        self._valid: tuple[int, int] = (0, 0)
        self.count = 0
        """Requests answered from here since start."""

    def __len__(self) -> int:
        return len(self._answers)

    def key(self, parts: Iterable[str]) -> bytes:
        """Stands for a whole request, its credentials and its sender, and tells nothing of them."""
        # Lengths go in too, so that no two requests run together to the same text.
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return hmac.digest(self._key, text.encode(errors="surrogatepass"), "sha256")

    def find(self, key: bytes, second: int, generation: int) -> Answer | None:
        """The answer to the same request in the same second and the same state of the mirror."""
        if self._valid != (second, generation):
            return None
        answer = self._answers.get(key)
        if answer is not None:
            self.count += 1
        return answer

    def keep(self, key: bytes, second: int, generation: int, answer: Answer) -> None:
        """Keeps an answer that was decided in that second and state; anything older is dropped."""
        if self._valid != (second, generation):
            self._answers.clear()
            self._valid = (second, generation)
        if len(self._answers) < MOST:
            self._answers[key] = answer
