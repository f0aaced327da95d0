"""Namespaces and ServiceAccounts that come and go, consent given and withdrawn, and rivals for what is ours."""

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeGuard

import pytest

from tests.cluster.install import Release
from tests.e2e.exposure import Exposure
from tests.e2e.rival import Rival
from tests.e2e.tenant import Tenant, condition
from tests.e2e.waiting import until

ACCEPT = "pullpass.dev/accept-pull-secrets-from"
ENTRIES = "pullpass.dev/image-pull-secrets"


def consent(guest: Tenant, value: str | None) -> None:
    """Write the annotation of consent, or take it away."""
    change = f"{ACCEPT}-" if value is None else f"{ACCEPT}={value}"
    guest.kubectl("annotate", "namespace", guest.namespace, change, "--overwrite")


def set_entries(tenant: Tenant, *names: str, account: str = "default") -> None:
    """Write the whole imagePullSecrets of a ServiceAccount."""
    patch = json.dumps({"imagePullSecrets": [{"name": name} for name in names]})
    tenant.kubectl("patch", "serviceaccount", account, "--type=merge", "--patch", patch)


def accounts(tenant: Tenant) -> dict[str, list[str]]:
    """The imagePullSecrets of all ServiceAccounts."""
    items = json.loads(tenant.kubectl("get", "serviceaccounts", "-o", "json").stdout)["items"]
    return {item["metadata"]["name"]: [entry["name"] for entry in item.get("imagePullSecrets", [])] for item in items}


def annotation(tenant: Tenant, account: str = "default") -> str:
    found = tenant.find("serviceaccount", account)["metadata"].get("annotations", {})
    return str(found.get(ENTRIES, ""))


# What comes later


def test_accounts_and_a_namespace_made_after_the_token(release: Release, tenant: Tenant, published: str) -> None:
    later = Tenant(release, f"{tenant.namespace}-later")
    tenant.scope_map("read", ["team/app"])
    everywhere = {"serviceAccounts": ["*"], "namespaces": [later.namespace]}
    tenant.token("reader", "read", pullSecret=everywhere)
    until(lambda: "NamespaceNotFound" in tenant.reasons("reader").values(), "NamespaceNotFound")
    credentials = tenant.credentials("reader-pull")
    meta = {"name": later.namespace, "annotations": {ACCEPT: tenant.namespace}}
    try:
        tenant.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        tenant.ready("reader")
        assert later.credentials("reader-pull").password == credentials.password
        for place in (tenant, later):
            names = [f"made-later-{number}" for number in range(20)]
            place.apply(
                *(
                    {
                        "apiVersion": "v1",
                        "kind": "ServiceAccount",
                        "metadata": {"name": name, "namespace": place.namespace},
                    }
                    for name in names
                )
            )
            expected = {name: ["reader-pull"] for name in ("default", *names)}
            until(lambda: accounts(place) == expected, "every ServiceAccount has the entry")  # noqa: B023
        later.pod("later", published, service_account="made-later-7")
        later.runs("later")
        # A namespace of the same name is another one: what it had is made anew, with the same password.
        later.kubectl("delete", "namespace", later.namespace, "--wait", "--timeout=120s")
        until(lambda: "NamespaceNotFound" in tenant.reasons("reader").values(), "NamespaceNotFound")
        tenant.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        tenant.ready("reader")
        until(lambda: later.find("serviceaccount", "default"), "its default ServiceAccount")
        until(lambda: later.pull_secret_names() == ["reader-pull"], "its entry")
        assert later.credentials("reader-pull").password == credentials.password
    finally:
        later.delete()


def test_an_account_made_anew_and_one_named_before_it_is_there(tenant: Tenant) -> None:
    tenant.scope_map("read", ["team/app"])
    tenant.token("reader", "read", pullSecret={"serviceAccounts": ["builder", "default"]})
    until(lambda: "ServiceAccountNotFound" in tenant.reasons("reader").values(), "ServiceAccountNotFound")
    assert tenant.find("secret", "reader-pull"), "the pull secret does not wait for it"
    assert tenant.pull_secret_names() == ["reader-pull"]
    for _ in range(3):
        tenant.kubectl("create", "serviceaccount", "builder")
        tenant.ready("reader")
        until(lambda: tenant.pull_secret_names("builder") == ["reader-pull"], "the entry")
        tenant.kubectl("delete", "serviceaccount", "builder")
        until(lambda: "ServiceAccountNotFound" in tenant.reasons("reader").values(), "ServiceAccountNotFound")


def test_accounts_taken_out_of_the_spec(tenant: Tenant) -> None:
    tenant.kubectl("create", "serviceaccount", "builder")
    set_entries(tenant, "own", account="builder")
    tenant.scope_map("read", ["team/app"])
    tenant.token("reader", "read", pullSecret={"serviceAccounts": ["*"]})
    tenant.ready("reader")
    until(
        lambda: accounts(tenant) == {"default": ["reader-pull"], "builder": ["own", "reader-pull"]},
        "an entry on each",
    )
    tenant.patch("registrytoken", "reader", pullSecret={"serviceAccounts": ["default"]})
    until(lambda: accounts(tenant) == {"default": ["reader-pull"], "builder": ["own"]}, "the entry stays on one")
    assert annotation(tenant, "builder") == ""
    tenant.patch("registrytoken", "reader", pullSecret={"serviceAccounts": []})
    until(lambda: accounts(tenant) == {"default": [], "builder": ["own"]}, "as before")


# Consent


def test_consent_given_later_and_withdrawn_takes_only_what_is_ours(new_tenant: Callable[[], Tenant]) -> None:
    one, two, guest = new_tenant(), new_tenant(), new_tenant()
    set_entries(guest, "own-first", "own-second")
    guest.kubectl("create", "secret", "generic", "own-first", "--from-literal=key=value")
    own = guest.find("secret", "own-first")
    for owner, name in ((one, "one"), (two, "two")):
        owner.scope_map("read", ["team/app"])
        owner.token(name, "read", pullSecret={"serviceAccounts": ["default"], "namespaces": [guest.namespace]})
        until(lambda: "NamespaceNotConsenting" in owner.reasons(name).values(), "not consenting")  # noqa: B023
        message = condition(owner.find("registrytoken", name), "Ready")["message"]
        assert f"{ACCEPT}: {owner.namespace}" in message, "it says what to do"
    assert guest.pull_secret_names() == ["own-first", "own-second"]

    consent(guest, f"  nobody-here , {one.namespace},,{two.namespace} ,")
    one.ready("one")
    two.ready("two")
    listed = guest.pull_secret_names()
    assert listed[:2] == ["own-first", "own-second"]
    assert sorted(listed[2:]) == ["one-pull", "two-pull"]
    passwords = {name: guest.credentials(f"{name}-pull").password for name in ("one", "two")}

    consent(guest, two.namespace)
    until(lambda: not guest.find("secret", "one-pull"), "the pull secret of the one is taken back")
    until(lambda: guest.pull_secret_names() == ["own-first", "own-second", "two-pull"], "only its entry is gone")
    until(lambda: "NamespaceNotConsenting" in one.reasons("one").values(), "the one is told")
    two.ready("two")
    assert guest.credentials("two-pull").password == passwords["two"]
    assert "two-pull=" in annotation(guest)
    assert "one-pull=" not in annotation(guest)
    one.accepted(one.credentials("one-pull"))

    consent(guest, None)
    until(lambda: guest.pull_secret_names() == ["own-first", "own-second"], "the list is as it was")
    until(lambda: not guest.find("secret", "two-pull"), "the pull secret of the other is taken back")
    assert annotation(guest) == ""
    assert guest.find("secret", "own-first") == own

    consent(guest, f"{two.namespace},{one.namespace}")
    one.ready("one")
    two.ready("two")
    assert guest.credentials("one-pull").password == passwords["one"]


@pytest.mark.parametrize(
    "value",
    [
        "*",
        "",
        ",",
        ".*",
        "{owner}*",
        "{owner}-more",
        "more-{owner}",
        "{owner}.more",
        "{owner}/reader",
        "{owner};{owner}",
        "{owner} {owner}",
        '["{owner}"]',
        "{OWNER}",
        "!{owner}",
        "\N{FULLWIDTH ASTERISK}",
        "nobody," * 15_000,
    ],
    ids=lambda value: f"{value[:20]!r}",
)
def test_what_is_no_consent(consenting: tuple[Tenant, Tenant], value: str) -> None:
    owner, guest = consenting
    consent(guest, value.replace("{owner}", owner.namespace).replace("{OWNER}", owner.namespace.upper()))
    until(lambda: not guest.find("secret", "reader-pull"), "the pull secret is taken back")
    until(lambda: "NamespaceNotConsenting" in owner.reasons("reader").values(), "NamespaceNotConsenting")
    assert guest.pull_secret_names() == []


@pytest.mark.parametrize("value", ["{owner}", "{owner},*", " , a,b ,\t{owner}\n,", "nobody," * 15_000 + "{owner}"])
def test_what_is_consent(consenting: tuple[Tenant, Tenant], value: str) -> None:
    owner, guest = consenting
    consent(guest, value.replace("{owner}", owner.namespace))
    owner.ready("reader")
    assert guest.find("secret", "reader-pull")
    assert guest.pull_secret_names() == ["reader-pull"]


@pytest.fixture(scope="module")
def _pair(release: Release, exposure: Exposure) -> Iterator[tuple[Tenant, Tenant]]:
    """A token that is wanted in a second namespace."""
    word = secrets.token_hex(2)
    owner, guest = Tenant(release, f"consent-{word}"), Tenant(release, f"consent-guest-{word}")
    for tenant in (owner, guest):
        tenant.create()
    owner.scope_map("read", ["team/app"])
    owner.token("reader", "read", pullSecret={"serviceAccounts": ["default"], "namespaces": [guest.namespace]})
    yield owner, guest
    for tenant in (owner, guest):
        exposure.keep(tenant.namespace)
        tenant.delete()


@pytest.fixture
def consenting(_pair: tuple[Tenant, Tenant]) -> tuple[Tenant, Tenant]:
    """The two, with consent given."""
    owner, guest = _pair
    consent(guest, owner.namespace)
    owner.ready("reader")
    until(lambda: guest.find("secret", "reader-pull"), "the pull secret is there")
    return owner, guest


# Rivals. Each of the stories waits most of the time, so they run side by side.


def rivalry(tenant: Tenant, plural: str, name: str, undo: Callable[[dict[str, Any] | None], bool]) -> None:
    """A rival undoes what the operator does, for half a minute at least; then it stops, and all is as it should be."""
    start = time.monotonic()
    with Rival(tenant, plural, name, undo) as rival:
        tenant.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
        until(lambda: "Contested" in tenant.reasons("reader").values() or rival.error, "Contested")
        until(lambda: rival.undone >= 4 or rival.error, "three repairs", timeout=300)
        rival.assert_few(time.monotonic() - start)
        token = tenant.find("registrytoken", "reader")
        message = condition(token, "PullSecretsSynced")["message"]
        assert f"{tenant.namespace}/{name}" in message
        assert condition(token, "Ready")["reason"] == "Contested"
        assert condition(token, "PasswordsValid")["status"] == "True"
    # The next repair stands; what is told of it follows once the pause after it is over.
    tenant.ready("reader", timeout=600)
    assert tenant.pull_secret_names()[-1:] == ["reader-pull"]
    tenant.accepted(tenant.credentials("reader-pull"))


def stripped(tenant: Tenant) -> None:
    """It takes our entry out, and nothing else."""

    def undo(account: dict[str, Any] | None) -> bool:
        names = [entry["name"] for entry in (account or {}).get("imagePullSecrets", [])]
        if "reader-pull" not in names:
            return False
        path = f"/imagePullSecrets/{names.index('reader-pull')}"
        patch = [{"op": "test", "path": path, "value": {"name": "reader-pull"}}, {"op": "remove", "path": path}]
        tenant.kubectl("patch", "serviceaccount", "default", "--type=json", "--patch", json.dumps(patch))
        return True

    rivalry(tenant, "serviceaccounts", "default", undo)


def rewritten(tenant: Tenant) -> None:
    """It writes the ServiceAccount as it stands in a repository, annotations included."""
    manifest = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": tenant.namespace},
        "imagePullSecrets": [{"name": "own"}],
    }

    def undo(account: dict[str, Any] | None) -> bool:
        names = [entry["name"] for entry in (account or {}).get("imagePullSecrets", [])]
        if names != ["own"]:
            tenant.kubectl("replace", "-f", "-", input=json.dumps(manifest))
        return "reader-pull" in names

    rivalry(tenant, "serviceaccounts", "default", undo)
    assert tenant.pull_secret_names() == ["own", "reader-pull"]


def complete(secret: dict[str, Any] | None) -> TypeGuard[dict[str, Any]]:
    """Whether the operator is done with it: it creates the Secret, and then gives it an owner."""
    return secret is not None and "ownerReferences" in secret["metadata"]


def spoilt(tenant: Tenant) -> None:
    """It writes another content into the pull secret."""
    other = base64.b64encode(json.dumps({"auths": {}}).encode()).decode()

    def undo(secret: dict[str, Any] | None) -> bool:
        if not complete(secret) or secret["data"][".dockerconfigjson"] == other:
            return False
        patch = json.dumps({"data": {".dockerconfigjson": other}})
        tenant.kubectl("patch", "secret", "reader-pull", "--type=merge", "--patch", patch)
        return True

    rivalry(tenant, "secrets", "reader-pull", undo)


def deleted(tenant: Tenant) -> None:
    """It deletes the pull secret."""

    def undo(secret: dict[str, Any] | None) -> bool:
        if not complete(secret):
            return False
        tenant.kubectl("delete", "secret", "reader-pull", "--wait=false")
        return True

    rivalry(tenant, "secrets", "reader-pull", undo)


def settled(tenant: Tenant) -> None:
    """A user sees it and names the Secret in his own manifest: at peace at once, and it stays so."""
    listed: list[str] = []

    def undo(account: dict[str, Any] | None) -> bool:
        names = [entry["name"] for entry in (account or {}).get("imagePullSecrets", [])]
        if names == listed:
            return False
        set_entries(tenant, *listed)
        return True

    with Rival(tenant, "serviceaccounts", "default", undo) as rival:
        tenant.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
        until(lambda: "Contested" in tenant.reasons("reader").values() or rival.error, "Contested")
        until(lambda: rival.undone >= 3 or rival.error, "two repairs", timeout=300)
        listed.append("reader-pull")
        set_entries(tenant, "reader-pull")
        tenant.ready("reader")
        tenant.kubectl("create", "serviceaccount", "marker")
        assert rival.error is None
    assert tenant.pull_secret_names() == ["reader-pull"]


def put_back(tenant: Tenant) -> None:
    """It keeps the entry and annotation of a token that is long gone."""
    tenant.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
    tenant.ready("reader")
    manifest = tenant.find("serviceaccount", "default")
    for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        manifest["metadata"].pop(field, None)

    def undo(account: dict[str, Any] | None) -> bool:
        if account is None or account.get("imagePullSecrets"):
            return False
        tenant.kubectl("replace", "-f", "-", input=json.dumps(manifest))
        return True

    start = time.monotonic()
    with Rival(tenant, "serviceaccounts", "default", undo) as rival:
        tenant.kubectl("delete", "registrytoken", "reader")
        until(lambda: rival.undone >= 4 or rival.error, "three more sweeps", timeout=300)
        rival.assert_few(time.monotonic() - start)
    until(lambda: tenant.pull_secret_names() == [], "it is swept up in the end", timeout=600)


def copied(tenant: Tenant) -> None:
    """It mirrors the pull secret, labels and all, into a namespace where it does not belong."""
    guest = Tenant(tenant.release, f"{tenant.namespace}-copy")
    guest.create()
    try:
        tenant.token("reader", "read")
        tenant.ready("reader")
        copy = tenant.find("secret", "reader-pull")
        kept = {key: copy["metadata"][key] for key in ("name", "labels", "annotations")}
        copy["metadata"] = kept | {"namespace": guest.namespace}

        def undo(secret: dict[str, Any] | None) -> bool:
            if secret is not None:
                return False
            guest.kubectl("create", "-f", "-", input=json.dumps(copy))
            return True

        start = time.monotonic()
        with Rival(guest, "secrets", "reader-pull", undo) as rival:
            guest.kubectl("create", "-f", "-", input=json.dumps(copy))
            until(lambda: rival.undone >= 4 or rival.error, "four deletions", timeout=300)
            rival.assert_few(time.monotonic() - start)
            tenant.ready("reader")
        until(lambda: not guest.find("secret", "reader-pull"), "it is gone in the end", timeout=600)
        tenant.accepted(tenant.credentials("reader-pull"))
    finally:
        guest.delete()


STORIES = (stripped, rewritten, spoilt, deleted, settled, put_back, copied)


@pytest.fixture(scope="module", autouse=True)
def stories(release: Release, exposure: Exposure) -> Iterator[dict[str, Future[None]]]:
    tenants = []
    for story in STORIES:
        tenant = Tenant(release, f"rival-{story.__name__.replace('_', '-')}-{secrets.token_hex(2)}")
        tenant.create()
        tenant.scope_map("read", ["team/app"])
        tenants.append(tenant)
    with ThreadPoolExecutor(len(STORIES)) as pool:
        yield {story.__name__: pool.submit(story, tenant) for story, tenant in zip(STORIES, tenants, strict=True)}
    for tenant in tenants:
        exposure.keep(tenant.namespace)
        tenant.delete()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_rivals(story: Callable[[Tenant], None], stories: dict[str, Future[None]]) -> None:
    stories[story.__name__].result()
