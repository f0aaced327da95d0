"""How one process hears of one kind: late, twice, older news after newer ones, or of a deletion not at all."""

from collections import deque
from collections.abc import Callable

from tests.unit.controller.fake_api import Body, FakeApi, matches

Tell = Callable[[str | None, Body], None]
Name = tuple[str, str]
"""Namespace (empty where there is none) and name."""


class Watch:
    """A list and a watch. `tell` is called with what is heard, type None for what is listed.

    Kopf tells after another list only of what is there. A reflector notices what is gone (`notices`).
    """

    def __init__(
        self,
        api: FakeApi,
        plural: str,
        tell: Tell,
        *,
        namespace: str | None = None,
        selector: str | None = None,
        notices: bool = False,
    ) -> None:
        self._api = api
        self._plural = plural
        self._tell = tell
        self._namespace = namespace
        self._selector = selector
        self._notices = notices
        self._position = 0
        self._matching: dict[Name, Body] = {}
        self._coming: deque[tuple[str | None, Body]] = deque()
        self._told: list[tuple[str | None, Body]] = []
        self.versions: dict[Name, str] = {}
        """The version that was heard last of each object that is there."""
        self.list()

    def list(self) -> None:
        """The connection is cut, and what was not heard yet is lost; what is there now is heard anew."""
        self._position = len(self._api.watched)
        self._coming.clear()
        self._matching.clear()
        for (plural, *_), body in sorted(self._api.objects.items()):
            if plural == self._plural and self._fits(body):
                self._coming.append((None, body))
                self._matching[_name(body)] = body
        if self._notices:
            for namespace, name in sorted(self.versions.keys() - self._matching.keys()):
                self._coming.append(("DELETED", {"metadata": {"namespace": namespace, "name": name}}))

    @property
    def coming(self) -> int:
        """How many events were not heard yet."""
        self._look()
        return len(self._coming)

    def hear(self, count: int) -> None:
        """The next events are heard."""
        for _ in range(min(count, self.coming)):
            event = self._coming.popleft()
            self._told.append(event)
            self._deliver(event)

    def hear_again(self, back: int) -> None:
        """An event that was heard before is heard once more."""
        if self._told:
            self._deliver(self._told[-1 - back % len(self._told)])

    def _deliver(self, event: tuple[str | None, Body]) -> None:
        type_, body = event
        if type_ == "DELETED":
            self.versions.pop(_name(body), None)
        else:
            self.versions[_name(body)] = body["metadata"]["resourceVersion"]
        self._tell(type_, body)

    def _look(self) -> None:
        """What happened since, as the API server tells it to a watch with a selector."""
        for type_, plural, body in self._api.watched[self._position :]:
            if plural != self._plural:
                continue
            name, fits = _name(body), self._fits(body)
            if type_ == "DELETED" or not fits:
                if (before := self._matching.pop(name, None)) is not None:
                    version = {"resourceVersion": body["metadata"]["resourceVersion"]}
                    self._coming.append(("DELETED", before | {"metadata": before["metadata"] | version}))
            else:
                self._coming.append(("MODIFIED" if name in self._matching else "ADDED", body))
                self._matching[name] = body
        self._position = len(self._api.watched)

    def _fits(self, body: Body) -> bool:
        return matches(body, self._namespace, self._selector)


def _name(body: Body) -> Name:
    return body["metadata"].get("namespace", ""), body["metadata"]["name"]
