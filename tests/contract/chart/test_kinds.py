"""The CRDs, the credentials namespace and the system scope maps."""

import yaml

from tests.contract.chart.rendering import (
    CHART,
    CREDENTIALS,
    Helm,
    of_kind,
)


def test_crds_are_kept_and_whole(helm: Helm) -> None:
    files = {file.name: yaml.safe_load(file.read_text()) for file in (CHART / "files/crds").glob("*.yaml")}
    assert files.keys() == {"pullpass.dev_scopemaps.yaml", "pullpass.dev_registrytokens.yaml"}
    rendered = {m["metadata"]["name"]: m for m in of_kind(helm.render(), "CustomResourceDefinition")}
    assert rendered.keys() == {file["metadata"]["name"] for file in files.values()}
    for file in files.values():
        crd = rendered[file["metadata"]["name"]]
        assert crd["spec"] == file["spec"]
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert file["metadata"].get("annotations", {}).items() <= crd["metadata"]["annotations"].items()


def test_crds_can_go_with_the_release_or_be_left_out(helm: Helm) -> None:
    for crd in of_kind(helm.render("--set=crds.keep=false"), "CustomResourceDefinition"):
        assert "helm.sh/resource-policy" not in crd["metadata"].get("annotations", {})
    assert not of_kind(helm.render("--set=crds.install=false"), "CustomResourceDefinition")


def test_credentials_namespace_outlives_the_release(helm: Helm) -> None:
    (namespace,) = of_kind(helm.render(), "Namespace")
    assert namespace["metadata"]["name"] == CREDENTIALS
    assert namespace["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not of_kind(helm.render("--set=credentials.createNamespace=false"), "Namespace")


def test_system_scope_maps_are_usable_by_none_until_allowed(helm: Helm) -> None:
    maps = {m["metadata"]["name"]: m["spec"] for m in of_kind(helm.render(), "ScopeMap")}
    actions = {name: spec["rules"][0]["actions"] for name, spec in maps.items()}
    assert actions == {
        "repositories-pull": ["content/read"],
        "repositories-push": ["content/read", "content/write"],
        "repositories-admin": [
            "content/read",
            "content/write",
            "content/delete",
            "metadata/read",
            "metadata/write",
        ],
    }
    for spec in maps.values():
        assert [rule["repositories"] for rule in spec["rules"]] == [["*"]]
        assert spec["allowedNamespaces"] == {"from": "Names", "names": []}
    assert not of_kind(helm.render("--set=systemScopeMaps.create=false"), "ScopeMap")


def test_system_scope_maps_are_allowed_as_the_values_say(helm: Helm) -> None:
    path = "--set=systemScopeMaps.allowedNamespaces"
    for scope_map in of_kind(helm.render(f"{path}.from=All"), "ScopeMap"):
        assert scope_map["spec"]["allowedNamespaces"] == {"from": "All"}
    for scope_map in of_kind(helm.render(case="full-values.yaml"), "ScopeMap"):
        selector = {"matchLabels": {"registry": "yes"}}
        assert scope_map["spec"]["allowedNamespaces"] == {"from": "Selector", "selector": selector}


def test_scope_maps_wait_for_their_kind(helm: Helm) -> None:
    done = helm.template("--values", CHART / "ci/default-values.yaml")
    assert done.returncode == 0
    assert "kind: ScopeMap\nmetadata" not in done.stdout
