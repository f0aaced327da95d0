"""A tenant with `admin` on one namespace tries to reach what is not his: refused or without effect."""

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.install import CREDENTIALS_NAMESPACE, NAMESPACE, Release
from tests.e2e.exposure import Exposure
from tests.e2e.tenant import API, Tenant, condition
from tests.e2e.tokens import Credentials
from tests.e2e.waiting import until

MANAGED = {"app.kubernetes.io/managed-by": "pullpass"}
COMPONENT, TOKEN_UID = "pullpass.dev/component", "pullpass.dev/token-uid"
TOKEN, ENTRIES = "pullpass.dev/token", "pullpass.dev/image-pull-secrets"
ACCEPT = "pullpass.dev/accept-pull-secrets-from"
SCOPE = "repository:team/app:pull,push"


class Intruder(Tenant):
    """A tenant who acts as a user with one role in his own namespace, and with nothing else."""

    def __init__(self, release: Release, namespace: str) -> None:
        super().__init__(release, namespace)
        self.user = f"user-of-{namespace}"
        self._platform = Tenant(release, namespace)

    def create(self, role: str = "admin") -> None:
        self._platform.create()
        bind = ("create", "rolebinding", "people", f"--clusterrole={role}", f"--user={self.user}")
        self._platform.kubectl(*bind)
        may = ("auth", "can-i", "create", "registrytokens.pullpass.dev")
        until(lambda: self.kubectl(*may, check=False).returncode == 0, "the role is in force")

    def delete(self, *, wait: bool = False) -> None:
        self._platform.delete(wait=wait)

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> Any:
        return super().kubectl(f"--as={self.user}", *arguments, input=input, check=check)

    def platform_map(self, name: str, **allowed: Any) -> None:
        """A scope map, which only the platform can write."""
        self._platform.scope_map(name, ["own/app"], **allowed)


@pytest.fixture
def intruder(release: Release, exposure: Exposure, request: pytest.FixtureRequest) -> Iterator[Intruder]:
    made = Intruder(release, f"intruder-{secrets.token_hex(3)}")
    made.create()
    made.platform_map("own")
    yield made
    exposure.keep(made.namespace)
    made.delete()


@pytest.fixture(scope="module")
def victim(release: Release, exposure: Exposure, published: str) -> Iterator[Tenant]:
    """Another tenant, with a token that pulls in two namespaces; the second consents to it."""
    made = Tenant(release, f"victim-{secrets.token_hex(2)}")
    guest = Tenant(release, f"{made.namespace}-guest")
    for tenant in (made, guest):
        tenant.create()
    guest.kubectl("annotate", "namespace", guest.namespace, f"{ACCEPT}={made.namespace}")
    made.scope_map("read", ["team/app"])
    everywhere = {"serviceAccounts": ["default"], "namespaces": [guest.namespace]}
    made.token("reader", "read", pullSecret=everywhere)
    made.ready("reader")
    yield made
    for tenant in (made, guest):
        exposure.keep(tenant.namespace)
        tenant.delete()


@pytest.fixture(autouse=True)
def _unharmed(victim: Tenant) -> Iterator[None]:
    """After each test all that is the victim's and the platform's is the same, to the last version."""
    before = belongings(victim)
    assert before
    yield
    assert belongings(victim) == before
    credentials = victim.credentials("reader-pull")
    assert victim.login(credentials, SCOPE).access == {"team/app": {"pull"}}


def belongings(victim: Tenant) -> dict[str, str]:
    """Objects of the victim and the platform with UID and version, and a digest of what is in them."""
    found = {}
    for namespace in (victim.namespace, f"{victim.namespace}-guest", NAMESPACE, "kube-system", "default"):
        kinds = "secrets,serviceaccounts,registrytokens"
        get = victim.release.cluster.kubectl("get", kinds, "-n", namespace, "-o", "json")
        for item in json.loads(get.stdout)["items"]:
            meta = item["metadata"]
            content = hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()
            found[f"{item['kind']} {namespace}/{meta['name']}"] = f"{meta['uid']} {meta['resourceVersion']} {content}"
    record = f"rt-{mine(victim, 'reader')}"
    for name in (record, "pullpass-signing"):
        secret = json.loads(
            victim.release.cluster.kubectl("get", "secret", name, "-n", CREDENTIALS_NAMESPACE, "-o", "json").stdout
        )
        found[name] = f"{secret['metadata']['uid']} {secret['metadata']['resourceVersion']}"
    return found


def says(tenant: Tenant, token: str, reason: str, *words: str) -> None:
    """Wait until the token is not ready for this reason, and its message has these words."""

    def message() -> str:
        ready = condition(tenant.find("registrytoken", token), "Ready")
        return str(ready["message"]) if ready.get("reason") == reason else ""

    text = until(message, f"{token} is {reason}")
    for word in words:
        assert word in text


# What the role of people in a namespace allows

FORBIDDEN = {
    "scope map": ["create", "-f", "-"],
    "status": ["patch", "registrytoken", "mine", "--subresource=status", "--type=merge", "--patch", '{"status":{}}'],
    "label of the namespace": ["label", "namespace", "OWN", "team=victim"],
    "consent": ["annotate", "namespace", "OWN", f"{ACCEPT}=VICTIM"],
    "consent of the victim": ["annotate", "namespace", "VICTIM", f"{ACCEPT}=OWN"],
    "the victim's token": ["get", "registrytoken", "reader", "-n", "VICTIM"],
    "the victim's Secret": ["get", "secret", "reader-pull", "-n", "VICTIM"],
    "the victim's ServiceAccount": ["patch", "serviceaccount", "default", "-n", "VICTIM", "--patch", "{}"],
    "a token in the victim's namespace": ["create", "-n", "VICTIM", "-f", "-"],
    "records": ["get", "secrets", "-n", CREDENTIALS_NAMESPACE],
    "keys": ["get", "secret", "pullpass-seed", "-n", NAMESPACE],
    "the operator's ServiceAccount": ["create", "token", "pullpass-operator", "-n", NAMESPACE],
    "the operator's pod": ["get", "pods", "-n", NAMESPACE],
    "the operator's role": ["create", "rolebinding", "more", "--clusterrole=pullpass-operator", "--user=me"],
}


@pytest.mark.parametrize("role", ["edit", "admin"])
def test_what_the_api_server_forbids(intruder: Intruder, victim: Tenant, role: str) -> None:
    if role == "edit":
        intruder.user = f"editor-of-{intruder.namespace}"
        bind = ("create", "rolebinding", "editors", "--clusterrole=edit", f"--user={intruder.user}")
        Tenant(intruder.release, intruder.namespace).kubectl(*bind)
        may = ("auth", "can-i", "create", "registrytokens.pullpass.dev")
        until(lambda: intruder.kubectl(*may, check=False).returncode == 0, "the role is in force")
    intruder.token("mine", "own")
    rules = [{"repositories": ["*"], "actions": ["content/read"]}]
    bodies = {
        "scope map": {"kind": "ScopeMap", "spec": {"rules": rules, "allowedNamespaces": {"from": "All"}}},
        "a token in the victim's namespace": {
            "kind": "RegistryToken",
            "spec": {"scopeMapRef": {"name": victim.map_name("read")}},
        },
    }
    forbidden = {}
    for attempt, arguments in FORBIDDEN.items():
        body = json.dumps({"apiVersion": API, "metadata": {"name": "planted"}, **bodies.get(attempt, {})})
        words = {"OWN": intruder.namespace, "VICTIM": victim.namespace}
        done = intruder.kubectl(*(_filled(part, words) for part in arguments), input=body, check=False)
        forbidden[attempt] = done.returncode != 0 and "forbidden" in done.stderr.lower()
    assert forbidden == dict.fromkeys(FORBIDDEN, True)


def _filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


# Places that are not his


@dataclass(frozen=True)
class Place:
    """A namespace that a token of his names, and a Secret there."""

    namespace: str
    secret: str
    reason: str = "NamespaceNotConsenting"


PLACES = [
    Place("VICTIM", "new-pull"),
    Place("VICTIM-guest", "reader-pull"),
    Place("kube-system", "planted-1"),
    Place("default", "planted-2"),
    Place(NAMESPACE, "pullpass-ca"),
    Place(NAMESPACE, "pullpass-seed"),
    Place(NAMESPACE, "planted-3"),
    Place(CREDENTIALS_NAMESPACE, "pullpass-signing"),
    Place(CREDENTIALS_NAMESPACE, "rt-UID"),
    Place("nowhere-at-all", "planted-4", "NamespaceNotFound"),
]


@pytest.mark.parametrize("accounts", [["*"], ["default", "pullpass-operator"]], ids=["all", "named"])
def test_places_that_do_not_consent(intruder: Intruder, victim: Tenant, accounts: list[str]) -> None:
    words = {"VICTIM": victim.namespace, "UID": mine(victim, "reader")}
    places = [Place(_filled(p.namespace, words), _filled(p.secret, words), p.reason) for p in PLACES]
    intruder.kubectl("create", "serviceaccount", "pullpass-operator")
    for number, place in enumerate(places):
        spec = {"name": place.secret, "serviceAccounts": accounts, "namespaces": [place.namespace]}
        intruder.token(f"mine-{number}", "own", pullSecret=spec)
    for number, place in enumerate(places):
        says(intruder, f"mine-{number}", place.reason, place.namespace)
    # At home he has what he asked for, and nowhere else.
    assert sorted(intruder.pull_secret_names()) == sorted(place.secret for place in places)
    ours = victim.release.cluster.kubectl("get", "secrets", "-A", "-l", f"{COMPONENT}=pull-secret", "-o", "json")
    found = [
        (item["metadata"]["namespace"], item["metadata"]["name"])
        for item in json.loads(ours.stdout)["items"]
        if item["metadata"]["annotations"][TOKEN].startswith(f"{intruder.namespace}/")
    ]
    assert sorted(found) == sorted((intruder.namespace, place.secret) for place in places)


def mine(intruder: Tenant, name: str = "mine") -> str:
    """UID of his token."""
    return str(intruder.find("registrytoken", name)["metadata"]["uid"])


def test_a_release_namespace_that_consents_loses_no_key(intruder: Intruder, victim: Tenant) -> None:
    """Whoever annotates the release namespace is the platform; the keys are no tenant's all the same."""
    kubectl = victim.release.cluster.kubectl
    kubectl("annotate", "namespace", NAMESPACE, f"{ACCEPT}={intruder.namespace}")
    try:
        for name in ("pullpass-ca", "pullpass-seed"):
            intruder.token(name, "own", pullSecret={"name": name, "namespaces": [NAMESPACE]})
            says(intruder, name, "SecretNotOwned", f"{NAMESPACE}/{name}")
    finally:
        kubectl("annotate", "namespace", NAMESPACE, f"{ACCEPT}-")
    for name in ("pullpass-ca", "pullpass-seed"):
        says(intruder, name, "NamespaceNotConsenting")


# Maps that are not his


def test_a_map_for_others(intruder: Intruder, victim: Tenant) -> None:
    intruder.token("mine", "own")
    intruder.ready("mine")
    credentials = intruder.credentials("mine-pull")
    intruder.patch("registrytoken", "mine", scopeMapRef={"name": victim.map_name("read")})
    says(intruder, "mine", "NamespaceNotAllowed", victim.map_name("read"))
    intruder.refused(credentials)
    body = {"scopeMapRef": {"name": victim.map_name("read")}}
    meta = {"name": "second", "namespace": intruder.namespace}
    intruder.apply({"apiVersion": API, "kind": "RegistryToken", "metadata": meta, "spec": body})
    says(intruder, "second", "NamespaceNotAllowed")
    assert not intruder.find("secret", "second-pull"), "no password is made for it"


@pytest.mark.parametrize(
    "allowed",
    [
        {"from": "Names", "names": []},
        {"from": "Selector", "selector": {"matchLabels": {"team": "victim"}}},
        {"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "victim"}}},
    ],
    ids=["nobody", "label", "name"],
)
def test_a_map_that_does_not_select_him(intruder: Intruder, allowed: dict[str, Any]) -> None:
    intruder.platform_map("guarded", allowed=allowed)
    intruder.token("mine", "guarded")
    says(intruder, "mine", "NamespaceNotAllowed")
    label = ("label", "namespace", intruder.namespace, "team=victim")
    assert intruder.kubectl(*label, check=False).returncode != 0
    # The token's own labels are no namespace's.
    intruder.kubectl("label", "registrytoken", "mine", "team=victim")
    says(intruder, "mine", "NamespaceNotAllowed")
    assert not intruder.find("secret", "mine-pull")


# Names that collide


def test_a_secret_of_the_victim_in_a_namespace_that_consents_to_both(
    intruder: Intruder, victim: Tenant, new_tenant: Callable[[], Tenant]
) -> None:
    shared = new_tenant()
    shared.kubectl("annotate", "namespace", shared.namespace, f"{ACCEPT}={victim.namespace},{intruder.namespace}")
    first = Tenant(victim.release, victim.namespace)
    first.token("sharing", "read", pullSecret={"name": "common", "namespaces": [shared.namespace]})
    try:
        first.ready("sharing")
        before = shared.find("secret", "common")
        intruder.token("mine", "own", pullSecret={"name": "common", "namespaces": [shared.namespace]})
        says(
            intruder,
            "mine",
            "SecretNotOwned",
            f"{shared.namespace}/common",
            f"RegistryToken {victim.namespace}/sharing",
        )
        # Whatever he does to his token, the Secret stays who made it first.
        intruder.patch("registrytoken", "mine", passwords={"lifetime": "60s", "renewBefore": "30s", "overlap": "10s"})
        id = intruder.credentials("common").id
        until(lambda: intruder.credentials("common").id != id, "his password rotates", timeout=120)
        intruder.kubectl("delete", "registrytoken", "mine")
        intruder.token("mine", "own", pullSecret={"name": "common", "namespaces": [shared.namespace]})
        says(intruder, "mine", "SecretNotOwned")
        intruder.kubectl("delete", "registrytoken", "mine")
        until(lambda: not intruder.records(), "the sweep is over")
        assert shared.find("secret", "common") == before
        first.accepted(shared.credentials("common"))
    finally:
        first.kubectl("delete", "registrytoken", "sharing")
        until(lambda: not shared.find("secret", "common"), "the shared Secret is gone")
        until(lambda: not first.find("secret", "common"), "the victim's own too")
        until(lambda: len(first.records()) == 1, "and its record")


def test_two_tokens_with_one_secret_name(intruder: Intruder) -> None:
    """In one namespace, too, the first one has it; the other takes over when the first one goes."""
    intruder.token("first", "own", pullSecret={"name": "common", "serviceAccounts": ["default"]})
    intruder.ready("first")
    before = intruder.find("secret", "common")
    intruder.token("second", "own", pullSecret={"name": "common", "serviceAccounts": ["default"]})
    says(intruder, "second", "SecretNotOwned", f"RegistryToken {intruder.namespace}/first")
    intruder.ready("first")
    assert intruder.find("secret", "common") == before
    assert intruder.pull_secret_names() == ["common"]
    intruder.kubectl("delete", "registrytoken", "first")
    intruder.ready("second", timeout=400)
    credentials = intruder.credentials("common")
    assert credentials.username == f"{intruder.namespace}.second"
    intruder.accepted(credentials)
    until(lambda: intruder.pull_secret_names() == ["common"], "the entry is the second one's now")


def test_login_names_are_unequal(intruder: Intruder) -> None:
    """The first dot parts namespace from name, and a namespace has none."""
    for name in ("b.c", "b"):
        intruder.token(name, "own")
    intruder.ready("b.c", "b")
    dotted, plain = intruder.credentials("b.c-pull"), intruder.credentials("b-pull")
    assert dotted.username == f"{intruder.namespace}.b.c"
    assert intruder.login(dotted).accepted
    assert intruder.login(plain).accepted
    assert not intruder.login(Credentials(dotted.username, plain.password)).accepted
    assert not intruder.login(Credentials(plain.username, dotted.password)).accepted
    platform = Tenant(intruder.release, f"{intruder.namespace}.b")
    refused = platform.release.cluster.kubectl("create", "namespace", platform.namespace, check=False)
    assert refused.returncode != 0


# Things that look like ours


def forged(namespace: str, name: str, component: str, uid: str, token: str, **more: Any) -> dict[str, Any]:
    """A Secret with our labels and annotation."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {**MANAGED, COMPONENT: component, TOKEN_UID: uid},
            "annotations": {TOKEN: token},
            **more.pop("meta", {}),
        },
        **more,
    }


def test_forged_pull_secrets(intruder: Intruder, victim: Tenant) -> None:
    uid = mine(victim, "reader")
    token = f"{victim.namespace}/reader"
    config = base64.b64encode(b'{"auths":{}}').decode()
    own = intruder.namespace
    typed = {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": config}}
    owner = {"apiVersion": API, "kind": "RegistryToken", "name": "reader", "uid": uid}
    intruder.apply(
        forged(own, "reader-pull", "pull-secret", uid, token, **typed),
        forged(own, "finalized", "pull-secret", uid, token, meta={"finalizers": ["example.com/mine"]}, **typed),
        forged(own, "owned", "pull-secret", uid, token, meta={"ownerReferences": [owner]}, **typed),
        forged(own, "of-another-type", "pull-secret", uid, token),
        forged(own, "of-a-dead-token", "pull-secret", "00000000-dead", token, **typed),
        forged(own, "of-nobody", "pull-secret", "nobody", "nowhere/nobody", **typed),
        forged(own, "of-the-release", "pull-secret", uid, f"{NAMESPACE}/pullpass-seed", **typed),
        forged(own, "no-token", "pull-secret", uid, "../../../namespaces", **typed),
    )
    swept = ["reader-pull", "owned", "of-a-dead-token", "of-nobody", "of-the-release", "no-token"]

    def left() -> list[str]:
        return [name for name in swept if intruder.find("secret", name)]

    until(lambda: not left(), "what looks like ours and is nowhere wanted goes, in his namespace")
    until(lambda: "deletionTimestamp" in intruder.find("secret", "finalized")["metadata"], "as far as he lets it go")
    assert intruder.find("secret", "of-another-type"), "no pull secret, so it was never ours"
    # The real one is not found through them, and they never get its password.
    leaked = victim.credentials("reader-pull").password in json.dumps(intruder.find("secret", "finalized"))
    assert not leaked
    unfinalize = ("patch", "secret", "finalized", "--type=merge", "--patch", '{"metadata":{"finalizers":null}}')
    intruder.kubectl(*unfinalize)


def test_a_forged_record_lets_nobody_in(intruder: Intruder, victim: Tenant) -> None:
    """Records and leaf count in the credentials namespace only."""
    uid = mine(victim, "reader")
    token = f"{victim.namespace}/reader"
    own = intruder.namespace
    intruder.token("mine", "own")
    intruder.ready("mine")
    known = intruder.credentials("mine-pull")
    kubectl = victim.release.cluster.kubectl
    # He gets more than he ever could: the record of his own token, with the hash of a password that he knows.
    get = ("get", "secret", f"rt-{mine(intruder)}", "-n", CREDENTIALS_NAMESPACE, "-o", "json")
    record = json.loads(base64.b64decode(json.loads(kubectl(*get).stdout)["data"]["record.json"]))
    record |= {"tokenUid": uid, "namespace": victim.namespace, "name": "reader"}
    data = {"record.json": base64.b64encode(json.dumps(record).encode()).decode()}
    intruder.apply(
        forged(own, f"rt-{uid}", "credential-record", uid, token, type="pullpass.dev/credential-record", data=data),
        forged(own, "pullpass-signing", "signing-key", uid, token, data=data),
        forged(own, "pullpass-seed", "credential-record", "seed", token, data=data),
    )
    # A pull secret of his own that comes after it shows that the watches have told of it.
    intruder.token("marker", "own")
    intruder.ready("marker")
    stolen = Credentials(f"{victim.namespace}.reader", known.password)
    assert not victim.login(stolen).accepted
    intruder.accepted(known)
    assert intruder.find("secret", f"rt-{uid}")


def test_forged_entries_of_his_service_accounts(intruder: Intruder, victim: Tenant) -> None:
    uid = mine(victim, "reader")
    marks = {
        "of-the-victim": f"stays=,reader-pull={uid},other={uid}",
        "of-the-dead": "other=00000000-dead",
        "of-many": ",".join(f"other-{number}=uid-{number}" for number in range(300)),
        "garbage": "=,==,\u2603=x y,a=b=c," + "x" * 5000,
    }
    listed = [{"name": "other"}, {"name": "stays"}, {"name": "reader-pull"}]
    for name, text in marks.items():
        meta = {"name": name, "namespace": intruder.namespace, "annotations": {ENTRIES: text}}
        intruder.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta, "imagePullSecrets": listed})
    until(lambda: intruder.pull_secret_names("of-the-victim") == ["stays"], "what he called ours is taken out")
    until(lambda: intruder.pull_secret_names("of-the-dead") == ["stays", "reader-pull"], "here too")
    intruder.token("marker", "own", pullSecret={"serviceAccounts": ["*"]})
    intruder.ready("marker")
    until(lambda: "marker-pull" in intruder.pull_secret_names("garbage"), "his own token still has its entry")


def test_forged_annotations_of_his_token(intruder: Intruder, victim: Tenant) -> None:
    """What we write on Secrets and ServiceAccounts means nothing on a RegistryToken."""
    uid = mine(victim, "reader")
    labels = {**MANAGED, COMPONENT: "credential-record", TOKEN_UID: uid}
    annotations = {TOKEN: f"{victim.namespace}/reader", ENTRIES: f"reader-pull={uid}", ACCEPT: "*"}
    meta = {"name": "mine", "namespace": intruder.namespace, "labels": labels, "annotations": annotations}
    status = {"username": f"{victim.namespace}.reader", "conditions": [], "accessEndsAt": "2999-01-01T00:00:00Z"}
    spec = {"scopeMapRef": {"name": intruder.map_name("own")}}
    body = {"apiVersion": API, "kind": "RegistryToken", "metadata": meta, "spec": spec, "status": status}
    intruder.apply(body)
    intruder.ready("mine")
    found = intruder.find("registrytoken", "mine")
    assert found["status"]["username"] == f"{intruder.namespace}.mine", "a status in what he applies is dropped"
    assert "accessEndsAt" not in found["status"]
    credentials = intruder.credentials("mine-pull")
    assert intruder.login(credentials, SCOPE).access.get("team/app", frozenset()) == frozenset()
    assert intruder.login(credentials, "repository:own/app:pull").access == {"own/app": {"pull"}}


def test_owner_references_on_his_pull_secret(intruder: Intruder) -> None:
    """Whatever owns it besides, his token keeps it, and nobody fights about it."""
    intruder.token("mine", "own")
    intruder.ready("mine")
    intruder.kubectl("create", "configmap", "owner")
    extra = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": intruder.find("configmap", "owner")["metadata"]["uid"],
    }
    add = [{"op": "add", "path": "/metadata/ownerReferences/-", "value": extra}]
    intruder.kubectl("patch", "secret", "mine-pull", "--type=json", "--patch", json.dumps(add))
    # Taking ours out as well makes the Secret go with the ConfigMap; it comes back with the same password.
    before = intruder.credentials("mine-pull")
    replace = [{"op": "replace", "path": "/metadata/ownerReferences", "value": [extra]}]
    intruder.kubectl("patch", "secret", "mine-pull", "--type=json", "--patch", json.dumps(replace))

    def owners() -> set[str]:
        return {one["kind"] for one in intruder.find("secret", "mine-pull")["metadata"].get("ownerReferences", [])}

    until(lambda: "RegistryToken" in owners(), "ours is there again")
    intruder.kubectl("delete", "configmap", "owner")
    until(lambda: owners() == {"RegistryToken"}, "the other one is collected")
    assert intruder.credentials("mine-pull").password == before.password
    intruder.ready("mine")


# Somebody who may do something in a namespace that consents


def test_a_guest_cannot_keep_a_password_from_rotating(
    release: Release, new_tenant: Callable[[], Tenant], intruder: Intruder
) -> None:
    """The intruder's namespace consents to a token of the owner's, and then makes its Secret a stumbling block."""
    owner = new_tenant()
    platform = Tenant(release, intruder.namespace)
    platform.kubectl("annotate", "namespace", intruder.namespace, f"{ACCEPT}={owner.namespace}")
    owner.scope_map("read", ["team/app"])
    spec = {"serviceAccounts": ["default"], "namespaces": [intruder.namespace]}
    owner.token("reader", "read", pullSecret=spec, passwords={"lifetime": "90s", "renewBefore": "60s", "overlap": "5s"})
    owner.ready("reader")
    first = owner.credentials("reader-pull")
    intruder.kubectl("patch", "secret", "reader-pull", "--type=merge", "--patch", '{"immutable":true}')
    seen: list[str] = []

    def rotated() -> bool:
        now = owner.credentials("reader-pull")
        assert owner.login(now).accepted
        if now.id not in seen:
            seen.append(now.id)
        return len(seen) > 2

    until(rotated, "the owner's own pull secret goes on rotating", timeout=300)
    says(owner, "reader", "WriteRefused", f"{intruder.namespace}/reader-pull")
    # What he kept is worth nothing by now.
    kept = intruder.credentials("reader-pull")
    until(lambda: not owner.login(first).accepted, "the first password is dead", timeout=120)
    until(lambda: not owner.login(kept).accepted, "the one he kept is dead", timeout=120)
    intruder.kubectl("delete", "secret", "reader-pull")
    owner.ready("reader", timeout=400)
    owner.accepted(intruder.credentials("reader-pull"))


def test_a_secret_of_another_type_that_calls_itself_the_owner_s(
    release: Release, new_tenant: Callable[[], Tenant], intruder: Intruder
) -> None:
    """The type of a Secret cannot be changed, so one of another type was never ours."""
    owner = new_tenant()
    owner.scope_map("read", ["team/app"])
    owner.token("reader", "read", pullSecret={"namespaces": [intruder.namespace]})
    says(owner, "reader", "NamespaceNotConsenting")
    uid = mine(owner, "reader")
    # The operator would delete it while there is no consent, were it the owner's.
    intruder.apply(
        forged(intruder.namespace, "reader-pull", "pull-secret", uid, f"{owner.namespace}/reader", type="Opaque")
    )
    platform = Tenant(release, intruder.namespace)
    platform.kubectl("annotate", "namespace", intruder.namespace, f"{ACCEPT}={owner.namespace}")
    says(owner, "reader", "SecretNotOwned", "was not made by pullpass")
    planted = intruder.find("secret", "reader-pull")
    assert planted["type"] == "Opaque"
    assert "data" not in planted


# Sizes


def test_the_longest_names_and_the_most_places(intruder: Intruder) -> None:
    long = "n" * 63
    longest = ".".join(["s" * 63] * 3 + ["s" * 61])
    for account in (longest, "a"):
        intruder.kubectl("create", "serviceaccount", account)
    nowhere = [f"nowhere-{number}-{'x' * 40}" for number in range(64)]
    accounts = [longest, "a", *(f"missing-{number}-{'x' * 200}" for number in range(62))]
    spec = {"name": longest, "serviceAccounts": accounts, "namespaces": nowhere}
    intruder.token(long, "own", pullSecret=spec)
    says(intruder, long, "ServiceAccountNotFound", "more")
    assert intruder.pull_secret_names(longest) == [longest]
    assert intruder.find("secret", longest)
    intruder.patch("registrytoken", long, pullSecret={"serviceAccounts": [], "namespaces": []})
    intruder.ready(long)
    assert intruder.pull_secret_names(longest) == []


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("n" * 64, {}, "at most 63"),
        ("mine", {"namespaces": [f"n-{number}" for number in range(65)]}, "64"),
        ("mine", {"serviceAccounts": [f"n-{number}" for number in range(65)]}, "64"),
        ("mine", {"name": "n" * 254}, "253"),
        ("mine", {"namespaces": ["*"]}, "namespace"),
        ("mine", {"namespaces": ["a/../b"]}, "namespace"),
        ("mine", {"name": "../pullpass-seed"}, "name"),
        ("mine", {"name": "two\nlines"}, "name"),
        ("mine", {"serviceAccounts": ["a=b,c"]}, "ServiceAccount"),
        ("../reader", {}, "name"),
    ],
)
def test_names_that_are_refused_at_once(intruder: Intruder, name: str, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        intruder.token(name, "own", pullSecret=spec)


# Load


def test_a_flood_of_tokens_does_not_keep_others_waiting(intruder: Intruder, new_tenant: Callable[[], Tenant]) -> None:
    other = new_tenant()
    other.scope_map("read", ["team/app"])
    body = {
        "apiVersion": API,
        "kind": "RegistryToken",
        "spec": {"scopeMapRef": {"name": intruder.map_name("own")}, "pullSecret": {"serviceAccounts": ["*"]}},
    }
    flood = [body | {"metadata": {"name": f"flood-{number}", "namespace": intruder.namespace}} for number in range(200)]
    intruder.apply(*flood)
    other.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
    other.ready("reader")
    until(lambda: len(intruder.records()) == 200, "his own are made as well", timeout=300)
