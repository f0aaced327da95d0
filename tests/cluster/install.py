"""Put pullpass on a cluster as a user does, by Helm: with a registry to try it with, both on NodePorts."""

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from . import images, places, processes, progress, toolchain
from .cluster import Cluster
from .kind import KindCluster

CHART = places.ROOT / "charts/pullpass"
NAME = "pullpass"
NAMESPACE = "pullpass-system"
CREDENTIALS_NAMESPACE = f"{NAMESPACE}-credentials"
OPERATOR = f"{NAME}-operator"
TOKEN_SERVER = f"{NAME}-token-server"
MANAGEMENT = f"{TOKEN_SERVER}-management"
"""Service of its management port."""
REGISTRY = f"{NAME}-registry"
SERVER_TRUST = f"{NAME}-server-trust"
PORT_SECONDS = 60
"""How long the NodePorts may take to lead to the pods."""


@dataclass(frozen=True)
class Release:
    """The Helm release of pullpass on one cluster; `values` go on top of those that every trial needs.

    With `tls` both servers speak it, with certificates of the operator's, which the nodes are told to trust.
    """

    cluster: KindCluster
    values: Mapping[str, Any] = field(default_factory=dict)
    tls: bool = False

    @property
    def registry(self) -> str:
        """Host and port of the registry, the first part of image references on the node and on this machine."""
        return f"localhost:{self.cluster.registry_port}"

    @property
    def realm(self) -> str:
        """URL of the token server's endpoint."""
        return f"{self._scheme}://localhost:{self.cluster.token_port}/token"

    @property
    def registry_url(self) -> str:
        """URL of the registry."""
        return f"{self._scheme}://{self.registry}"

    @property
    def trust(self) -> Path | None:
        """The CA of both servers as a file, None where they speak plain HTTP."""
        return self.cluster.kubeconfig.with_suffix(".server-ca.crt") if self.tls else None

    @property
    def context(self) -> ssl.SSLContext | None:
        """The same, for clients in Python."""
        return ssl.create_default_context(cafile=self.trust) if self.tls else None

    @property
    def _scheme(self) -> str:
        return "https" if self.tls else "http"

    def install(self) -> None:
        """Install the release, or upgrade it to what the repository now holds, and wait until it is ready."""
        product, registry = images.product(), images.registry()
        with progress.step("loading images"):
            self.cluster.load_image(product)
            self.cluster.load_image(registry)
        with progress.step("installing pullpass"):
            self._install(product)

    def _install(self, product: Path) -> None:
        command = ["upgrade", "--install", NAME, str(CHART), "--create-namespace"]
        try:
            self.helm(*command, "--wait", "--timeout=3m", "--values=-", input=self._values(product))
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self._pods()}") from None
        if self.trust is not None:
            form = ("-n", NAMESPACE, "--output", "jsonpath={.data.ca\\.crt}")
            ca = self.cluster.kubectl("get", "configmap", SERVER_TRUST, *form).stdout
            self.trust.write_text(ca)
            self.cluster.trust(self.registry_url, ca)
        # Ready pods come before kube-proxy has led the NodePorts to them.
        for url in (self.realm, f"{self.registry_url}/"):
            _await_answer(url, self.context)

    def uninstall(self) -> None:
        """Uninstall the release and wait until its pods are gone."""
        self.helm("uninstall", NAME, "--wait", "--timeout=2m")
        # Helm waits for the Deployments; their pods end after them.
        pods = ("pod", "-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={NAME}")
        self.cluster.kubectl("wait", "--for=delete", *pods, "--timeout=60s")

    def helm(self, *arguments: str, input: str | None = None) -> str:
        """Run Helm on the release's namespace and return what it prints."""
        return helm(self.cluster, *arguments, input=input)

    def _values(self, product: Path) -> str:
        # The tag is always the same, so the pods learn from an annotation that its content is another.
        build = {"podAnnotations": {"build": product.stem}}
        base: dict[str, Any] = {
            "registryHosts": [self.registry],
            "image": _image(images.PRODUCT),
            "accessTokens": {"realm": self.realm},
            "operator": build,
            "tokenServer": {
                **build,
                "tls": {"enabled": self.tls},
                "service": {"type": "NodePort", "nodePort": self.cluster.token_port},
            },
            "registry": {
                "enabled": True,
                "tls": {"enabled": self.tls},
                "image": _image(images.REGISTRY),
                "service": {"type": "NodePort", "nodePort": self.cluster.registry_port},
                # Its images go with its pod, so it stays where no test drains a node.
                "nodeSelector": {"kubernetes.io/hostname": self.cluster.nodes[0]},
            },
        }
        return yaml.safe_dump(_merged(base, self.values))

    def _pods(self) -> str:
        """What the release's pods look like and say, for the reader of a failed installation."""
        kubectl = self.cluster.kubectl
        selector = ("-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={NAME}")
        pods = kubectl("get", "pods", "-o", "wide", "-n", NAMESPACE, check=False).stdout
        logs = kubectl("logs", *selector, "--prefix", "--tail=15", check=False).stdout
        return f"{pods}{logs}"


def helm(cluster: Cluster, *arguments: str, input: str | None = None) -> str:
    """Run Helm on the release's namespace of this cluster and return what it prints."""
    command: list[str | Path] = [toolchain.tool("helm"), *arguments, f"--namespace={NAMESPACE}"]
    return processes.run(command, input=input, env={"KUBECONFIG": str(cluster.kubeconfig)}, timeout=300).stdout


def _await_answer(url: str, tls: ssl.SSLContext | None) -> None:
    end = time.monotonic() + PORT_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5, context=tls):
                return
        except urllib.error.HTTPError as refusal:  # as the token server answers to who brings no password
            refusal.close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise RuntimeError(f"{url} does not answer: {error}") from None
            time.sleep(0.2)


def _image(reference: str) -> dict[str, str]:
    repository, _, tag = reference.rpartition(":")
    return {"repository": repository, "tag": tag, "pullPolicy": "Never"}


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in more.items():
        before = merged.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return merged
