"""Following a kind of object through lost connections, lost positions and nonsense."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pullpass.kube.client import Gone, KubeError, Page, Refused, Unavailable
from pullpass.kube.reflector import BACKOFF, CATCH_UP_SECONDS, RELIST_AFTER, WATCH_SECONDS, Object, Reflector
from pullpass.kube.resources import SCOPE_MAPS, Resource
from pullpass.kube.standstill import STALL_SECONDS
from pullpass.kube.timeslice import SLICE_SECONDS

Step = Any
"""A page or a list of events to answer with, or an error to raise."""


def item(name: str, uid: str | None = None, namespace: str | None = None, version: str = "7") -> Object:
    metadata = {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": version}
    return {"metadata": metadata | ({"namespace": namespace} if namespace else {}), "spec": {}}


def page(*items: Object, version: str = "10", more: str | None = None) -> Page:
    return Page(items, version, more)


def event(type_: str, name: str, version: str, uid: str | None = None) -> Object:
    obj = item(name, uid)
    obj["metadata"]["resourceVersion"] = version
    return {"type": type_, "object": obj}


def bookmark(version: str) -> Object:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}


class OverError(BaseException):
    """The script is at its end."""


class Api:
    """Plays a script of answers and ends the reflector after it; notes each request."""

    def __init__(self, *script: Step) -> None:
        self.script = list(script)
        self.asked: list[str] = []
        self.pauses: list[float] = []
        self.events: list[tuple[str, str, str]] = []
        self.server_seconds: list[int] = []
        """Of each watch."""
        self.time = 0.0
        self.list_takes = 0.0
        """Seconds, for each page."""
        self.watch_takes = 0.0
        """Seconds to its end."""
        self.reflector = Reflector(
            self,
            SCOPE_MAPS,
            label_selector="x=y",
            on_event=self.note,
            pause=self.pause,
            monotonic=lambda: self.time,
            elapsed=lambda: self.time,
        )

    def note(self, type_: str, obj: Object) -> None:
        self.events.append((type_, obj["metadata"]["name"], obj["metadata"]["uid"]))

    def next(self) -> Step:
        if not self.script:
            raise OverError
        self.time += 1
        answer = self.script.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def pages(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str | None = None
    ) -> AsyncIterator[Page]:
        assert (resource, namespace, label_selector) == (SCOPE_MAPS, None, "x=y")
        position: str | None = ""
        while position is not None:
            self.asked.append(f"list {position}".strip())
            answer: Page = self.next()
            self.time += self.list_takes
            yield answer
            position = answer.position

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        resource_version: str,
        *,
        label_selector: str | None = None,
        opened: Callable[[], None] = lambda: None,
        server_seconds: int = 0,
    ) -> AsyncIterator[Object]:
        assert (resource, namespace, label_selector) == (SCOPE_MAPS, None, "x=y")
        self.asked.append(f"watch {resource_version}")
        self.server_seconds.append(server_seconds)
        answers = self.next()
        opened()
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            yield answer
        self.time += self.watch_takes

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def play(self) -> "Api":
        with pytest.raises(OverError):
            await self.reflector.run()
        return self


async def test_lists_in_pages_then_watches_from_the_position_of_the_list() -> None:
    api = await Api(page(item("a"), more="c1"), page(item("b"), version="12"), [event("MODIFIED", "a", "13")]).play()
    assert api.asked == ["list", "list c1", "watch 12", "watch 13"]
    assert api.events == [("ADDED", "a", "uid-a"), ("ADDED", "b", "uid-b"), ("MODIFIED", "a", "uid-a")]
    assert api.reflector.synced.is_set()


async def test_is_not_synced_before_a_watch_goes_on_from_the_list() -> None:
    """Otherwise a token server could be ready and yet miss what is published at that moment."""
    api = await Api(page(item("a")), Unavailable("no watch"), Gone("too old"), page(item("a"))).play()
    assert not api.reflector.synced.is_set()
    api = await Api(page(item("a")), Unavailable("no watch"), []).play()
    assert api.reflector.synced.is_set()


async def test_is_not_synced_before_the_last_page() -> None:
    api = await Api(page(item("a"), more="c1")).play()
    assert not api.reflector.synced.is_set()


async def test_a_watch_that_ends_goes_on_where_it_ended() -> None:
    api = await Api(page(), [event("ADDED", "a", "11"), bookmark("20")], [event("DELETED", "a", "21")], []).play()
    assert api.asked == ["list", "watch 10", "watch 20", "watch 21", "watch 21"]
    assert api.events == [("ADDED", "a", "uid-a"), ("DELETED", "a", "uid-a")]
    assert len(api.pauses) == 1, "only the watch that brought nothing is followed by a pause"


async def test_a_broken_watch_keeps_its_position_and_what_is_known() -> None:
    api = await Api(page(item("a")), [event("ADDED", "b", "11"), Unavailable("broke")], [bookmark("12")]).play()
    assert api.asked == ["list", "watch 10", "watch 11", "watch 12"]
    assert not [entry for entry in api.events if entry[0] == "DELETED"]


@pytest.mark.parametrize("on_open", [True, False])
async def test_a_lost_position_lists_again_and_reports_what_vanished(on_open: bool) -> None:
    gone = Gone("too old", 410)
    api = await Api(
        page(item("a"), item("b")), gone if on_open else [bookmark("11"), gone], page(item("b"), version="30")
    ).play()
    assert api.asked[-2:] == ["list", "watch 30"]
    assert api.events[2:] == [("DELETED", "a", "uid-a")]
    assert api.pauses, "a list is never begun without a pause"


async def test_a_new_object_under_an_old_name_is_first_a_deleted_one() -> None:
    api = await Api(page(item("a", "1")), Gone("too old", 410), page(item("a", "2"))).play()
    assert api.events == [("ADDED", "a", "1"), ("DELETED", "a", "1"), ("ADDED", "a", "2")]


async def test_what_vanished_is_named_with_its_namespace() -> None:
    seen: list[Object] = []
    api = Api(page(item("a", namespace="web")), Gone("too old", 410), page())
    api.reflector = Reflector(
        api, SCOPE_MAPS, label_selector="x=y", on_event=lambda _, obj: seen.append(obj), pause=api.pause
    )
    await api.play()
    assert seen[-1] == {"metadata": {"name": "a", "namespace": "web", "uid": "uid-a"}}


async def test_a_list_lost_on_the_way_is_begun_anew_and_deletes_nothing() -> None:
    api = await Api(
        page(item("a"), item("b")), Gone("too old"), page(item("a"), more="c1"), Gone("expired"), page(item("b"))
    ).play()
    assert api.asked == ["list", "watch 10", "list", "list c1", "list", "watch 10"]
    assert [entry for entry in api.events if entry[0] == "DELETED"] == [("DELETED", "a", "uid-a")]


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("down", 503),
        Refused("forbidden", 403),
        KubeError("?"),
        KeyError("metadata"),
        ValueError("json"),
        OSError("token file"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_no_error_ends_it(error: Exception) -> None:
    api = await Api(error, error, page(item("a")), error, *[[error]] * 3, page(item("a")), []).play()
    assert api.reflector.synced.is_set()
    assert not [entry for entry in api.events if entry[0] == "DELETED"]


async def test_nonsense_in_place_of_an_answer_does_not_end_it() -> None:
    api = await Api(page({}), page(item("a")), [{"type": "ADDED"}], page(item("a")), [bookmark("11")]).play()
    assert api.asked == ["list", "list", "watch 10", "list", "watch 10", "watch 11"]


async def test_pauses_grow_to_a_limit_and_shrink_after_success() -> None:
    down = [Unavailable("down", 503)] * 12
    api = await Api(*down, page(), [bookmark("11")], Unavailable("down", 503)).play()
    assert api.pauses[0] <= 0.25
    assert BACKOFF.longest / 2 <= api.pauses[11] <= BACKOFF.longest
    assert api.pauses[-1] <= 0.25


async def test_waits_as_long_as_the_server_asks_but_not_for_ever() -> None:
    api = await Api(Unavailable("busy", 429, retry_after=3), Unavailable("busy", 429, retry_after=3600), page()).play()
    assert api.pauses == [3, BACKOFF.longest]


async def test_after_many_failed_watches_the_position_itself_is_doubted() -> None:
    api = await Api(page(), *[Unavailable("too large resource version", 504)] * RELIST_AFTER, page(version="3")).play()
    assert api.asked == ["list", *["watch 10"] * RELIST_AFTER, "list", "watch 3"]


async def test_last_contact_is_when_something_was_heard() -> None:
    api = Api(page(), [bookmark("11")], Unavailable("down"), Unavailable("down"))
    assert api.reflector.last_contact == float("-inf")
    await api.play()
    assert (api.reflector.last_contact, api.time) == (2, 4)


async def test_a_list_only_reports_what_has_changed_since() -> None:
    """Otherwise a list that is lost on the way again and again would never come to its end without processor time."""
    api = await Api(
        page(item("a"), item("b"), more="c1"),
        Gone("expired", 410),
        page(item("a"), item("b", version="8"), item("c")),
        [],
    ).play()
    assert api.events == [
        ("ADDED", "a", "uid-a"),
        ("ADDED", "b", "uid-b"),
        ("ADDED", "b", "uid-b"),
        ("ADDED", "c", "uid-c"),
    ]


async def test_where_the_position_is_doubted_versions_are_too() -> None:
    """A restored API server gives versions a second time."""
    api = await Api(page(item("a")), *[Unavailable("no", 504)] * RELIST_AFTER, page(item("a")), []).play()
    assert api.events == [("ADDED", "a", "uid-a")] * 2


async def test_a_list_that_took_long_is_followed_by_a_watch_that_has_to_catch_up() -> None:
    """What was written meanwhile is on its way when the watch opens, and may take long without processor time."""
    api = Api(page(item("a")), [event("MODIFIED", "a", "11")], [bookmark("12")], [])
    api.list_takes = STALL_SECONDS
    seen: list[bool] = []
    api.reflector._on_event = lambda type_, _: seen.append(api.reflector.synced.is_set())
    await api.play()
    assert seen == [False, False]
    assert api.reflector.synced.is_set()
    assert api.server_seconds == [CATCH_UP_SECONDS, CATCH_UP_SECONDS, WATCH_SECONDS, WATCH_SECONDS]


async def test_a_watch_that_ends_at_once_shows_nothing() -> None:
    api = Api(page(), [event("ADDED", "a", "11")], [])
    api.list_takes = STALL_SECONDS
    await api.play()
    assert not api.reflector.synced.is_set()


async def test_a_watch_that_ends_in_time_has_caught_up_also_where_there_was_nothing_new() -> None:
    """Then there is no bookmark."""
    api = Api(page(), [], [])
    api.list_takes = api.watch_takes = STALL_SECONDS
    await api.play()
    assert api.reflector.synced.is_set()
    assert api.server_seconds == [CATCH_UP_SECONDS, WATCH_SECONDS, WATCH_SECONDS]
    assert len(api.pauses) == 1, "the second one, which was of no use"


async def test_a_doubted_reflector_catches_up_by_a_new_watch_and_lists_nothing() -> None:
    api = Silent()
    task = await api.begun()
    first = api.heard
    api.heard.put_nowait(event("MODIFIED", "a", "11"))
    await api.idle()
    api.stand_still()
    assert not api.reflector.synced.is_set()
    await api.idle()
    assert api.heard is not first, "the old connection is left: it may be dead"
    assert not api.reflector.synced.is_set(), "what was written meanwhile is on its way"
    api.heard.put_nowait(event("ADDED", "b", "12"))
    await api.idle()
    assert not api.reflector.synced.is_set()
    api.heard.put_nowait(bookmark("12"))
    await api.idle()
    assert api.reflector.synced.is_set()
    assert api.events == ["ADDED a", "MODIFIED a", "ADDED b"]
    assert (api.lists, api.positions) == (1, ["10", "11"])
    await ended(task)


async def test_who_stands_still_while_it_catches_up_goes_on_from_there() -> None:
    api = Silent()
    task = await api.begun()
    for version in ("11", "12", "13"):
        api.stand_still()
        await api.idle()
        api.heard.put_nowait(event("MODIFIED", "a", version))
        await api.idle()
    api.heard.put_nowait(bookmark("14"))
    await api.idle()
    assert api.reflector.synced.is_set()
    assert (api.lists, api.positions) == (1, ["10", "10", "11", "12"])
    await ended(task)


async def test_a_list_goes_on_whoever_stands_still_meanwhile() -> None:
    api = Silent(*(item(f"a{number}") for number in range(5)))
    api.on_event = api.stand_still
    task = asyncio.create_task(api.reflector.run())
    await api.idle()
    assert (api.lists, len(api.events)) == (1, 5)
    assert not api.reflector.synced.is_set()
    api.heard.put_nowait(bookmark("11"))
    await api.idle()
    assert api.reflector.synced.is_set()
    assert api.lists == 1
    await ended(task)


async def test_a_lost_position_after_a_standstill_is_followed_by_a_list() -> None:
    api = Silent()
    task = await api.begun()
    api.gone = True
    api.stand_still()
    await api.reflector.synced.wait()
    assert (api.lists, api.positions) == (2, ["10", "10", "10"])
    await ended(task)


async def test_other_tasks_run_while_much_is_handled() -> None:
    """Each object costs as much as a slice; without a turn of the loop in between all of them would be one stall."""
    api = Silent(*(item(f"a{number}") for number in range(5)))
    # Not the fake clock: work is what takes time here.
    api.on_event = _work
    turns: list[int] = []

    async def other() -> None:
        while True:
            turns.append(len(api.events))
            await asyncio.sleep(0)

    watching = asyncio.create_task(other())
    task = asyncio.create_task(api.reflector.run())
    await api.reflector.synced.wait()
    for number in range(5):
        api.heard.put_nowait(event("MODIFIED", f"a{number}", f"{number + 11}"))
    await api.idle()
    assert set(range(11)) <= set(turns)
    await ended(task)
    await ended(watching)


def _work() -> None:
    begun = time.monotonic()
    while time.monotonic() - begun < SLICE_SECONDS:
        pass


async def test_a_reflector_can_be_cancelled_at_the_moment_in_which_it_is_doubted() -> None:
    api = Silent()
    task = await api.begun()
    api.reflector.doubt()
    await ended(task)


async def test_doubt_before_anything_was_heard_is_harmless() -> None:
    api = Silent()
    api.reflector.doubt()
    task = asyncio.create_task(api.reflector.run())
    api.reflector.doubt()
    await api.reflector.synced.wait()
    assert api.events == ["ADDED a"]
    await ended(task)


async def ended(task: "asyncio.Task[None]") -> None:
    """Cancels a task, and waits for its end."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Silent:
    """Lists `items`, and its watches say what is put into `heard`."""

    def __init__(self, *items: Object) -> None:
        self.items = items or (item("a"),)
        self.heard: asyncio.Queue[Object] = asyncio.Queue()
        self.events: list[str] = []
        self.lists = 0
        self.positions: list[str] = []
        """Of each watch."""
        self.gone = False
        """Whether the position of the next watch is lost."""
        self.on_event: Callable[[], object] = lambda: None
        self.time = 0.0
        self.reflector = Reflector(
            self, SCOPE_MAPS, on_event=self._note, elapsed=lambda: self.time, pause=lambda _: asyncio.sleep(0)
        )

    async def begun(self) -> "asyncio.Task[None]":
        """Starts the reflector and waits until it is synced."""
        task: asyncio.Task[None] = asyncio.create_task(self.reflector.run())
        await self.reflector.synced.wait()
        return task

    def stand_still(self) -> None:
        """Time passes in which nothing happens here."""
        self.time += STALL_SECONDS + 1
        self.reflector.doubt()

    @staticmethod
    async def idle() -> None:
        """Lets everything happen that can."""
        for _ in range(30):
            await asyncio.sleep(0)

    def _note(self, type_: str, obj: Object) -> None:
        self.events.append(f"{type_} {obj['metadata']['name']}")
        self.on_event()

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[Page]:
        self.lists += 1
        for one in self.items[:-1]:
            yield page(one, more="more")
            await asyncio.sleep(0)
        yield page(self.items[-1])

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        resource_version: str,
        *,
        opened: Callable[[], None] = lambda: None,
        **_: Any,
    ) -> AsyncIterator[Object]:
        self.positions.append(resource_version)
        if self.gone:
            self.gone = False
            raise Gone("too old", 410)
        self.heard = heard = asyncio.Queue[Object]()
        opened()
        while True:
            yield await heard.get()
