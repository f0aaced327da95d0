"""A newcomer follows the README word for word, from the point where pullpass is installed. Only the host of the
registry is this cluster's, and the id of the password to revoke the one that the command before has shown."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.cluster import toolchain
from tests.cluster.install import Release
from tests.e2e.exposure import Exposure
from tests.e2e.tenant import Tenant
from tests.e2e.tokens import Credentials
from tests.e2e.waiting import until
from tests.readme import blocks

IMAGE = "tobi-demo/nginx:1"
NAMESPACES = ("web", "web-ci", "web-staging")
SCOPE_MAPS = ("nginx-read", "web-ci")


class Newcomer:
    """Somebody with a terminal, and with nothing but the README."""

    def __init__(self, release: Release, directory: Path) -> None:
        self._release = release
        self._directory = directory
        toolchain.install_debian(["jq"])
        path = f"{toolchain.tool('kubectl').parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "KUBECONFIG": str(release.cluster.kubeconfig), "PATH": path}

    def run(self, command: str) -> str:
        """What it prints; it must succeed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace("registry.example.com", self._release.registry)],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout

    def apply(self, content: str) -> None:
        """Applies what is to be applied."""
        self._release.cluster.kubectl("apply", "--filename", "-", input=content)


@pytest.fixture(scope="module")
def newcomer(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    return Newcomer(release, tmp_path_factory.mktemp("newcomer"))


@pytest.fixture(scope="module")
def web(release: Release, exposure: Exposure, publish: Callable[..., None], newcomer: Newcomer) -> Iterator[Tenant]:
    """Namespace `web` after the fourth step of the installation."""
    publish(IMAGE)
    kubectl = release.cluster.kubectl
    gone = ("--ignore-not-found", "--timeout=150s")
    kubectl("delete", "namespace", *NAMESPACES, *gone, timeout=160)  # of a run that was cut off
    tenant = Tenant(release, "web")
    try:
        _, _, allow, _, _ = blocks("Install it on your cluster")
        shown = newcomer.run(allow)
        assert re.search(r"^nginx-reader +True +Ready +nginx-read", shown, re.MULTILINE)
        yield tenant
        for namespace in NAMESPACES:
            exposure.keep(namespace)
    finally:
        kubectl("delete", "namespace", *NAMESPACES, *gone, timeout=160)
        kubectl("delete", "scopemap", *SCOPE_MAPS, "--ignore-not-found")


def test_a_pod_that_names_no_pull_secret_runs(web: Tenant, newcomer: Newcomer) -> None:
    until(lambda: web.find("serviceaccount", "default"), "the ServiceAccount that pods get")
    _, _, _, run, _ = blocks("Install it on your cluster")
    newcomer.run(run)
    web.runs("nginx")
    assert web.find("pod", "nginx")["spec"]["imagePullSecrets"] == [{"name": "nginx-reader-pull"}]


def test_the_bundle_that_a_registry_needs_can_be_copied(web: Tenant, newcomer: Newcomer) -> None:
    [copy] = blocks("Connect a registry")
    [ca] = x509.load_pem_x509_certificates(newcomer.run(f"{copy}\ncat pullpass-ca.crt").encode())
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_two_kinds_with_every_field_that_is_shown(web: Tenant, newcomer: Newcomer) -> None:
    scope_map, token = blocks("The two kinds", "yaml")
    [consent] = blocks("The two kinds")
    pusher, staging = Tenant(web.release, "web-ci"), Tenant(web.release, "web-staging")
    for tenant in (pusher, staging):
        tenant.create()
        tenant.kubectl("create", "serviceaccount", "builder")
    newcomer.apply(scope_map)
    newcomer.apply(token)
    until(
        lambda: pusher.reasons("pusher").get("Ready") == "NamespaceNotConsenting",
        "the other namespace has not consented",
    )
    newcomer.run(consent)
    pusher.ready("pusher")
    assert pusher.login(pusher.credentials("registry-login"), "repository:web/site:pull,push").accepted
    assert pusher.pull_secret_names("builder") == staging.pull_secret_names("builder") == ["registry-login"]


def test_somebody_outside_is_told_how_to_log_in(web: Tenant, newcomer: Newcomer) -> None:
    [token] = blocks("Somebody outside the cluster", "yaml")
    [show] = blocks("Somebody outside the cluster")
    newcomer.apply(token)
    web.ready("customer")
    said = newcomer.run(show).splitlines()
    [line] = [line for line in said if f" {web.release.registry} " in line]
    found = re.fullmatch(r"docker login \S+ --username (\S+) --password (\S+)", line)
    assert found
    assert web.login(Credentials(found[1], found[2]), "repository:samples/a:pull").accepted


def test_passwords_are_replaced_and_revoked_by_hand(web: Tenant, newcomer: Newcomer) -> None:
    def successor(old: Credentials) -> Credentials:
        until(lambda: web.credentials("nginx-reader-pull").id != old.id, f"a password other than {old.id}")
        return web.credentials("nginx-reader-pull")

    first = web.credentials("nginx-reader-pull")
    newcomer.run(*blocks("Rotate now"))
    second = successor(first)
    web.accepted(first)
    newcomer.run(*blocks("Regenerate after a leak"))
    third = successor(second)
    web.refused(first)
    web.refused(second)
    web.ready("nginx-reader")
    [revoke] = blocks("Revoke one password")
    assert "4f9c1e" in revoke
    assert f"{third.id} password" in newcomer.run(revoke.replace("4f9c1e", third.id))
    web.refused(third)
    web.accepted(successor(third))
