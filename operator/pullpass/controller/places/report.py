"""What the passes of places met: kept in memory, for the passes of tokens, and for the next pass of the place."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from pullpass.api.conditions import Reason
from pullpass.controller.facts import Facts
from pullpass.controller.places.plan import Place
from pullpass.controller.places.repairs import Item


@dataclass(frozen=True)
class Problem:
    """Something that keeps a pull secret or an entry from being as it should."""

    namespace: str
    reason: Reason
    message: str
    account: str = ""
    """Name of the ServiceAccount whose entry it is about; empty where it is about the pull secret."""


class Aim(NamedTuple):
    """What a pass wanted a place to have. After a pass with another aim the place has still to be tried."""

    generation: int
    password_id: str
    registry: str
    usable: bool

    @classmethod
    def of(cls, facts: Facts, place: Place) -> "Aim":
        """The aim for a place."""
        return cls(
            facts.token.generation,
            facts.record.slots[facts.published].id if facts.published is not None else "",
            facts.registry.name if facts.registry is not None else "",
            place.usable,
        )


@dataclass(frozen=True)
class Report:
    """What the last pass of a place left undone."""

    aim: Aim
    problems: tuple[Problem, ...] = ()
    blocked: bool = False
    """Whether the pull secret is not as it should be."""
    contested: frozenset[Item] = frozenset()
    """What another controller keeps undoing."""
    failed: frozenset[Item] = frozenset()
    """What could not be done apart from the pull secret, which comes last the next time."""
    attempts: int = 1
    """Failed passes in a row."""
    told: bool = True
    """False while it may be over with the next attempt: nobody is told of it yet."""

    @property
    def secret_contested(self) -> bool:
        """Whether another controller keeps undoing the pull secret itself."""
        return any(not item.account for item in self.contested)


class Reports:
    """The reports of all places that are not as they should be."""

    def __init__(self) -> None:
        self._reports: dict[str, dict[str, Report]] = {}
        """By UID of the token and by namespace."""

    def get(self, namespace: str, token_uid: str) -> Report | None:
        """The last report of a place; None where nothing is wrong with it, as far as is known."""
        return self._reports.get(token_uid, {}).get(namespace)

    def put(self, namespace: str, token_uid: str, report: Report | None) -> bool:
        """Keeps a report in the place of the one before; tells whether it says anything else."""
        reports = self._reports.setdefault(token_uid, {})
        before = reports.pop(namespace, None)
        if report is not None:
            reports[namespace] = report
        elif not reports:
            del self._reports[token_uid]
        return before != report

    def keep(self, token_uid: str, namespaces: Collection[str]) -> None:
        """Forgets the other places of a token: it has nothing to do with them any more."""
        for namespace in self._reports.get(token_uid, {}).keys() - set(namespaces):
            self.put(namespace, token_uid, None)
