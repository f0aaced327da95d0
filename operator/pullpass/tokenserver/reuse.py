"""Gives an access token that was just issued to whoever sends the same request within a few seconds.

Clients ask in bursts: one node once for each layer of an image, and all nodes of a cluster for the same image at the
same time. The signature is what an answer costs most, and the next one would differ in little but its id.

What a request is granted depends on the request, on some cached objects (see `AccessCache.decision_inputs`) and on the
clock. So a token is given again only to a request that is the same in every byte that counts, its credentials among
them; only while all of those objects are the very same, as each write makes another one; and only as long as clients
may take for granted that a token lives. It then ends earlier than a new one would. So after a kill there is no token
that there would not be without this, and what is written about others ends no reuse.
"""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import is_

from pullpass.tokenserver.audit import Granted
from pullpass.tokenserver.cache import AccessCache, DecisionInputs
from pullpass.tokenserver.issuing import Issued

SECONDS = 5
"""For how long a token is given again: in the second of its issue and in those that follow."""
MIN_REMAINING_SECONDS = 60
"""Seconds that a token which is given again has left: clients that read no `expires_in` take it to be 60."""
BYTES = 4 * 1024 * 1024
"""Of decisions that are kept: some 500 ordinary ones, or 50 with as many and as long scopes as there may be. More would
make all else slower, as every new one then comes to memory that is in no cache of the processor."""


@dataclass(slots=True)
class Decision:
    """A granted request: what the decision depends on, what came of it, and what the audit log says of it."""

    inputs: DecisionInputs
    issued: Issued
    granted: Granted

    last: int = field(init=False)
    """The last second in which its token may be given again; before its first one if it may not be."""
    size: int = field(init=False)
    """Bytes that it holds, about: the answer twice, once with its headers, and what stands in it."""

    def __post_init__(self) -> None:
        self.last = min(self.issued.second + SECONDS - 1, self.issued.ends - MIN_REMAINING_SECONDS)
        self.size = 3 * self.issued.length


class Reuse:
    """The decisions of the last few seconds."""

    def __init__(self, cache: AccessCache) -> None:
        self._cache = cache
        self._keyed = blake2b(key=secrets.token_bytes(32), digest_size=32)
        self._decisions: OrderedDict[bytes, Decision] = OrderedDict()
        self._held = 0
        self.count = 0
        """Requests that got a token which was issued before, since start."""

    def __len__(self) -> int:
        return len(self._decisions)

    def key(self, parts: tuple[str, ...]) -> bytes:
        """Hashes a request with its credentials, under a key of this process."""
        keyed = self._keyed.copy()
        # As Python writes it, no two requests come to the same text, and every text can be encoded.
        keyed.update(repr(parts).encode())
        return keyed.digest()

    def find(self, key: bytes, second: int) -> Decision | None:
        """Finds the decision about the same request, if it would be the same in this second."""
        decision = self._decisions.get(key)
        if decision is None or not decision.issued.second <= second <= decision.last:
            return None
        now = self._cache.decision_inputs(decision.granted.user, decision.granted.registry.name)
        if not all(map(is_, decision.inputs, now)):
            return None
        self.count += 1
        return decision

    def keep(self, key: bytes, decision: Decision) -> None:
        """Keeps a decision, and of the others those that are not over."""
        if decision.last < decision.issued.second:
            return
        self._forget(key)
        self._decisions[key] = decision
        self._held += decision.size
        while self._held > BYTES or next(iter(self._decisions.values())).last < decision.issued.second:
            self._forget(next(iter(self._decisions)))

    def _forget(self, key: bytes) -> None:
        decision = self._decisions.pop(key, None)
        self._held -= decision.size if decision is not None else 0
