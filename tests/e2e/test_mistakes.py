"""Every mistake ends as a condition with its reason, and heals by itself once it is mended."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.cluster.install import Release
from tests.e2e.exposure import Exposure
from tests.e2e.tenant import Tenant, condition
from tests.e2e.waiting import until


def no_change(tenant: Tenant) -> None:
    """The mistake is in the token alone."""


def secret_of_somebody_else(tenant: Tenant) -> None:
    tenant.kubectl("create", "secret", "generic", "foreign-secret-pull", "--from-literal=key=value")


def mended_token(name: str, **spec: Any) -> Callable[[Tenant], None]:
    return lambda tenant: tenant.patch("registrytoken", name, **spec)


def consent(tenant: Tenant) -> None:
    annotation = f"pullpass.dev/accept-pull-secrets-from={tenant.namespace}"
    tenant.kubectl("annotate", "namespace", f"{tenant.namespace}-guest", annotation)


@dataclass(frozen=True)
class Mistake:
    """What is wrong with a token, how it shows, and how a person mends it."""

    name: str
    reason: str
    mend: Callable[[Tenant], Any]
    scope_map: str = "read"
    spec: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[Tenant], Any] = no_change


MISTAKES = [
    Mistake(
        "missing-map",
        "ScopeMapNotFound",
        lambda tenant: tenant.scope_map("later", ["team/app"]),
        scope_map="later",
    ),
    Mistake(
        "not-allowed",
        "NamespaceNotAllowed",
        lambda tenant: tenant.scope_map("others", ["team/app"]),
        scope_map="others",
        prepare=lambda tenant: tenant.scope_map("others", ["team/app"], allowed={"from": "Names", "names": ["nobody"]}),
    ),
    Mistake(
        "not-selected",
        "NamespaceNotAllowed",
        lambda tenant: tenant.kubectl("label", "namespace", tenant.namespace, "team=web"),
        scope_map="selected",
        prepare=lambda tenant: tenant.scope_map(
            "selected",
            ["team/app"],
            allowed={"from": "Selector", "selector": {"matchLabels": {"team": "web"}}},
        ),
    ),
    Mistake(
        "foreign-secret",
        "SecretNotOwned",
        lambda tenant: tenant.kubectl("delete", "secret", "foreign-secret-pull"),
        prepare=secret_of_somebody_else,
    ),
    Mistake(
        "no-account",
        "ServiceAccountNotFound",
        lambda tenant: tenant.kubectl("create", "serviceaccount", "builder"),
        spec={"pullSecret": {"serviceAccounts": ["builder"]}},
    ),
    Mistake(
        "in-the-past",
        "TokenExpired",
        mended_token("in-the-past", expiresAt="2999-12-31T23:59:59Z"),
        spec={"expiresAt": "2026-01-01T00:00:00Z"},
    ),
    Mistake("disabled", "TokenDisabled", mended_token("disabled", enabled=True), spec={"enabled": False}),
    Mistake("no-consent", "NamespaceNotConsenting", consent, spec={"pullSecret": {"namespaces": ["GUEST"]}}),
    Mistake(
        "no-namespace",
        "NamespaceNotFound",
        mended_token("no-namespace", pullSecret={"namespaces": []}),
        spec={"pullSecret": {"namespaces": ["nowhere-at-all"]}},
    ),
]


@pytest.fixture(scope="module")
def tenant(release: Release, exposure: Exposure) -> Iterator[Tenant]:
    """A namespace in which all the mistakes were made at once."""
    made = Tenant(release, "mistakes")
    guest = Tenant(release, "mistakes-guest")
    for namespace in (made, guest):
        namespace.delete(wait=True)
        namespace.create()
    made.scope_map("read", ["team/app"])
    for mistake in MISTAKES:
        mistake.prepare(made)
        spec = dict(mistake.spec)
        if mistake.name == "no-consent":
            spec["pullSecret"] = {"namespaces": [guest.namespace]}
        made.token(mistake.name, mistake.scope_map, **spec)
    yield made
    exposure.keep(made.namespace)
    guest.delete()
    made.delete()


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_shows_and_heals(tenant: Tenant, mistake: Mistake) -> None:
    until(lambda: mistake.reason in tenant.reasons(mistake.name).values(), mistake.reason)
    ready = condition(tenant.find("registrytoken", mistake.name), "Ready")
    assert ready["status"] == "False"
    assert ready["reason"] == mistake.reason
    assert len(ready["message"]) > 20
    mistake.mend(tenant)
    tenant.ready(mistake.name, timeout=120)
    tenant.accepted(tenant.credentials(f"{mistake.name}-pull"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"passwords": {"lifetime": "59s"}}, "at least one minute"),
        ({"passwords": {"lifetime": "1h", "renewBefore": "1h"}}, "must be shorter than lifetime"),
        ({"pullSecret": {"serviceAccounts": ["*", "default"]}}, "must be the only entry"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused_at_once(tenant: Tenant, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        tenant.token("refused", "read", **spec)


@pytest.mark.parametrize("repository", ["a/*/b", "a/team*", "Upper/case", "*/a"])
def test_a_pattern_that_means_nothing_is_refused_at_once(tenant: Tenant, repository: str) -> None:
    with pytest.raises(RuntimeError, match="a repository is a lower-case name"):
        tenant.scope_map("refused", [repository])
