"""Back-off against another controller that keeps undoing what we do to Secrets and ServiceAccounts.

Two controllers that each put back what the other takes away would write without end. So repairs of one and the same
thing come ever more rarely. Only repairs: what is done for the first time, for another spec or with another password
never waits, and neither does taking away what we put in place, or the reverse.

The first repair is at once. The next one comes 10 seconds after it at the earliest, the one after that 20 seconds
later, then 40, up to 10 minutes. Once a repair has stood for 10 minutes beyond its wait, it begins anew. All of this
is kept in memory, and measured by a clock that nobody sets.
"""

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import NamedTuple

FIRST_WAIT = 10.0
LAST_WAIT = 600.0
"""Seconds from one repair to the next at least: doubling from the first to the last."""
QUIET = 600.0
"""Seconds that a repair has to stand beyond its wait for the quarrel to be over."""
REMEMBERED = 20_000
"""How many things are remembered; beyond that, the one that was done longest ago is forgotten."""


class ManagedItem(NamedTuple):
    """What others can undo: a pull secret of a token or its entry in a ServiceAccount, put there or taken away."""

    token_uid: str
    namespace: str
    secret: str
    account: str = ""
    """Name of the ServiceAccount; empty for the pull secret itself."""
    account_uid: str = ""
    removal: bool = False


@dataclass(frozen=True)
class Backoff:
    """A repair that must wait, should it be needed."""

    until: datetime
    password_id: str = ""
    """The password that a pull secret was last written with; it may be written with another one."""
    lasting: bool = False
    """Whether there is a quarrel to tell of even while our last repair stands: it had been undone before."""


@dataclass
class RepairHistory:
    generation: int
    password_id: str
    done: float
    repairs: int = 0
    missed: bool = False
    """Found undone, and left so, since it was done."""

    @property
    def free_at(self) -> float:
        wait: float = min(FIRST_WAIT * 2.0 ** min(self.repairs - 1, 16), LAST_WAIT) if self.repairs else 0
        return self.done + wait


class Repairs:
    """What was done of late, how often it had to be repaired, and when it may be repaired again."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._quarrels: OrderedDict[ManagedItem, RepairHistory] = OrderedDict()
        self._of: defaultdict[str, set[ManagedItem]] = defaultdict(set)

    def holds(self, token_uid: str, generation: int, now: datetime) -> dict[ManagedItem, Backoff]:
        """What of a token must wait, as long as its spec is of this generation.

        `now` is the wall clock, for a due time: a whole second, so that one wait has one end whenever it is asked for.
        """
        clock = self._monotonic()
        found = {}
        for matter in self._of.get(token_uid, ()):
            quarrel = self._quarrels[matter]
            if quarrel.generation == generation and quarrel.free_at > clock:
                until = datetime.fromtimestamp(ceil(now.timestamp() + quarrel.free_at - clock), now.tzinfo)
                lasting = quarrel.repairs > 1 and not quarrel.missed
                found[matter] = Backoff(until, quarrel.password_id, lasting)
        return found

    def did(self, matter: ManagedItem, generation: int, password_id: str = "") -> None:
        """It was done: a repair, if it had been done for the same spec and with the same password before."""
        clock = self._monotonic()
        before = self._quarrels.pop(matter, None)
        if before is None or (before.generation, before.password_id) != (generation, password_id):
            repairs = 0
        elif before.free_at + QUIET <= clock:
            repairs = 1
        else:
            repairs = before.repairs + 1
        self._quarrels[matter] = RepairHistory(generation, password_id, clock, repairs)
        self._of[matter.token_uid].add(matter)
        if len(self._quarrels) > REMEMBERED:
            self.forget(next(iter(self._quarrels)))

    def missed(self, matter: ManagedItem) -> None:
        """It was found undone, and is left so for now: if it is there again, somebody else has done it."""
        if matter in self._quarrels:
            self._quarrels[matter].missed = True

    def forget(self, matter: ManagedItem) -> None:
        """We undid it ourselves, so that doing it again is no repair."""
        if self._quarrels.pop(matter, None) is not None:
            self._of[matter.token_uid].discard(matter)
            if not self._of[matter.token_uid]:
                del self._of[matter.token_uid]
