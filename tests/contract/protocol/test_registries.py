"""Several registries behind one token server: a token is for one of them, and says so by service, issuer and key."""

import json
import logging
from typing import Any

import jwt
import pytest

from tests.contract.protocol.client import PULL, USER, WRONG, Answer, Client, basic, refused
from tests.registries import DEFAULT, OTHER
from tests.unit.tokenserver.world import LEAF, OTHER_LEAF, OTHER_SIGNING_SECRET

SCOPE = "scope=repository:demo/nginx:pull"


def elsewhere(client: Client) -> None:
    """The user's scope map is for the other registry, whose leaf is there."""
    client.world.cache.on_secret("ADDED", OTHER_SIGNING_SECRET)
    client.world.scope_map(registry="other")


def claims(answer: Answer, leaf: Any = OTHER_LEAF) -> dict[str, Any]:
    """Read with the key of a leaf alone, as a registry that looks neither at audience nor at issuer."""
    assert answer.status == 200
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
    read: dict[str, Any] = jwt.decode(
        answer.json["access_token"], leaf.certificate.public_key(), algorithms=["ES256"], options=options
    )
    return read


async def test_the_service_chooses_key_issuer_audience_and_life(client: Client) -> None:
    elsewhere(client)
    for answer in (
        await client.get(f"service=other-registry&{SCOPE}"),
        await client.post(service="other-registry", scope="repository:demo/nginx:pull"),
    ):
        read = claims(answer)
        assert (read["iss"], read["aud"], read["sub"], read["access"]) == ("other-issuer", "other-registry", USER, PULL)
        assert answer.json["expires_in"] == read["exp"] - int(client.world.now.timestamp()) == 120


async def test_an_access_token_for_one_is_worthless_at_another_that_checks_nothing_but_the_signature(
    client: Client,
) -> None:
    own = await client.get(f"service=registry&{SCOPE}")
    elsewhere(client)
    others = await client.get(f"service=other-registry&{SCOPE}")
    claims(own, LEAF)
    claims(others, OTHER_LEAF)
    for answer, leaf in ((own, OTHER_LEAF), (others, LEAF)):
        with pytest.raises(jwt.InvalidSignatureError):
            claims(answer, leaf)


@pytest.mark.parametrize("query", [SCOPE, f"service=&{SCOPE}", f"service=registry&{SCOPE}"])
async def test_a_client_that_names_no_service_means_the_default_registry(client: Client, query: str) -> None:
    assert (await client.get(query)).claims["aud"] == "registry"
    elsewhere(client)
    refused(await client.get(query), 401, "UNAUTHORIZED")


async def test_a_login_to_the_service_of_another_registry_is_refused_like_any(client: Client) -> None:
    client.world.cache.on_secret("ADDED", OTHER_SIGNING_SECRET)
    foreign = await client.get(f"service=other-registry&{SCOPE}")
    refused(foreign, 401, "UNAUTHORIZED")
    wrong = await client.get(f"service=other-registry&{SCOPE}", basic(USER, WRONG))
    assert (foreign.body, dict(foreign.headers).keys()) == (wrong.body, dict(wrong.headers).keys())
    form = {"service": "other-registry", "scope": "repository:demo/nginx:pull"}
    refused(await client.post(**form), 401, "UNAUTHORIZED")
    assert (await client.post(**form | {"service": "registry"})).status == 200


async def test_it_is_no_failure_that_limits_count(client: Client) -> None:
    client.world.cache.on_secret("ADDED", OTHER_SIGNING_SECRET)
    for _ in range(200):
        assert (await client.get(f"service=other-registry&{SCOPE}")).status == 401
    assert client.server.checks.count == 1
    assert (await client.get(SCOPE)).status == 200


@pytest.mark.parametrize("service", ["other", "default", "OTHER-REGISTRY", "other-registry "])
async def test_a_service_of_none_is_a_400_that_tells_nobody_which_there_are(client: Client, service: str) -> None:
    answer = await client.post(service=service)
    refused(answer, 400, "UNSUPPORTED")
    message: str = answer.json["errors"][0]["message"]
    assert f"for the service {service!r};" in message
    assert "'registry'" not in message
    assert "'other-registry'" not in message


async def test_two_services_in_one_request_are_a_400(client: Client) -> None:
    elsewhere(client)
    refused(await client.get("service=registry&service=other-registry"), 400, "UNSUPPORTED")
    assert (await client.get("service=other-registry&service=other-registry&service=")).status == 200


async def test_an_access_token_is_not_given_again_for_another_service(client: Client) -> None:
    client.world.cache.on_secret("ADDED", OTHER_SIGNING_SECRET)
    own = await client.get(f"service=registry&{SCOPE}")
    assert (await client.get(f"service=registry&{SCOPE}")).json["token"] == own.json["token"]
    refused(await client.get(f"service=other-registry&{SCOPE}"), 401, "UNAUTHORIZED")
    client.world.scope_map(registry="other")
    others = await client.get(f"service=other-registry&{SCOPE}")
    assert claims(others)["aud"] == "other-registry"
    refused(await client.get(f"service=registry&{SCOPE}"), 401, "UNAUTHORIZED")


async def test_a_registry_without_a_leaf_does_not_stop_the_others(client: Client) -> None:
    assert (await client.manage("/readyz")).status == 200
    answer = await client.get(f"service=other-registry&{SCOPE}")
    refused(answer, 503, "UNAVAILABLE")
    assert "no signing leaf of registry other yet" in answer.json["errors"][0]["message"]
    assert (await client.get(SCOPE)).status == 200
    client.world.cache.signers.clear()
    client.world.cache.on_secret("ADDED", OTHER_SIGNING_SECRET)
    assert (await client.manage("/readyz")).status == 200
    refused(await client.get(SCOPE), 503, "UNAVAILABLE")


async def test_a_leaf_is_not_taken_back(client: Client) -> None:
    elsewhere(client)
    client.world.cache.on_secret("DELETED", OTHER_SIGNING_SECRET)
    assert claims(await client.get(f"service=other-registry&{SCOPE}"))["aud"] == "other-registry"


async def test_metrics_and_audit_lines_say_which(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pullpass.audit")
    elsewhere(client)
    await client.get(f"service=other-registry&{SCOPE}")
    await client.get(f"service=other-registry&{SCOPE}")
    await client.get(f"service=registry&{SCOPE}")
    await client.get("service=other-registry&scope=nonsense")
    await client.get(f"service=third&{SCOPE}")
    shown = (await client.manage("/metrics")).body.decode()
    for line in (
        'requests_total{method="GET",outcome="granted",registry="other"} 2.0',
        'requests_total{method="GET",outcome="granted",registry="default"} 0.0',
        'requests_total{method="GET",outcome="unauthorized",registry="default"} 1.0',
        'requests_total{method="GET",outcome="invalid",registry="other"} 1.0',
        'requests_total{method="GET",outcome="invalid",registry="-"} 1.0',
        'signing_certificate_not_after_seconds{registry="other"} ',
        'signing_certificate_not_after_seconds{registry="default"} ',
    ):
        assert f"pullpass_token_server_{line}" in shown
    assert "third" not in shown
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    assert [(line["decision"], line["registry"], line["service"]) for line in lines] == [
        ("granted", "other", OTHER.service),
        ("refused", "default", DEFAULT.service),
        ("refused", "other", OTHER.service),
        ("refused", None, None),
    ]
    assert lines[1]["reason"] == "scope map is for another registry"
