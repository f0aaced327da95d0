"""Values: which there are, what is refused, and where they go."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.chart.rendering import (
    CHART,
    NAMESPACE,
    Helm,
    one,
    pods,
)


def test_schema_is_a_schema_and_knows_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def check(value: Mapping[str, Any], schema_of_it: Mapping[str, Any], path: str) -> None:
        if "$ref" in schema_of_it:
            schema_of_it = schema["definitions"][schema_of_it["$ref"].rpartition("/")[2]]
        if "properties" not in schema_of_it:
            return
        for key, below in value.items():
            assert key in schema_of_it["properties"], f"{path}.{key} is not in the schema"
            if isinstance(below, dict):
                check(below, schema_of_it["properties"][key], f"{path}.{key}")

    check(values, schema, "")
    unused = set(schema["properties"]) - set(values) - {"enabled"}
    assert not unused


def test_readme_lists_every_value_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([A-Za-z.]+)` \| (.+?) \|", (CHART / "README.md").read_text(), re.MULTILINE))
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def leaves(value: object, path: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict) and value and rows.get(path) != "see `values.yaml`":
            for key, below in value.items():
                yield from leaves(below, f"{path}.{key}" if path else key)
        else:
            listed = rows.get(path) == "see `values.yaml`"
            yield path, "see `values.yaml`" if listed else f"`{json.dumps(value)}`"

    assert rows == dict(leaves(values, ""))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["registryHosts={https://registry.example.com}"], "is not a host"),
        (["registryHosts={registry.example.com/team}"], "is not a host"),
        (["accessTokens.lifetimeSeconds=59"], "Use at least 60"),
        (["accessTokens.realm=tokens.example.com"], "is not the URL of a token server"),
        (["registry.enabled=true"], "registry.enabled needs accessTokens.realm"),
        ([f"credentials.namespace={NAMESPACE}"], "Choose another"),
        (
            [
                "tokenServer.podDisruptionBudget.minAvailable=1",
                "tokenServer.podDisruptionBudget.maxUnavailable=0",
            ],
            "a budget takes one of them",
        ),
        (["tokenServer.drainSeconds=26"], "drainSeconds is over 25"),
        (["tokenServer.maxStalenessSeconds=119"], "Use 0, for no limit, or at least 120"),
        (
            ["tokenServer.service.externalTrafficPolicy=Local"],
            "externalTrafficPolicy is set, but",
        ),
        (["systemScopeMaps.allowedNamespaces.from=Selector"], "from is Selector without a selector"),
        (
            ["systemScopeMaps.allowedNamespaces.from=All", "systemScopeMaps.allowedNamespaces.names={web}"],
            "they would be ignored",
        ),
        (["tokenServer.service.nodePort=30501"], "set tokenServer.service.type to NodePort"),
        (["registry.service.nodePort=30500"], "set registry.service.type to NodePort"),
        (["registry.persistence.existingClaim=images"], "the claim would not be used"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_words(helm: Helm, arguments: list[str], sentence: str) -> None:
    assert sentence in helm.refusal(*(f"--set={argument}" for argument in arguments))


def test_hosts_have_to_be_given(helm: Helm) -> None:
    assert "registryHosts is empty: name the host that images are pulled from" in helm.refusal(host=False)


@pytest.mark.parametrize(
    ("argument", "where"),
    [
        ("oprator.replicas=2", "oprator"),
        ("operator.replica=2", "replica"),
        ("tokenServer.replicas=two", "tokenServer"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.digest=sha256:short", "digest"),
        ("credentials.bcryptCost=13", "bcryptCost"),
        ("operator.writesPerSecond=0", "writesPerSecond"),
        ("logging.level=loud", "level"),
        ("tokenServer.service.nodePort=70000", "nodePort"),
        ("systemScopeMaps.allowedNamespaces.from=Some", "from"),
    ],
)
def test_values_of_a_wrong_form_are_refused_by_the_schema(helm: Helm, argument: str, where: str) -> None:
    said = helm.refusal("--set", argument)
    assert "values don't meet the specifications of the schema" in said
    assert where in said


def test_umbrella_chart_may_hand_down_its_globals(helm: Helm, tmp_path: Path) -> None:
    parent = tmp_path / "umbrella"
    shutil.copytree(CHART, parent / "charts/pullpass")
    dependency = {"name": "pullpass", "version": "0.1.0", "condition": "pullpass.enabled"}
    chart = {"apiVersion": "v2", "name": "umbrella", "version": "0.1.0", "dependencies": [dependency]}
    values = {
        "global": {"imageRegistry": "mirror.example.com", "somethingElse": {"of": "another chart"}},
        "pullpass": {"enabled": True, "registryHosts": ["registry.example.com"]},
    }
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))
    (parent / "values.yaml").write_text(yaml.safe_dump(values))
    done = helm.template(chart=parent)
    assert done.returncode == 0, done.stderr
    assert 'image: "mirror.example.com/pullpass:' in done.stdout


def test_images_by_tag_digest_and_mirror(helm: Helm) -> None:
    def images(*arguments: str, case: str = "default-values.yaml") -> list[str]:
        return [pod["spec"]["containers"][0]["image"] for pod in pods(helm.render(*arguments, case=case))]

    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert images() == [f"pullpass:{version}"] * 2
    assert images("--set-string=image.tag=7") == ["pullpass:7"] * 2
    digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    full = images(case="full-values.yaml")
    assert full.count(f"mirror.example.com/pullpass@{digest}") == 2
    assert full.count("mirror.example.com/registry:3.1.2") == 1


def test_settings_of_pods_reach_them(helm: Helm) -> None:
    manifests = helm.render(case="full-values.yaml")
    pod = one(manifests, "Deployment", "pullpass-operator")["spec"]["template"]
    assert pod["metadata"]["labels"]["tier"] == "control"
    assert pod["metadata"]["labels"]["team"] == "platform"
    assert pod["metadata"]["annotations"]["example.com/note"] == "operator"
    spec = pod["spec"]
    assert spec["imagePullSecrets"] == [{"name": "own"}, {"name": "mirror"}]
    assert spec["priorityClassName"] == "system-cluster-critical"
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["affinity"] == {"nodeAffinity": {}}
    assert spec["serviceAccountName"] == "my-operator"
    (container,) = spec["containers"]
    assert [variable["name"] for variable in container["env"]][-2:] == ["POD_NAME", "HTTPS_PROXY"]
    assert container["args"][-1] == "--metrics-port=8082"
