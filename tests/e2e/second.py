"""A second registry in the cluster, which the release serves beside its own."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster import images, toolchain
from tests.cluster.install import NAMESPACE, Release

NAME = "second"
NODE_PORT = 30600
"""Beyond those that clusters take for themselves."""
HOST = f"localhost:{NODE_PORT}"
SERVICE = "second-registry"
VALUES = {"name": NAME, "hosts": [HOST], "service": SERVICE, "issuer": "second-issuer", "lifetimeSeconds": 60}
TRUST = f"pullpass-trust-{NAME}"


def objects(release: Release) -> list[dict[str, Any]]:
    """What it consists of. It is in the release's namespace, as it mounts the trust bundle."""
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": "/var/lib/registry"}},
        "http": {"addr": ":5000"},
        "auth": {
            "token": {
                "realm": release.realm,
                "service": SERVICE,
                "issuer": VALUES["issuer"],
                "rootcertbundle": "/etc/pullpass/ca.crt",
            }
        },
    }
    labels, meta = {"app": NAME}, {"name": NAME, "namespace": NAMESPACE}
    volumes: dict[str, tuple[str, dict[str, Any]]] = {
        "config": ("/etc/distribution", {"configMap": {"name": NAME}}),
        "trust": ("/etc/pullpass", {"configMap": {"name": TRUST}}),
        "storage": ("/var/lib/registry", {"emptyDir": {}}),
    }
    container = {
        "name": "registry",
        "image": images.REGISTRY,
        "imagePullPolicy": "Never",
        "args": ["serve", "/etc/distribution/config.yml"],
        "env": [{"name": "OTEL_TRACES_EXPORTER", "value": "none"}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 5000}, "periodSeconds": 1},
        "volumeMounts": [{"name": name, "mountPath": path} for name, (path, _) in volumes.items()],
    }
    pod = {
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": name, **source} for name, (_, source) in volumes.items()],
        # Its images go with its pod, so it stays where no test drains a node.
        "nodeSelector": {"kubernetes.io/hostname": release.cluster.nodes[0]},
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"config.yml": json.dumps(config)}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {
                "type": "NodePort",
                "selector": labels,
                "ports": [{"port": 5000, "targetPort": 5000, "nodePort": NODE_PORT}],
            },
        },
    ]


@contextmanager
def running(release: Release) -> Iterator[str]:
    """Runs it while the context lasts; gives the address at which programs of this machine reach it."""
    kubectl = release.cluster.kubectl
    made = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects(release)})
    kubectl("apply", "-f", "-", input=made)
    try:
        kubectl("rollout", "status", f"deployment/{NAME}", "-n", NAMESPACE, "--timeout=120s")
        if release.trust is not None:
            # It has no TLS itself, and sends clients to the token server, which has.
            release.cluster.trust(f"http://{HOST}", release.trust.read_text())
        with _forwarded(release) as address:
            yield address
    finally:
        kubectl("delete", "-f", "-", "--wait=false", "--ignore-not-found", input=made)


@contextmanager
def _forwarded(release: Release) -> Iterator[str]:
    """Only the release's own NodePorts are open on this machine."""
    command = [str(toolchain.tool("kubectl")), "port-forward", "-n", NAMESPACE, f"service/{NAME}", ":5000"]
    environment = {**os.environ, "KUBECONFIG": str(release.cluster.kubeconfig)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert found, f"kubectl port-forward says {line!r}"
            yield f"localhost:{found[1]}"
        finally:
            process.terminate()
