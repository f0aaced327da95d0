"""Events are posted in the background: whoever sends one waits for nothing, and loses nothing but the event."""

import asyncio
import logging
from typing import Any

import pytest
from aiohttp import web

from pullpass.kube import events
from pullpass.kube.client import Kube, Refused, Unavailable
from pullpass.kube.events import LOG_SECONDS, MAX_POSTS, NOTE_LIMIT, POST_SECONDS, EventSender
from pullpass.kube.resources import EVENTS, Resource
from tests.unit.kube.served import Api


class Posts(Kube):
    """What is posted. In some namespaces posts hang or fail."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.open: list[str] = []
        self.time_limits: set[float] = set()
        self.hanging: set[str] = set()
        self.failing: dict[str, Exception] = {}

    async def create(
        self, resource: Resource, namespace: str | None, body: dict[str, Any], *, time_limit: float = 30
    ) -> dict[str, Any]:
        assert resource is EVENTS
        assert namespace is not None
        self.time_limits.add(time_limit)
        self.open.append(namespace)
        try:
            if namespace in self.hanging:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            if namespace in self.failing:
                raise self.failing[namespace]
        finally:
            self.open.remove(namespace)
        self.posted.append(body)
        return body

    def reasons(self, namespace: str = "web") -> list[str]:
        return [body["reason"] for body in self.posted if body["metadata"]["namespace"] == namespace]


class Sending:
    """A sender, its clock, and what it has lost."""

    def __init__(self, kube: Kube) -> None:
        self.seconds = 0.0
        self.lost = 0
        self.sender = EventSender(kube, "pod-1", self.lose, monotonic=lambda: self.seconds)

    def lose(self) -> None:
        self.lost += 1

    def send(self, reason: str = "Ready", namespace: str = "web", note: str = "pods can pull") -> None:
        regarding = {"kind": "RegistryToken", "namespace": namespace, "name": "reader", "uid": "uid-1"}
        self.sender.send(regarding=regarding, type_="Normal", reason=reason, action="Reconcile", note=note)


@pytest.fixture
def posts() -> Posts:
    return Posts()


@pytest.fixture
def sending(posts: Posts) -> Sending:
    return Sending(posts)


async def turns(number: int = 200) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_an_event_is_posted_soon_and_with_a_short_time_limit(posts: Posts, sending: Sending) -> None:
    running = asyncio.create_task(sending.sender.run())
    sending.send("PasswordPublished", note="x" * 2000)
    assert posts.posted == [], "nobody waits for it"
    await turns()
    (event,) = posts.posted
    assert (event["type"], event["reason"], event["reportingInstance"]) == ("Normal", "PasswordPublished", "pod-1")
    assert event["regarding"]["uid"] == "uid-1"
    assert len(event["note"]) == NOTE_LIMIT
    assert posts.time_limits == {POST_SECONDS}
    running.cancel()


async def test_those_of_a_namespace_keep_their_order(posts: Posts, sending: Sending) -> None:
    running = asyncio.create_task(sending.sender.run())
    for number in range(20):
        sending.send(str(number))
    await turns()
    assert posts.reasons() == [str(number) for number in range(20)]
    running.cancel()


async def test_where_posts_of_some_namespaces_hang_the_others_go_on(posts: Posts, sending: Sending) -> None:
    running = asyncio.create_task(sending.sender.run())
    posts.hanging = {f"bad-{number}" for number in range(MAX_POSTS - 1)}
    for namespace in posts.hanging:
        for _ in range(10):
            sending.send(namespace=namespace)
    for _ in range(10):
        sending.send()
    await turns()
    assert len(posts.reasons()) == 10
    assert sorted(posts.open) == sorted(posts.hanging), "one at a time in each"
    running.cancel()


async def test_namespaces_take_turns(posts: Posts, sending: Sending) -> None:
    for _ in range(10):
        sending.send(namespace="busy")
    sending.send(namespace="quiet")
    await sending.sender.drain()
    assert [body["metadata"]["namespace"] for body in posts.posted] == ["busy", "quiet", *["busy"] * 9]


async def test_posts_under_way_are_bounded(posts: Posts, sending: Sending) -> None:
    running = asyncio.create_task(sending.sender.run())
    posts.hanging = {f"bad-{number}" for number in range(3 * MAX_POSTS)}
    for namespace in posts.hanging:
        sending.send(namespace=namespace)
    await turns()
    assert len(posts.open) == MAX_POSTS
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert posts.open == [], "nothing is left of it at the end"


async def test_what_waits_is_bounded_and_the_fullest_namespace_loses_its_oldest(
    posts: Posts, sending: Sending, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "MAX_WAITING", 10)
    sending.send("quiet", "quiet")
    for number in range(20):
        sending.send(str(number))
    assert sending.lost == 11
    assert "events lost" in caplog.text
    await sending.sender.drain()
    assert posts.reasons("quiet") == ["quiet"]
    assert posts.reasons() == [str(number) for number in range(11, 20)]


@pytest.mark.parametrize("error", [Refused("forbidden", 403), Unavailable("no answer"), KeyError("metadata")])
async def test_an_event_that_cannot_be_posted_is_lost_and_the_next_one_is_not(
    posts: Posts, sending: Sending, error: Exception
) -> None:
    running = asyncio.create_task(sending.sender.run())
    posts.failing["web"] = error
    sending.send("first")
    await turns()
    assert sending.lost == 1
    posts.failing.clear()
    sending.send("second")
    await turns()
    assert posts.reasons() == ["second"]
    running.cancel()


async def test_losses_are_logged_once_in_a_while(
    posts: Posts, sending: Sending, caplog: pytest.LogCaptureFixture
) -> None:
    posts.failing["web"] = Refused("forbidden", 403)
    for _ in range(50):
        sending.send()
    await sending.sender.drain()
    sending.seconds += LOG_SECONDS
    sending.send("WriteRefused")
    await sending.sender.drain()
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 2
    assert lines[1] == "50 events lost, the last one is WriteRefused about web/reader: forbidden"


async def test_a_post_that_hangs_ends(kube: Kube, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(2)
        return web.json_response({})

    monkeypatch.setattr(events, "POST_SECONDS", 0.05)
    api.answers.append(hang)
    sending = Sending(kube)
    sending.send()
    async with asyncio.timeout(1.5):
        await sending.sender.drain()
    assert sending.lost == 1
