"""The chart as it is rendered, under Helm 3 and Helm 4."""

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts/pullpass"
NAMESPACE = "pullpass-system"
CREDENTIALS = "pullpass-system-credentials"
CRDS_KNOWN = ("--api-versions", "pullpass.dev/v1alpha1/ScopeMap")
CASES = sorted(path.name for path in (CHART / "ci").glob("*-values.yaml"))

Manifest = Mapping[str, Any]


class Helm:
    """One version of Helm."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        # Without a kubeconfig, so that no test can reach a cluster.
        environment = {**os.environ, "KUBECONFIG": os.devnull}
        command = [str(self.program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    def template(
        self, *arguments: str | Path, chart: Path = CHART, release: str = "pullpass"
    ) -> subprocess.CompletedProcess[str]:
        # A Helm built from source takes the cluster to be of an old version.
        common = ("--namespace", NAMESPACE, "--kube-version", "1.36.0")
        return self.run("template", release, chart, *common, *arguments)

    @functools.cache  # noqa: B019
    def render(
        self, *arguments: str | Path, case: str = "default-values.yaml", release: str = "pullpass"
    ) -> tuple[Manifest, ...]:
        values = ("--values", CHART / "ci" / case)
        done = self.template(*values, *CRDS_KNOWN, *arguments, release=release)
        assert done.returncode == 0, done.stderr
        return tuple(document for document in yaml.safe_load_all(done.stdout) if document)

    def refusal(self, *arguments: str, host: bool = True) -> str:
        """What Helm says to values that it refuses."""
        values = ("--set", "registryHosts={registry.example.com}") if host else ()
        done = self.template(*values, *arguments)
        assert done.returncode != 0, "these values were accepted"
        return done.stderr


def of_kind(manifests: tuple[Manifest, ...], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def one(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    (found,) = [m for m in of_kind(manifests, kind) if m["metadata"]["name"] == name]
    return found


def pods(manifests: tuple[Manifest, ...]) -> list[Manifest]:
    return [deployment["spec"]["template"] for deployment in of_kind(manifests, "Deployment")]


def arguments_of(manifests: tuple[Manifest, ...], name: str) -> list[str]:
    (container,) = one(manifests, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    arguments: list[str] = container["args"]
    return arguments


def environment_of(manifests: tuple[Manifest, ...], name: str) -> dict[str, str]:
    """The variables whose values the chart knows."""
    (container,) = one(manifests, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}


def grants(manifests: tuple[Manifest, ...], account: str) -> Iterator[tuple[str | None, Manifest]]:
    """Each rule that a service account has, with the namespace that it holds in, None for all."""
    for binding in of_kind(manifests, "RoleBinding", "ClusterRoleBinding"):
        subjects = [(s["kind"], s["namespace"], s["name"]) for s in binding["subjects"]]
        if ("ServiceAccount", NAMESPACE, account) not in subjects:
            continue
        namespace = binding["metadata"].get("namespace")
        (role,) = [
            role
            for role in of_kind(manifests, binding["roleRef"]["kind"])
            if role["metadata"]["name"] == binding["roleRef"]["name"] and role["metadata"].get("namespace") == namespace
        ]
        for rule in role["rules"]:
            yield namespace, rule


def notes(helm: Helm, scratch: Path, case: str, *arguments: str) -> str:
    """The notes of an installation, as an object's text: no Helm prints them without a cluster."""
    chart = shutil.copytree(CHART, scratch / "pullpass", dirs_exist_ok=True)
    text = 'kind: Notes\ntext: |\n  {{- include "pullpass/templates/NOTES.txt" . | nindent 2 }}\n'
    (chart / "templates/notes.yaml").write_text(text)
    done = helm.template("--values", CHART / "ci" / case, *arguments, chart=chart)
    assert done.returncode == 0, done.stderr
    (document,) = [m for m in yaml.safe_load_all(done.stdout) if m and m["kind"] == "Notes"]
    found: str = document["text"]
    return found
