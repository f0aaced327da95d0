"""The same request in the same second gets the same answer, and nothing else does."""

import json
from datetime import timedelta

import pytest

from tests.contract.protocol.client import PULL, READ, USER, WRONG, Client, basic, refused


async def test_the_same_request_in_the_same_second_gets_the_same_token_and_one_audit_line(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "pullpass.audit"):
        answers = [await client.get("scope=repository:demo/nginx:pull") for _ in range(3)]
    assert len({answer.body for answer in answers}) == 1
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "pullpass.audit"]
    assert sum("repeated" not in line for line in lines) == 1


async def test_the_next_second_has_a_token_of_its_own(client: Client) -> None:
    first = await client.get()
    client.world.now += timedelta(seconds=1)
    second = await client.get()
    assert second.claims["exp"] == first.claims["exp"] + 1
    assert second.claims["jti"] != first.claims["jti"]


async def test_nothing_is_repeated_past_a_change_within_the_second(client: Client) -> None:
    assert (await client.get()).status == 200
    client.world.token(enabled=False)
    refused(await client.get(), 401, "UNAUTHORIZED")
    client.world.token()
    assert (await client.get()).status == 200
    client.world.token(passwords={"revoked": ["aaaaaa"]})
    refused(await client.get(), 401, "UNAUTHORIZED")
    client.world.token()
    assert (await client.get()).status == 200
    client.world.namespace(labels={})
    client.world.scope_map(allowed={"from": "Selector", "selector": {"matchLabels": {"team": "web"}}})
    refused(await client.get(), 401, "UNAUTHORIZED")


async def test_nothing_is_repeated_to_another_request(client: Client) -> None:
    assert (await client.get("scope=repository:demo/nginx:pull")).access == PULL
    assert (await client.get("scope=repository:demo/nginx:*")).access == READ
    refused(await client.get("scope=repository:demo/nginx:pull", basic(USER, WRONG)), 401, "UNAUTHORIZED")
    refused(await client.send("GET", "/token?scope=repository:demo/nginx:pull"), 401, "UNAUTHORIZED")
    assert "scope" in (await client.post(scope="repository:demo/nginx:pull")).json
