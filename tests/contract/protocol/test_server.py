"""When no token is issued at all, and what probes and Prometheus are told."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from pullpass.tokenserver.handler import TokenServer
from tests.contract.protocol.client import SETTINGS, USER, WRONG, Client, basic, refused
from tests.unit.tokenserver.world import SIGNING_SECRET, World, password


async def test_pages(client: Client) -> None:
    assert (await client.manage("/healthz")).status == 200
    assert (await client.manage("/readyz")).status == 200


@pytest.mark.parametrize(("age", "ready"), [(0, True), (599, True), (601, False), (float("inf"), False)])
async def test_a_cache_that_is_incomplete_or_too_old_answers_nothing(client: Client, age: float, ready: bool) -> None:
    client.age = age
    assert (await client.manage("/readyz")).status == (200 if ready else 503)
    assert (await client.manage("/healthz")).status == 200
    answer = await client.get()
    if ready:
        assert answer.status == 200
    else:
        refused(answer, 503, "UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) > 0


async def test_without_a_signing_leaf_it_is_not_ready(client: Client) -> None:
    client.world.cache.signers.clear()
    assert (await client.manage("/readyz")).status == 503
    refused(await client.get(), 503, "UNAVAILABLE")
    client.world.cache.on_secret("ADDED", SIGNING_SECRET)
    assert (await client.get()).status == 200


async def test_a_draining_server_is_unready_and_still_issues(client: Client) -> None:
    client.server.drain()
    assert (await client.manage("/readyz")).status == 503
    answer = await client.get()
    assert answer.status == 200
    assert answer.headers["Connection"] == "close"


async def test_a_flood_is_told_when_to_come_back(client: Client) -> None:
    guesses = [client.get("", basic(USER, password(id_=f"{n:06x}").text)) for n in range(400)]
    answers = await asyncio.gather(*guesses, client.get())
    assert answers[-1].status == 200
    assert {answer.status for answer in answers[:-1]} <= {401, 429, 503}
    told = [answer for answer in answers if answer.status not in (200, 401)]
    assert told
    for answer in told:
        refused(answer, answer.status, "UNAVAILABLE" if answer.status == 503 else "TOOMANYREQUESTS")
        assert int(answer.headers["Retry-After"]) > 0


async def test_metrics_count_what_was_decided(client: Client) -> None:
    await client.get("scope=repository:demo/nginx:pull")
    await client.get("scope=repository:demo/nginx:pull,push")
    await client.get("", basic(USER, WRONG))
    await client.post(scope="nonsense")
    client.age = 7.5
    answer = await client.manage("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    shown = answer.body.decode()
    for line in (
        'requests_total{method="GET",outcome="granted",registry="default"} 1.0',
        'requests_total{method="GET",outcome="reduced",registry="default"} 1.0',
        'requests_total{method="GET",outcome="unauthorized",registry="default"} 1.0',
        'requests_total{method="POST",outcome="invalid",registry="default"} 1.0',
        "bcrypt_checks_total 2.0",
        "cache_hits_total 1.0",
        "cache_age_seconds 7.5",
        'cache_objects{kind="RegistryToken"} 1.0',
        "request_seconds_count 4.0",
        "build_info{version=",
    ):
        assert f"pullpass_token_server_{line}" in shown


def test_the_clock_is_the_real_one_by_default() -> None:
    server = TokenServer(SETTINGS, World().cache, age=lambda: 0)
    assert abs(server._clock() - datetime.now(UTC)) < timedelta(minutes=1)
    server.checks.close()
