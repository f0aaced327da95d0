"""Following a kind of object through lost connections, lost positions and nonsense."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pullpass.kube.client import Gone, KubeError, Refused, Unavailable
from pullpass.kube.reflector import LONGEST_PAUSE, RELIST_AFTER, Object, Reflector
from pullpass.kube.resources import SCOPE_MAPS, Resource

Step = Any
"""A page or a list of events to answer with, or an error to raise."""


def item(name: str, uid: str | None = None, namespace: str | None = None) -> Object:
    metadata = {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": "7"}
    return {"metadata": metadata | ({"namespace": namespace} if namespace else {}), "spec": {}}


def page(*items: Object, version: str = "10", more: str = "") -> Object:
    return {"metadata": {"resourceVersion": version, "continue": more}, "items": list(items)}


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
        self.time = 0.0
        self.reflector = Reflector(
            self,
            SCOPE_MAPS,
            label_selector="x=y",
            on_event=self.note,
            pause=self.pause,
            monotonic=lambda: self.time,
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

    async def list_page(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        continue_: str | None = None,
    ) -> Object:
        assert (resource, namespace, label_selector) == (SCOPE_MAPS, None, "x=y")
        self.asked.append(f"list {continue_ or ''}".strip())
        answer: Object = self.next()
        return answer

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        resource_version: str,
        *,
        label_selector: str | None = None,
        opened: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[Object]:
        assert (resource, namespace, label_selector) == (SCOPE_MAPS, None, "x=y")
        self.asked.append(f"watch {resource_version}")
        answers = self.next()
        opened()
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            yield answer

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
    assert api.events[2:] == [("ADDED", "b", "uid-b"), ("DELETED", "a", "uid-a")]
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
    api = await Api({"kind": "Status"}, page(item("a")), [{"type": "ADDED"}], page(item("a")), [bookmark("11")]).play()
    assert api.asked == ["list", "list", "watch 10", "list", "watch 10", "watch 11"]


async def test_pauses_grow_to_a_limit_and_shrink_after_success() -> None:
    down = [Unavailable("down", 503)] * 12
    api = await Api(*down, page(), [bookmark("11")], Unavailable("down", 503)).play()
    assert api.pauses[0] <= 0.25
    assert LONGEST_PAUSE / 2 <= api.pauses[11] <= LONGEST_PAUSE
    assert api.pauses[-1] <= 0.25


async def test_waits_as_long_as_the_server_asks_but_not_for_ever() -> None:
    api = await Api(Unavailable("busy", 429, retry_after=3), Unavailable("busy", 429, retry_after=3600), page()).play()
    assert api.pauses == [3, LONGEST_PAUSE]


async def test_after_many_failed_watches_the_position_itself_is_doubted() -> None:
    api = await Api(page(), *[Unavailable("too large resource version", 504)] * RELIST_AFTER, page(version="3")).play()
    assert api.asked == ["list", *["watch 10"] * RELIST_AFTER, "list", "watch 3"]


async def test_last_contact_is_when_something_was_heard() -> None:
    api = Api(page(), [bookmark("11")], Unavailable("down"), Unavailable("down"))
    assert api.reflector.last_contact == float("-inf")
    await api.play()
    assert (api.reflector.last_contact, api.time) == (2, 4)


async def test_a_doubted_reflector_lists_anew_and_is_not_synced_before_it_is_done() -> None:
    api = Silent()
    task = asyncio.create_task(api.reflector.run())
    await api.reflector.synced.wait()
    api.items = [item("b")]
    api.heard.put_nowait(event("MODIFIED", "a", "11"))
    api.reflector.doubt()
    assert not api.reflector.synced.is_set()
    await api.reflector.synced.wait()
    assert api.events == ["ADDED a", "ADDED b", "DELETED a"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_reflector_can_be_cancelled_at_the_moment_in_which_it_is_doubted() -> None:
    api = Silent()
    task = asyncio.create_task(api.reflector.run())
    await api.reflector.synced.wait()
    api.reflector.doubt()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_doubt_before_anything_was_heard_is_harmless() -> None:
    api = Silent()
    api.reflector.doubt()
    task = asyncio.create_task(api.reflector.run())
    api.reflector.doubt()
    await api.reflector.synced.wait()
    assert api.events == ["ADDED a"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Silent:
    """Lists `items`, and its watches say what is put into `heard`."""

    def __init__(self) -> None:
        self.items = [item("a")]
        self.heard: asyncio.Queue[Object] = asyncio.Queue()
        self.events: list[str] = []
        self.reflector = Reflector(self, SCOPE_MAPS, on_event=self._note)

    def _note(self, type_: str, obj: Object) -> None:
        self.events.append(f"{type_} {obj['metadata']['name']}")

    async def list_page(self, *_: Any, **__: Any) -> Object:
        return page(*self.items)

    async def watch(self, *_: Any, opened: Callable[[], None] = lambda: None, **__: Any) -> AsyncIterator[Object]:
        self.heard = heard = asyncio.Queue[Object]()
        opened()
        while True:
            yield await heard.get()
