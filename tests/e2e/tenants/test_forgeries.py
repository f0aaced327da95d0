"""He makes things that look like ours, or like others': without effect."""

import base64
import json
from collections.abc import Callable
from typing import Any

from tests.cluster.install import CREDENTIALS_NAMESPACE, NAMESPACE, Release
from tests.e2e.tenant import API, Tenant
from tests.e2e.tenants.intruder import (
    ACCEPT,
    COMPONENT,
    ENTRIES,
    MANAGED,
    SCOPE,
    TOKEN,
    TOKEN_UID,
    Intruder,
    mine,
    says,
)
from tests.e2e.tokens import Credentials
from tests.e2e.waiting import until

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
