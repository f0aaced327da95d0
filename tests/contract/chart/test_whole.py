"""The chart as a whole: names, labels, notes, and the same every time."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.cluster import toolchain
from tests.contract.chart.rendering import (
    CASES,
    CHART,
    CRDS_KNOWN,
    Helm,
    Manifest,
    notes,
    of_kind,
)


@pytest.mark.parametrize("case", CASES)
def test_lint_finds_nothing(helm: Helm, case: str) -> None:
    version = ("--kube-version", "1.36.0")
    done = helm.run("lint", "--strict", CHART, "--values", CHART / "ci" / case, *version)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@pytest.mark.parametrize("case", CASES)
def test_render_is_the_same_every_time(helm: Helm, case: str) -> None:
    values = ("--values", CHART / "ci" / case)
    first, second = (helm.template(*values) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout


@pytest.mark.parametrize("case", CASES)
def test_both_helms_render_the_same(case: str) -> None:
    three, four = (Helm(toolchain.tool(name)).render(case=case) for name in ("helm3", "helm"))

    def key(manifest: Manifest) -> str:
        return json.dumps(manifest, sort_keys=True)

    assert sorted(three, key=key) == sorted(four, key=key)


def test_nothing_is_made_up_or_looked_up_by_a_template() -> None:
    text = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    assert not re.findall(r"\b(lookup|genCA|genSignedCert|rand\w+|uuidv4|now)\b(?=[^}\n]*}})", text)


@pytest.mark.parametrize("case", CASES)
def test_every_object_has_the_standard_labels(helm: Helm, case: str) -> None:
    for manifest in helm.render(case=case):
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "pullpass", manifest["metadata"]
        assert labels["app.kubernetes.io/instance"] == "pullpass"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["helm.sh/chart"].startswith("pullpass-")


@pytest.mark.parametrize("case", CASES)
def test_selectors_select_their_own_pods_only(helm: Helm, case: str) -> None:
    manifests = helm.render(case=case)
    labels = {
        deployment["metadata"]["name"]: deployment["spec"]["template"]["metadata"]["labels"]
        for deployment in of_kind(manifests, "Deployment")
    }
    for manifest in of_kind(manifests, "Deployment", "Service", "PodDisruptionBudget"):
        selector = manifest["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        selected = [name for name, pod in labels.items() if wanted.items() <= pod.items()]
        assert selected == [manifest["metadata"]["name"].removesuffix("-management")], manifest["kind"]


@pytest.mark.parametrize("argument", ["--set=fullnameOverride=" + "x" * 63, "--set=nameOverride=" + "y" * 70, ""])
def test_names_stay_names(helm: Helm, argument: str) -> None:
    release = "a-release-with-a-name-that-is-as-long-as-helm-allows"
    extra = (argument,) if argument else ()
    for manifest in helm.render(*extra, case="trial-values.yaml", release=release):
        if manifest["kind"] not in ("CustomResourceDefinition", "ScopeMap"):
            assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", manifest["metadata"]["name"])
        for value in manifest["metadata"]["labels"].values():
            assert len(value) <= 63


def test_notes_give_the_next_command(helm: Helm, tmp_path: Path) -> None:
    said = notes(helm, tmp_path, "trial-values.yaml")
    _, _, rest = said.partition("<<EOF\n")
    scope_map, token = yaml.safe_load_all(rest.partition("\nEOF\n")[0])
    assert (scope_map["kind"], token["kind"]) == ("ScopeMap", "RegistryToken")
    assert token["spec"]["scopeMapRef"]["name"] == scope_map["metadata"]["name"]
    assert token["metadata"]["namespace"] in scope_map["spec"]["allowedNamespaces"]["names"]
    assert "localhost:30500/samples/" in said


def test_notes_warn(helm: Helm, tmp_path: Path) -> None:
    trial = notes(helm, tmp_path, "trial-values.yaml", "--set=tokenServer.replicas=1")
    closed = ("--set=networkPolicy.enabled=true", "--set=serviceMonitor.enabled=true")
    assert "networkPolicy.scrapers is empty" in notes(helm, tmp_path, "trial-values.yaml", *closed)
    for warning in ("one token server replica", "plain http", "emptyDir", "keeps the CRDs", "helm upgrade"):
        assert warning in trial
    calm = notes(helm, tmp_path, "full-values.yaml", *CRDS_KNOWN)
    assert "WARNING" not in calm
    assert "helm upgrade" not in calm
    assert "deletes every scope map and token" in notes(helm, tmp_path, "full-values.yaml", "--set=crds.keep=false")
