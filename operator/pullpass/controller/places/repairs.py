"""How often we repair what another controller keeps undoing: the least time between two repairs of the same thing.

Two controllers that each put back what the other takes away would write without end. So repairs of one and the same
thing come ever more rarely. Only repairs: what is done for the first time, for another spec or with another password
never waits, and neither does taking away what we put in place, or the reverse.

The first repair is at once. The next one comes 10 seconds after it at the earliest, the one after that 20 seconds
later, then 40, up to 10 minutes. A pull secret that is missing waits for 30 seconds at most: without it pods fail, and
whoever deleted it may have stopped. Once a repair has stood for 10 minutes beyond its wait, it begins anew. All of this
is kept in memory, and measured by a clock that nobody sets.
"""

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import NamedTuple

from pullpass.kube.backoff import Backoff

LEAST = Backoff(first=10.0, longest=600.0)
"""From one repair to the next at least."""
LEAST_MISSING = Backoff(first=10.0, longest=30.0)
"""The same for a pull secret that is missing."""
QUIET = 600.0
"""Seconds that a repair has to stand beyond its wait for it to be the last of its kind."""
REMEMBERED = 20_000
"""How many things are remembered; beyond that, the one that was done longest ago is forgotten."""


class Item(NamedTuple):
    """What others can undo in a place: a pull secret of a token or its entry in a ServiceAccount, put there or taken
    away."""

    token_uid: str
    namespace: str
    secret: str
    account: str = ""
    """Name of the ServiceAccount; empty for the pull secret itself."""
    account_uid: str = ""
    removal: bool = False


@dataclass(frozen=True)
class Wait:
    """A repair that must wait, should it be needed."""

    until: datetime
    password_id: str = ""
    """The password that a pull secret was last written with; it may be written with another one."""
    lasting: bool = False
    """Whether there is somebody to tell of even while our last repair stands: it had been undone before."""


@dataclass
class _History:
    """What was done to an item for one spec and password."""

    generation: int
    password_id: str
    done: float
    repairs: int = 0
    missed: bool = False
    """Found undone, and left so, since it was done."""

    def free_at(self, least: Backoff = LEAST) -> float:
        return self.done + (least.delay(self.repairs, jitter=1) if self.repairs else 0)


class Repairs:
    """What was done of late, how often it had to be repaired, and when it may be repaired again."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._histories: OrderedDict[Item, _History] = OrderedDict()
        self._of: defaultdict[tuple[str, str], set[Item]] = defaultdict(set)

    def waits(
        self, token_uid: str, namespace: str, generation: int, now: datetime, missing: str = ""
    ) -> dict[Item, Wait]:
        """What must wait in a place of a token, as long as its spec is of this generation.

        `missing` is the name of its pull secret where that is not there. `now` is the wall clock, for a due time: a
        whole second, so that one wait has one end whenever it is asked for.
        """
        clock = self._monotonic()
        found = {}
        for item in self._of.get((token_uid, namespace), ()):
            history = self._histories[item]
            is_missing = item.secret == missing and not item.account and not item.removal
            free_at = history.free_at(LEAST_MISSING if is_missing else LEAST)
            if history.generation == generation and free_at > clock:
                until = datetime.fromtimestamp(ceil(now.timestamp() + free_at - clock), now.tzinfo)
                lasting = history.repairs > 1 and not history.missed
                found[item] = Wait(until, history.password_id, lasting)
        return found

    def did(self, item: Item, generation: int, password_id: str = "") -> None:
        """It was done: a repair, if it had been done for the same spec and with the same password before."""
        clock = self._monotonic()
        before = self._histories.pop(item, None)
        if before is None or (before.generation, before.password_id) != (generation, password_id):
            repairs = 0
        elif before.free_at() + QUIET <= clock:
            repairs = 1
        else:
            repairs = before.repairs + 1
        self._histories[item] = _History(generation, password_id, clock, repairs)
        self._of[item.token_uid, item.namespace].add(item)
        self.forget(item._replace(removal=not item.removal))
        if len(self._histories) > REMEMBERED:
            self.forget(next(iter(self._histories)))

    def missed(self, item: Item) -> None:
        """It was found undone, and is left so for now: if it is there again, somebody else has done it."""
        if item in self._histories:
            self._histories[item].missed = True

    def forget(self, item: Item) -> None:
        """We undid it ourselves, so that doing it again is no repair."""
        place = (item.token_uid, item.namespace)
        if self._histories.pop(item, None) is not None:
            self._of[place].discard(item)
            if not self._of[place]:
                del self._of[place]
