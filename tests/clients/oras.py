"""oras: GET at the realm, with the library that Helm uses too."""

import json
from pathlib import Path

from tests.cluster import toolchain

from .client import WRONG, Client, layout_digest
from .content import TAG, Content

# Answers to HEAD have no text.
_SAYS = {
    "": "unauthorized: authentication required",
    **dict.fromkeys(("push none", "delete none", "referrers none"), "401: Unauthorized"),
    **dict.fromkeys(("wrong", "anonymous"), WRONG),
}


class Oras(Client):
    name = "oras"
    says = _SAYS

    def login(self) -> None:
        assert self.credentials is not None
        user = ("--username", self.credentials.username, "--password-stdin")
        self._oras("login", self.plain(), *user, self.registry, stdin=self.credentials.password)

    def pull(self, image: str) -> str:
        layout = self.fresh("pulled")
        self._oras(
            "cp",
            self.plain("from-plain-http"),
            self._at(image),
            "--to-oci-layout",
            f"{layout}:{TAG}",
        )
        return layout_digest(layout)

    def push(self, content: Content, image: str) -> None:
        source = ("--from-oci-layout", f"{content.layout}:{TAG}")
        self._oras("cp", *source, self.plain("to-plain-http"), self._at(image))

    def mount(self, source: str, target: str) -> None:
        self._oras(
            "cp",
            self.plain("from-plain-http"),
            self._at(source),
            self.plain("to-plain-http"),
            self._at(target),
        )

    def tags(self, repository: str) -> list[str]:
        return self._oras("repo", "tags", self.plain(), self._at(repository)).split()

    def catalog(self) -> list[str]:
        return self._oras("repo", "ls", self.plain(), self.registry).split()

    def delete(self, image: str) -> None:
        self._oras("manifest", "delete", "--force", self.plain(), self._at(image))

    def referrers(self, image: str) -> list[str]:
        found = json.loads(self._oras("discover", self.plain(), "--format=json", self._at(image)))
        return [entry["digest"] for entry in found["referrers"]]

    def _at(self, image: str) -> str:
        return f"{self.registry}/{image}"

    def _oras(self, *arguments: str | Path, stdin: str | None = None) -> str:
        return self.run(toolchain.tool("oras"), *arguments, stdin=stdin)
