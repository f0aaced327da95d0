"""What people want of the operator, read from the objects that they wrote: a plain second account of the rules."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pullpass.api import names
from pullpass.api.times import parse_duration, parse_time
from pullpass.credentials.record import Requests, Slot
from tests.unit.controller.fake_api import Body, Place

if TYPE_CHECKING:
    from tests.unit.controller.faults.scene import Scene


def secret_name(token: Body) -> str:
    """The name of a token's pull secrets."""
    return str((token["spec"].get("pullSecret") or {}).get("name") or token["metadata"]["name"] + "-pull")


def allowed(scene: "Scene", token: Body) -> bool:
    """Whether its scope map is there and lets its namespace use it."""
    scope_map = scene.api.objects.get(("scopemaps", "", token["spec"]["scopeMapRef"]["name"]))
    namespace = scene.api.objects.get(("namespaces", "", token["metadata"]["namespace"]))
    if scope_map is None or namespace is None:
        return False
    who = scope_map["spec"]["allowedNamespaces"]
    match who["from"]:
        case "All":
            return True
        case "Names":
            return token["metadata"]["namespace"] in who["names"]
    labels = namespace["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in who["selector"]["matchLabels"].items())


def expired(token: Body, now: datetime) -> bool:
    """Whether the token's own end has passed."""
    end = token["spec"].get("expiresAt")
    return end is not None and parse_time(end) <= now


def alive(scene: "Scene", token: Body, now: datetime) -> bool:
    """Whether the token opens anything now."""
    return (
        token["spec"].get("enabled", True)
        and "deletionTimestamp" not in token["metadata"]
        and not expired(token, now)
        and allowed(scene, token)
    )


def targets(token: Body) -> list[str]:
    """The namespaces in which it wants a pull secret."""
    further = (token["spec"].get("pullSecret") or {}).get("namespaces") or []
    return list(dict.fromkeys([token["metadata"]["namespace"], *further]))


def usable(namespace: Body | None, token: Body) -> bool:
    """Whether a namespace takes pull secrets of this token."""
    if namespace is None or "deletionTimestamp" in namespace["metadata"]:
        return False
    return namespace["metadata"]["name"] == token["metadata"]["namespace"] or consents(namespace, token)


def consents(namespace: Body, token: Body) -> bool:
    """Whether a namespace has said that it accepts pull secrets from that of the token."""
    accepts = (namespace["metadata"].get("annotations") or {}).get(names.ACCEPT_ANNOTATION, "")
    return token["metadata"]["namespace"] in [part.strip() for part in accepts.split(",")]


def wanted(scene: "Scene", token: Body, place: Place) -> bool:
    """Whether the token wants its pull secret there, and may have it."""
    _, namespace, name = place
    there = scene.api.objects.get(("namespaces", "", namespace))
    return name == secret_name(token) and namespace in targets(token) and usable(there, token)


def names_account(token: Body, account: str) -> bool:
    """Whether the token wants to be in a ServiceAccount of that name."""
    named = (token["spec"].get("pullSecret") or {}).get("serviceAccounts") or []
    return account in named or "*" in named


def versions(scene: "Scene", token: Body) -> list[Body]:
    """All versions of this very token since all was settled."""
    metadata = token["metadata"]
    found = scene.since("registrytokens", metadata["namespace"], metadata["name"])
    return [body for body in found if body is not None and body["metadata"]["uid"] == metadata["uid"]]


def specs(scene: "Scene", token: Body) -> list[dict[str, Any]]:
    """All its specs since then."""
    return [body["spec"] for body in versions(scene, token)]


def always_wanted(scene: "Scene", token: Body, place: Place) -> bool:
    """Whether at no moment since then there was a reason for its pull secret not to be there."""
    _, namespace, name = place
    if name != secret_name(token):
        return False
    for body in versions(scene, token):
        removes = (body["spec"].get("pullSecret") or {}).get("whenRevoked") == "Remove"
        if removes or "deletionTimestamp" in body["metadata"] or namespace not in targets(body):
            return False
    return all(usable(body, token) for body in scene.since("namespaces", "", namespace))


def always_named(scene: "Scene", token: Body, account: Place) -> bool:
    """Whether at no moment since then there was a reason for it not to be in that ServiceAccount."""
    _, namespace, name = account
    return always_wanted(scene, token, ("secrets", namespace, secret_name(token))) and all(
        names_account(body, name) for body in versions(scene, token)
    )


def rotates(spec: dict[str, Any]) -> bool:
    """Whether a password is replaced before it ends."""
    return str((spec.get("passwords") or {}).get("onExpiry", "Rotate")) == "Rotate"


def lifetime(spec: dict[str, Any]) -> timedelta | None:
    """How long a password lives."""
    text = (spec.get("passwords") or {}).get("lifetime")
    return None if text is None else parse_duration(text)


def rotation_due(spec: dict[str, Any], slot: Slot) -> datetime | None:
    """When a password is to be replaced, if at all."""
    life = lifetime(spec)
    if life is None or not rotates(spec):
        return None
    before = spec["passwords"].get("renewBefore")
    return slot.created_at + life - (parse_duration(before) if before is not None else life / 3)


def overlap(spec: dict[str, Any]) -> timedelta:
    """How long a replaced password stays valid."""
    return parse_duration((spec.get("passwords") or {}).get("overlap", "1h"))


def revoked(spec: dict[str, Any]) -> list[str]:
    """Ids of passwords that are to be refused."""
    found: list[str] = (spec.get("passwords") or {}).get("revoked") or []
    return found


def requests(token: Body) -> Requests:
    """What is asked for by hand."""
    annotations = token["metadata"].get("annotations") or {}
    return Requests(annotations.get(names.ROTATE_ANNOTATION, ""), annotations.get(names.REGENERATE_ANNOTATION, ""))


def asked(scene: "Scene", token: Body, slot: Slot) -> Requests:
    """What was asked for by hand since all was settled and before this password was made."""
    found = Requests()
    for body in versions(scene, token):
        found = requests(body).beyond(slot.requests).or_else(found)
    return found


def access_ended(spec: dict[str, Any], slot: Slot, now: datetime) -> bool:
    """Whether access has ended with the password."""
    life = lifetime(spec)
    return not rotates(spec) and life is not None and slot.created_at + life <= now
