"""Helm 3 and Helm 4, with charts in a registry."""

import re
from pathlib import Path
from typing import ClassVar

from tests.cluster import toolchain

from .client import WRONG, Client
from .content import CHART, TAG, Content

# Answers to HEAD have no text.
_SAYS = {
    "": "unauthorized: authentication required",
    "push none": "401: Unauthorized",
    "wrong": WRONG,
    "anonymous": WRONG,
}


class Helm4(Client):
    name = "helm4"
    takes = "chart"
    says = _SAYS
    program: ClassVar[str] = "helm"

    def login(self) -> None:
        assert self.credentials is not None
        user = ("--username", self.credentials.username, "--password-stdin")
        self._helm("registry", "login", self.plain(), *user, self.registry, stdin=self.credentials.password)

    def pull(self, image: str) -> str:
        repository, _, version = image.partition(":")
        target = self.fresh("pulled")
        said = self._helm("pull", self.plain(), self._at(repository), "--version", version, "--destination", target)
        assert (target / f"{CHART}-{TAG}.tgz").exists()
        found = re.search(r"Digest: (\S+)", said)
        assert found, said
        return found[1]

    def push(self, content: Content, image: str) -> None:
        """The name of the chart is the end of the repository, and its version the tag."""
        repository, _, version = image.partition(":")
        above, _, name = repository.rpartition("/")
        assert (name, version) == (CHART, TAG)
        self._helm("push", self.plain(), content.archive, self._at(above))

    def tags(self, repository: str) -> list[str]:
        """Helm shows no list, but to find the newest version it reads one."""
        shown = self._helm("show", "chart", self.plain(), self._at(repository))
        return re.findall(r"^version: (\S+)$", shown, re.MULTILINE)

    def environment(self) -> dict[str, str]:
        home = self.directory
        places = {f"HELM_{kind}_HOME": f"{home}/{kind.lower()}" for kind in ("CONFIG", "CACHE", "DATA")}
        return {**super().environment(), **places, "HELM_REGISTRY_CONFIG": f"{home}/registry.json"}

    def _at(self, repository: str) -> str:
        return f"oci://{self.registry}/{repository}"

    def _helm(self, *arguments: str | Path, stdin: str | None = None) -> str:
        done = self.running(toolchain.tool(self.program), *arguments, stdin=stdin)
        return f"{done.stdout}{done.stderr}"  # Helm 3 says on one what Helm 4 says on the other


class Helm3(Helm4):
    name = "helm3"
    program = "helm3"
