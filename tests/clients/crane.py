"""crane: GET at the realm, with no more scopes than the operation needs."""

from pathlib import Path

from tests.cluster import toolchain

from .client import WRONG, Client, layout_digest
from .content import Content

# Answers to HEAD have no text.
_SAYS = {
    "": "UNAUTHORIZED: authentication required",
    "push none": "401 Unauthorized",
    "wrong": WRONG,
    "anonymous": WRONG,
}


class Crane(Client):
    name = "crane"
    says = _SAYS
    login_asks = False

    def login(self) -> None:
        assert self.credentials is not None
        user = ("--username", self.credentials.username, "--password-stdin")
        self._crane("auth", "login", self.registry, *user, stdin=self.credentials.password)

    def pull(self, image: str) -> str:
        layout = self.fresh("pulled")
        self._crane("pull", "--format=oci", self._at(image), layout)
        return layout_digest(layout)

    def push(self, content: Content, image: str) -> None:
        self._crane("push", content.layout, self._at(image))

    def mount(self, source: str, target: str) -> None:
        self._crane("copy", self._at(source), self._at(target))

    def tags(self, repository: str) -> list[str]:
        return self._crane("ls", self._at(repository)).split()

    def catalog(self) -> list[str]:
        return self._crane("catalog", self.registry).split()

    def delete(self, image: str) -> None:
        repository, _, _ = image.partition(":")
        digest = self._crane("digest", self._at(image)).strip()
        self._crane("delete", self._at(f"{repository}@{digest}"))

    def _at(self, image: str) -> str:
        return f"{self.registry}/{image}"

    def _crane(self, *arguments: str | Path, stdin: str | None = None) -> str:
        return self.run(toolchain.tool("crane"), self.plain("insecure"), *arguments, stdin=stdin)
