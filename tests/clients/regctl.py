"""regctl: GET at the realm with client_id and account; its files are JSON of its own."""

from pathlib import Path

from tests.cluster import toolchain

from .client import Client, Credentials, layout_digest
from .content import TAG, Content

_SAYS = {"": "unauthorized"}


class Regctl(Client):
    name = "regctl"
    says = _SAYS

    def __init__(
        self, registry: str, credentials: Credentials | None, directory: Path, trust: Path | None = None
    ) -> None:
        super().__init__(registry, credentials, directory, trust)
        self._regctl("registry", "set", registry, f"--tls={'disabled' if trust is None else 'enabled'}", "--skip-check")

    def login(self) -> None:
        assert self.credentials is not None
        user = ("--user", self.credentials.username, "--pass-stdin")
        self._regctl("registry", "login", self.registry, *user, stdin=self.credentials.password)

    def pull(self, image: str) -> str:
        layout = self.fresh("pulled")
        self._regctl("image", "copy", self._at(image), f"ocidir://{layout}:{TAG}")
        return layout_digest(layout)

    def push(self, content: Content, image: str) -> None:
        self._regctl("image", "copy", f"ocidir://{content.layout}:{TAG}", self._at(image))

    def mount(self, source: str, target: str) -> None:
        self._regctl("image", "copy", self._at(source), self._at(target))

    def tags(self, repository: str) -> list[str]:
        return self._regctl("tag", "list", self._at(repository)).split()

    def catalog(self) -> list[str]:
        return self._regctl("repo", "list", self.registry).split()

    def delete(self, image: str) -> None:
        self._regctl("manifest", "delete", "--force-tag-dereference", self._at(image))

    def referrers(self, image: str) -> list[str]:
        form = "{{range .Descriptors}}{{println .Digest}}{{end}}"
        return self._regctl("artifact", "list", self._at(image), "--format", form).split()

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "REGCTL_CONFIG": f"{self.directory}/regctl.json"}

    def _at(self, image: str) -> str:
        return f"{self.registry}/{image}"

    def _regctl(self, *arguments: str | Path, stdin: str | None = None) -> str:
        return self.run(toolchain.tool("regctl"), *arguments, stdin=stdin)
