"""Tokens at work, from the first password to the deletion, with no more rights than the chart grants."""

import pytest

from pullpass.api import names
from tests.chaos.api import NAMESPACES, SCOPE_MAPS, ApiError, secrets_of, tokens_of
from tests.chaos.customers import granted
from tests.chaos.places import TEAM
from tests.chaos.promises import kept
from tests.chaos.stage import Stage
from tests.chaos.tokens import LONG, Login, scope_map, token
from tests.chaos.waiting import eventually, until

pytestmark = [pytest.mark.controlplane, pytest.mark.asyncio(loop_scope="package")]

TOKEN = f"{tokens_of(TEAM)}/life"
SECRET = f"{secrets_of(TEAM)}/life-pull"
ACCOUNT = f"{NAMESPACES}/{TEAM}/serviceaccounts/default"


async def login_other_than(stage: Stage, *before: Login) -> Login:
    """Waits until the pull secret is there and holds none of these passwords."""

    async def other() -> Login | None:
        try:
            login = await stage.tokens.read("life")
        except ApiError:
            return None
        return None if login in before else login

    return await eventually(other, "the pull secret holds a new password")


async def answered(stage: Stage, login: Login, answer: str) -> None:
    """Waits until every token server gives this answer to a request to pull; "" is access."""

    async def everywhere() -> bool:
        session = stage.endpoints.session
        return {await granted(session, server.url, login, "life/app") for server in stage.servers} == {answer}

    await eventually(everywhere, f"{login.id} gets {answer or 'access'} everywhere")


async def has_reason(stage: Stage, expected: str) -> None:
    async def has() -> bool:
        return (await stage.tokens.condition("life")).get("reason") == expected

    await eventually(has, f"the status says {expected}")


async def entries(stage: Stage) -> list[str]:
    """The pull secrets that the team's pods get by their ServiceAccount."""
    return [entry["name"] for entry in (await stage.api.get(ACCOUNT)).get("imagePullSecrets", [])]


def denied(stage: Stage) -> list[str]:
    """What our processes have asked for and had no right to."""
    return [str(request) for replica in stage.replicas for request in replica.proxy.requests if request.stored == 403]


async def test_the_life_of_a_token(stage: Stage) -> None:
    api = stage.api
    await api.create(SCOPE_MAPS, scope_map("life", "life/*"))
    await api.create(tokens_of(TEAM), token("life", "life", LONG, {"serviceAccounts": ["default"]}))
    first = await login_other_than(stage)
    await answered(stage, first, "")
    await has_reason(stage, "Ready")
    assert "life-pull" in await entries(stage)

    await api.merge(TOKEN, {"metadata": {"annotations": {names.ROTATE_ANNOTATION: "now"}}})
    second = await login_other_than(stage, first)
    await answered(stage, second, "")
    await answered(stage, first, "")  # in its overlap

    await api.merge(TOKEN, {"spec": {"passwords": {"revoked": [first.id, second.id]}}})
    third = await login_other_than(stage, first, second)
    await answered(stage, third, "")
    await answered(stage, second, "HTTP 401")
    await answered(stage, first, "HTTP 401")

    await api.merge(TOKEN, {"spec": {"enabled": False}})
    await answered(stage, third, "HTTP 401")
    await has_reason(stage, "TokenDisabled")
    await api.merge(TOKEN, {"spec": {"enabled": True}})
    await answered(stage, third, "")

    await api.delete(TOKEN)
    await answered(stage, third, "HTTP 401")

    async def gone() -> bool:
        for path in (TOKEN, SECRET):
            try:
                await api.get(path)
            except ApiError as error:
                if error.status == 404:
                    continue
            return False
        return "life-pull" not in await entries(stage)

    await eventually(gone, "nothing of the token is left")
    assert denied(stage) == []


async def test_rotations_that_no_customer_notices(stage: Stage) -> None:
    async with kept(stage):
        before = stage.ledger.rotations
        await stage.tokens.storm()
        wanted = before + 2 * len(stage.tokens.names)
        await until(lambda: stage.ledger.rotations >= wanted, "each token has rotated twice")
    assert denied(stage) == []
