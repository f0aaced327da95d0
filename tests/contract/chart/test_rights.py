"""Who may do what: no more than is needed."""

import pytest

from tests.contract.chart.rendering import (
    CASES,
    CREDENTIALS,
    NAMESPACE,
    Helm,
    environment_of,
    grants,
    of_kind,
)


@pytest.mark.parametrize("case", CASES)
def test_no_role_says_everything(helm: Helm, case: str) -> None:
    for role in of_kind(helm.render(case=case), "Role", "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_token_server_reads_secrets_of_one_namespace(helm: Helm) -> None:
    rules = list(grants(helm.render(), "pullpass-token-server"))
    assert {verb for _, rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert [namespace for namespace, rule in rules if "secrets" in rule["resources"]] == [CREDENTIALS]
    everywhere = {name for namespace, rule in rules if namespace is None for name in rule["resources"]}
    assert everywhere == {"scopemaps", "registrytokens", "namespaces"}


def test_token_server_follows_the_credentials_namespace(helm: Helm) -> None:
    manifests = helm.render(case="full-values.yaml")
    rules = list(grants(manifests, "my-token-server"))
    assert [namespace for namespace, rule in rules if "secrets" in rule["resources"]] == ["vault"]
    assert environment_of(manifests, "pullpass-operator")["PULLPASS_CREDENTIALS_NAMESPACE"] == "vault"
    assert not of_kind(manifests, "Namespace")


def test_operator_has_no_more_than_this(helm: Helm) -> None:
    rights = {
        (namespace, resource, tuple(rule.get("resourceNames", ()))): set(rule["verbs"])
        for namespace, rule in grants(helm.render(), "pullpass-operator")
        for resource in rule["resources"]
    }
    read = {"get", "list", "watch"}
    assert rights == {
        (None, "scopemaps", ()): read,
        (None, "registrytokens", ()): read,
        (None, "registrytokens/status", ()): {"patch"},
        (None, "namespaces", ()): read,
        (None, "serviceaccounts", ()): read | {"patch"},
        (None, "secrets", ()): read | {"create", "update", "patch", "delete"},
        (None, "events", ()): {"create"},
        (NAMESPACE, "leases", ()): {"create"},
        (NAMESPACE, "leases", ("pullpass-operator",)): {"get", "update"},
        (NAMESPACE, "configmaps", ()): {"create"},
        (NAMESPACE, "configmaps", ("pullpass-trust",)): {"get", "update"},
        (NAMESPACE, "endpointslices", ()): {"list"},
    }


def test_people_change_tokens_but_no_scope_map(helm: Helm) -> None:
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    changing = {"create", "update", "patch", "delete", "deletecollection"}
    for role in of_kind(helm.render(), "ClusterRole"):
        labels = {label for label in role["metadata"]["labels"] if label.startswith(prefix)}
        if not labels:
            continue
        changed = {name for rule in role["rules"] if changing & set(rule["verbs"]) for name in rule["resources"]}
        assert changed == (set() if f"{prefix}view" in labels else {"registrytokens"})
    roles = of_kind(helm.render("--set=rbac.aggregate=false"), "ClusterRole")
    assert {role["metadata"]["name"] for role in roles} == {"pullpass-operator", "pullpass-token-server"}


def test_roles_can_be_left_to_others(helm: Helm) -> None:
    kinds = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    assert not of_kind(helm.render("--set=rbac.create=false"), *kinds)
