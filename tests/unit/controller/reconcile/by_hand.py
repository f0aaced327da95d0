"""What people do to a token by hand, and what they look at then."""

from typing import Any

from pullpass.api import names
from pullpass.credentials import password as passwords
from pullpass.kube.resources import EVENTS, REGISTRY_TOKENS
from tests.unit.controller.fake_api import Body
from tests.unit.controller.reconcile.scene import EVERYWHERE
from tests.unit.controller.world import World


def ask(world: World, *, rotate: str | None = None, regenerate: str | None = None) -> None:
    """Somebody annotates the token; None takes the annotation away."""
    asked = {names.ROTATE_ANNOTATION: rotate, names.REGENERATE_ANNOTATION: regenerate}
    given = {key: value for key, value in asked.items() if value is not None}
    world.api.edit(REGISTRY_TOKENS, "web", "reader", lambda body: body["metadata"].update(annotations=given))


def revoke(world: World, *texts: str) -> None:
    """Somebody names these passwords in spec.passwords.revoked, besides those that are there."""
    world.dead |= set(texts)
    ids = [id_of(text) for text in texts]

    def change(body: Body) -> None:
        policy = body["spec"].get("passwords") or {}
        body["spec"]["passwords"] = policy | {"revoked": [*policy.get("revoked", []), *ids]}

    world.api.edit(REGISTRY_TOKENS, "web", "reader", change)


def id_of(text: str) -> str:
    parsed = passwords.parse(text)
    assert parsed is not None
    return parsed.id


def standing(world: World) -> str:
    """The one password that stands in all pull secrets."""
    (text,) = set(world.passwords().values())
    return text


def notes(world: World, reason: str) -> list[str]:
    return [body["note"] for body in world.api.of(EVENTS) if body["reason"] == reason]


async def settled(world: World, **spec: Any) -> tuple[str, str]:
    """A token that has settled: its UID, and the password in its pull secrets."""
    uid = world.token(**(spec or EVERYWHERE))
    await world.work()
    assert world.condition() == ("True", "Ready")
    return uid, standing(world)


async def assert_settled(world: World) -> None:
    """Nothing more is asked or written, also not by a new process."""
    for restart in (False, True):
        if restart:
            world.restart()
        calls = world.api.calls
        await world.work()
        assert world.api.calls == calls
