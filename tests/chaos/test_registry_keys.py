"""The keys of one registry fail: its tokens wait and say so, and those of other registries go on."""

import base64
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from pullpass.api import names
from tests.chaos.api import SCOPE_MAPS, ApiError, secrets_of, tokens_of
from tests.chaos.customers import granted
from tests.chaos.places import TEAM
from tests.chaos.programs import CREDENTIALS, SECOND, SYSTEM
from tests.chaos.promises import kept
from tests.chaos.replicas import TokenServer
from tests.chaos.stage import Stage
from tests.chaos.test_places import new_passwords
from tests.chaos.tokens import LONG, Login, scope_map, token
from tests.chaos.waiting import eventually

pytestmark = [pytest.mark.controlplane, pytest.mark.asyncio(loop_scope="package")]

NAME, SETTLED, NEW = "of-second", "settled-of-second", "new-of-second"
WITHOUT_KEY = {
    NAME: "SigningKeyUnavailable",
    SETTLED: "SigningKeyUnavailable",
    NEW: "WaitingForTokenServer",
}
"""What Ready says of them while no token server has a leaf of their registry: the new one has no password."""
TOKEN = f"{tokens_of(TEAM)}/{NAME}"
CA = f"{secrets_of(SYSTEM)}/{SECOND.ca_secret}"
LEAF = f"{secrets_of(CREDENTIALS)}/{SECOND.signing_secret}"


async def held(stage: Stage) -> Login | None:
    """What stands in the token's pull secret."""
    try:
        return Login.read(await stage.api.get(f"{secrets_of(TEAM)}/{NAME}-pull"), SECOND.hosts[0])
    except ApiError:
        return None


async def answers(stage: Stage, login: Login) -> set[str]:
    """What the token servers answer to this login at the second registry; "" is access."""
    return {await _answer(stage, server, login) for server in stage.servers}


async def _answer(stage: Stage, server: TokenServer, login: Login) -> str:
    try:
        return await granted(stage.endpoints.session, server.url, login, "second/app", service=SECOND.service)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return "away"


async def told(stage: Stage, name: str, type_: str, reason: str) -> Mapping[str, Any]:
    """Waits until a condition of the token has this reason, and returns it."""

    async def says() -> Mapping[str, Any]:
        condition = await stage.tokens.condition(name, type_)
        return condition if condition.get("reason") == reason else {}

    return await eventually(says, f"{type_} of {name} is {reason}")


async def access(stage: Stage) -> Login:
    """Waits until what stands in the pull secret opens the second registry at every token server."""

    async def opens() -> Login | None:
        login = await held(stage)
        return login if login is not None and await answers(stage, login) == {""} else None

    return await eventually(opens, "the second registry is open")


async def test_keys_that_are_lost_harm_their_registry_only(stage: Stage) -> None:
    api = stage.api
    await api.create(SCOPE_MAPS, scope_map("second", "second/*", SECOND.name))
    for name in (NAME, SETTLED):
        await api.create(tokens_of(TEAM), token(name, "second", LONG))
    before = await access(stage)
    await told(stage, SETTLED, "Ready", "Ready")
    certificate = (await api.get(CA))["data"]["tls.crt"]
    async with kept(stage) as customers:
        await stage.storm()
        await api.merge(CA, {"data": {"tls.crt": base64.b64encode(b"no certificate").decode()}})
        await api.delete(LEAF)
        # Those that run have the leaf still, and go on with it.
        assert await answers(stage, before) == {""}
        for server in stage.servers:
            server.kill()

        async def closed() -> bool:
            return await answers(stage, before) == {"HTTP 503"}

        await eventually(closed, "the second registry is closed")
        await stage.all_ready()
        assert await closed(), "a token server that is ready for one registry has a leaf of the other"
        await api.merge(TOKEN, {"metadata": {"annotations": {names.ROTATE_ANNOTATION: "now"}}})
        await api.create(tokens_of(TEAM), token(NEW, "second", LONG))
        # Also the settled token, for which nothing is to be done, says that its logins fail.
        for name, reason in WITHOUT_KEY.items():
            condition = await told(stage, name, "Ready", reason)
            assert f"registry {SECOND.name}" in condition["message"]

        # Who leads next finds the keys broken from the start.
        leader = await stage.leader()
        leader.let_end()
        leader.kill()
        await stage.other_leader(leader)
        leader.keep()
        await new_passwords(customers, stage.tokens.places, 2)
        assert await held(stage) == before
        for name, reason in WITHOUT_KEY.items():
            await told(stage, name, "Ready", reason)

        await api.merge(CA, {"data": {"tls.crt": certificate}})
        for name in WITHOUT_KEY:
            await told(stage, name, "Ready", "Ready")

        async def rotated() -> bool:
            return (await access(stage)).id != before.id

        await eventually(rotated, "the rotation that was asked for is made")
    for name in WITHOUT_KEY:
        await api.delete(f"{tokens_of(TEAM)}/{name}")
