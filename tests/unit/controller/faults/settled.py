"""What must be so once faults have ended, everything was heard, and the queue has run dry."""

import base64
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pullpass.api import names
from pullpass.api.times import format_time
from pullpass.controller.process import signing_keys
from pullpass.controller.queue import Key
from pullpass.credentials.record import Record
from pullpass.kube.resources import NAMESPACES, REGISTRY_TOKENS, SECRETS, SERVICE_ACCOUNTS
from pullpass.signing.certificates import load_pair
from tests.unit.controller.fake_api import Body, Place
from tests.unit.controller.faults import wishes
from tests.unit.controller.faults.stored import SEED, entries, marks, slot_of, token_uid
from tests.unit.controller.world import SETTINGS, password_in

if TYPE_CHECKING:
    from tests.unit.controller.faults.operators import Operator
    from tests.unit.controller.faults.scene import Scene

SIGNING_KEYS = signing_keys(SETTINGS.registries)
STEPS = (0, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 300, 300, 300, 1, 6, 16, 16)
"""Seconds from one look to the next: the longest back-off passes, and the time from one resync to the next, and two
waits for a repair of what was tampered with again and again; in the end, what a rotation takes that is just due."""


def settle(scene: "Scene", *, policies: bool = False) -> None:
    """Ends all faults, lets everything come to rest, and checks that all is as it should be. What people have written
    stays; their policies stay if so wished.
    """
    scene.end_operators(but=1 if SEED in scene.api.objects else 0)  # the seed is read at the start only
    if not scene.operators:
        scene.start_operator()
    if not policies:
        scene.broken.clear()
    scene.broken.pop(("secrets", SETTINGS.credentials_namespace), None)
    listed = scene.operators[0].line.asked.count(("list", (NAMESPACES.plural, "", "")))
    for seconds in STEPS:
        scene.forward(seconds)
        scene.flow()
        scene.promises.look()
    (operator,) = scene.operators
    if scene.set_back:
        # What had ended before a clock was set back is not looked at again by itself.
        for key in operator.state.cache.every_key():
            operator.queue.add(key)
        scene.flow()
    assert operator.line.asked.count(("list", (NAMESPACES.plural, "", ""))) > listed, "the cache was not compared"
    scene.promises.forgive()
    scene.promises.look()
    check(scene, operator)
    again(scene, operator)
    scene.begin()


def again(scene: "Scene", operator: "Operator") -> None:
    """Promise 6: what has settled costs no write, for this process and for the next one."""
    scene.promises.writes.clear()
    for key in (*operator.state.cache.every_key(), *SIGNING_KEYS):
        operator.queue.add(key)
    scene.flow()
    assert not scene.promises.writes, f"a second pass wrote {scene.promises.writes}"
    scene.end_operators()
    scene.start_operator()
    scene.flow()
    assert not scene.promises.writes, f"a restart wrote {scene.promises.writes}"


def check(scene: "Scene", operator: "Operator") -> None:
    """Statuses, pull secrets, entries, rests, and the queue."""
    trouble = set() if scene.now >= _ca_begins(scene) else set(SIGNING_KEYS)
    for token in scene.api.of(REGISTRY_TOKENS):
        metadata = token["metadata"]
        going = not _tidied(scene, token, metadata["namespace"])
        if "deletionTimestamp" in metadata:
            (ready,) = (c for c in (token.get("status") or {})["conditions"] if c["type"] == "Ready")
            assert (ready["status"], ready["reason"]) == ("False", "Deleting"), "its passwords are refused"
        if going or _token(scene, operator, token) & {"SecretNotOwned", "WriteRefused", "WriteFailed"}:
            trouble.add(Key("token", metadata["namespace"], metadata["name"]))
            trouble |= {Key("place", namespace, metadata["uid"]) for namespace in wishes.targets(token)}
    _rests(scene)
    for place, body in scene.promises.foreign.items():
        assert scene.api.objects.get(place) == body, f"foreign {place} was changed"
    queue = operator.queue
    statuses = operator.state.statuses
    assert statuses is not None
    assert len(queue) == len(statuses) == 0, "keys wait for a worker"
    assert not statuses._failures or scene.broken, f"statuses still to be written: {statuses._failures}"
    # What a policy forbids to take away is tried again and again.
    failing = queue._failures.keys() - trouble if not scene.broken else set()
    assert not failing, f"still to be tried again: {failing}"


def _ca_begins(scene: "Scene") -> datetime:
    """Before that, where a clock was set back, a CA is not valid yet."""
    begins = []
    for registry in SETTINGS.registries:
        data = scene.api.objects["secrets", SETTINGS.namespace, registry.ca_secret]["data"]
        begins.append(load_pair(*(base64.b64decode(data[key]) for key in ("tls.crt", "tls.key"))).not_before)
    return max(begins)


def _token(scene: "Scene", operator: "Operator", token: Body) -> set[str]:
    metadata, now = token["metadata"], scene.now
    name = f"{metadata['namespace']}/{metadata['name']}"
    record = scene.promises.record(metadata["uid"]) or Record(metadata["uid"], "", "")
    status = token.get("status") or {}
    assert status.get("observedGeneration") == metadata["generation"], f"{name}: the status is of another spec"
    assert status["username"] == f"{metadata['namespace']}.{metadata['name']}"
    wanted, reasons = expected(scene, token, record)
    (ready,) = (c for c in status["conditions"] if c["type"] == "Ready")
    lost = record.published is not None and not scene.promises.derivable(record)
    assert lost or (ready["status"], ready["reason"] in reasons) == (wanted, True), (
        f"{name}: Ready is {ready['status']}, {ready['reason']}: {ready['message']}, and should be {wanted}, {reasons}"
    )
    assert status.get("passwords", []) == told(record, wishes.revoked(token["spec"]), now), (
        f"{name}: the status tells of other passwords"
    )
    key = Key("token", metadata["namespace"], metadata["name"])
    due = operator.queue._due.get(key)
    if "nextTransition" in status:
        assert due is not None, f"{name} is not due"
        assert format_time(due) == status["nextTransitionTime"], f"{name} is due at another time than its status says"
    assert due is None or due > now
    if wanted == "True" and not lost:
        _ready(scene, token, record)
    return reasons


def _ready(scene: "Scene", token: Body, record: Record) -> None:
    """Pods can pull: everywhere stands the published password, and each named ServiceAccount has the entry."""
    name = wishes.secret_name(token)
    assert record.published is not None
    assert record.pending is None, "a password waits for its publication"
    for namespace in wishes.targets(token):
        secret = scene.api.objects.get(("secrets", namespace, name))
        assert _has_newest(record, secret), f"{namespace}/{name} does not have the published password"
        lacking = _lacking(scene, token, namespace)
        assert not lacking, f"{lacking} in {namespace} lack {name}"
    slot = record.slots[record.published]
    open_ = wishes.requests(token).beyond(slot.requests)
    assert not open_.regenerate, "a password was to be regenerated"
    assert not open_.rotate or any(other.valid_until for other in record.slots.values()), "nobody rotates by hand"
    regenerated = slot.requests.regenerate
    assert all(other.requests.regenerate == regenerated for other in record.slots.values()), "an older password lives"


def expected(scene: "Scene", token: Body, record: Record) -> tuple[str, set[str]]:
    """Status and possible reasons of Ready."""
    spec, now = token["spec"], scene.now
    if ("scopemaps", "", spec["scopeMapRef"]["name"]) not in scene.api.objects:
        return "False", {"ScopeMapNotFound"}
    if not wishes.allowed(scene, token):
        return "False", {"NamespaceNotAllowed"}
    if wishes.expired(token, now):
        return "False", {"TokenExpired"}
    if not spec.get("enabled", True):
        return "False", {"TokenDisabled"}
    last = record.published or record.pending
    if last is not None and wishes.access_ended(spec, record.slots[last], now):
        return "False", {"PasswordExpired", "PasswordRevoked"}
    if any(slot.id in wishes.revoked(spec) for slot in record.slots.values()) and not wishes.rotates(spec):
        return "False", {"PasswordRevoked"}
    problems = set()
    for namespace in wishes.targets(token):
        here = _problems(scene, token, record, namespace)
        problems |= here
        if not here and scene.promises.derivable(record):
            _harmed_by_none(scene, token, record, namespace)
    return ("False", problems) if problems else ("True", {"Ready"})


def _harmed_by_none(scene: "Scene", token: Body, record: Record, namespace: str) -> None:
    """A place harms only itself: where nothing is wrong stands the newest password, which is valid, and every entry."""
    secret = scene.api.objects.get(("secrets", namespace, wishes.secret_name(token)))
    assert _has_newest(record, secret), f"{namespace} does not have the newest password"
    newest = record.slots[record.pending or record.published]  # type: ignore[index]
    assert newest.valid_at(scene.now), f"what stands in {namespace} has ended"
    lacking = _lacking(scene, token, namespace)
    assert not lacking, f"{lacking} in {namespace} lack the entry"


def _problems(scene: "Scene", token: Body, record: Record, namespace: str) -> set[str]:
    there = scene.api.objects.get(("namespaces", "", namespace))
    if there is None or "deletionTimestamp" in there["metadata"]:
        return {"NamespaceNotFound"}
    if namespace != token["metadata"]["namespace"] and not wishes.consents(there, token):
        return {"NamespaceNotConsenting"}
    problems = set()
    named = (token["spec"].get("pullSecret") or {}).get("serviceAccounts") or []
    if any(name != "*" and ("serviceaccounts", namespace, name) not in scene.api.objects for name in named):
        problems.add("ServiceAccountNotFound")
    secret = scene.api.objects.get(("secrets", namespace, wishes.secret_name(token)))
    whose = f"{token['metadata']['namespace']}/{token['metadata']['name']}"
    if secret is not None and (
        not token_uid(secret) or (secret["metadata"].get("annotations") or {}).get(names.TOKEN_ANNOTATION) != whose
    ):
        problems.add("SecretNotOwned")
    if ("secrets", namespace) in scene.broken and not _has_newest(record, secret):
        problems |= {"WriteRefused", "WriteFailed"}
    if ("serviceaccounts", namespace) in scene.broken and _lacking(scene, token, namespace):
        problems |= {"WriteRefused", "WriteFailed"}
    return problems


def _has_newest(record: Record, secret: Body | None) -> bool:
    """Whether the password stands there that is published, or about to be."""
    newest = record.pending or record.published
    if secret is None or newest is None:
        return False
    try:
        return slot_of(record, password_in(secret)) is record.slots[newest]
    except KeyError:
        return False


def _lacking(scene: "Scene", token: Body, namespace: str) -> list[str]:
    """The ServiceAccounts that lack the entry."""
    return [
        account["metadata"]["name"]
        for account in scene.api.of(SERVICE_ACCOUNTS)
        if account["metadata"]["namespace"] == namespace
        and wishes.names_account(token, account["metadata"]["name"])
        and wishes.secret_name(token) not in entries(account)
    ]


def told(record: Record, revoked: list[str], now: datetime) -> list[dict[str, Any]]:
    """What the status should say of the passwords."""
    found = []
    for name, slot in sorted(record.slots.items()):
        if slot.id in revoked:
            state = "Revoked"
        elif not slot.valid_at(now):
            state = "Expired"
        elif slot.valid_until is not None:
            state = "Retiring"
        else:
            state = "Active" if name == record.published else "Pending"
        entry = {"slot": name, "id": slot.id, "createdAt": format_time(slot.created_at), "state": state}
        if slot.expires_at is not None:
            entry["expiresAt"] = format_time(slot.expires_at)
        if slot.valid_until is not None:
            entry["validUntil"] = format_time(slot.valid_until)
        found.append(entry)
    return found


def _rests(scene: "Scene") -> None:
    """Nothing is left of what is not wanted any more."""
    tokens = {token["metadata"]["uid"]: token for token in scene.api.of(REGISTRY_TOKENS)}
    for secret in scene.api.of(SECRETS):
        metadata = secret["metadata"]
        place: Place = ("secrets", metadata["namespace"], metadata["name"])
        if metadata["uid"] not in scene.promises.ours:
            continue
        if metadata["namespace"] == SETTINGS.credentials_namespace:
            uid = metadata["name"].removeprefix("rt-")
            assert uid in tokens or uid == metadata["name"], f"{place} is left of a deleted token"
        elif metadata["namespace"] != SETTINGS.namespace:
            token = tokens.get(token_uid(secret))
            retained = metadata["annotations"].get(names.DELETION_POLICY_ANNOTATION) == "Retain"
            if place[:2] in scene.broken:
                continue
            assert token is not None or retained, f"{place} is left of a deleted token"
            assert token is None or not _tidied(scene, token, place[1]) or wishes.wanted(scene, token, place), (
                f"{place} is not wanted any more"
            )
    for account in scene.api.of(SERVICE_ACCOUNTS):
        metadata = account["metadata"]
        if ("serviceaccounts", metadata["namespace"]) in scene.broken:
            continue
        for name, uid in marks(account).items():
            where = f"{metadata['namespace']}/{metadata['name']}"
            assert uid in tokens, f"entry {name} in {where} is left of a deleted token"
            token = tokens[uid]
            place = ("secrets", metadata["namespace"], name)
            wanted = wishes.wanted(scene, token, place) and wishes.names_account(token, metadata["name"])
            assert wanted or not _tidied(scene, token, place[1]), f"entry {name} in {where} is not wanted any more"


def _tidied(scene: "Scene", token: Body, namespace: str) -> bool:
    """Whether its things there are looked after: what is being deleted takes them with it in the end."""
    there = scene.api.objects["namespaces", "", namespace]
    return not any("deletionTimestamp" in body["metadata"] for body in (token, there))
