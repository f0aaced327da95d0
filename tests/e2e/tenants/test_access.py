"""He tries to reach what is not his: refused or without effect."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.install import CREDENTIALS_NAMESPACE, NAMESPACE
from tests.e2e.tenant import API, Tenant
from tests.e2e.tenants.intruder import ACCEPT, COMPONENT, TOKEN, Intruder, filled, mine, says
from tests.e2e.tokens import Credentials
from tests.e2e.waiting import until

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
        done = intruder.kubectl(*(filled(part, words) for part in arguments), input=body, check=False)
        forbidden[attempt] = done.returncode != 0 and "forbidden" in done.stderr.lower()
    assert forbidden == dict.fromkeys(FORBIDDEN, True)


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
    places = [Place(filled(p.namespace, words), filled(p.secret, words), p.reason) for p in PLACES]
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
