"""What all registry clients of the matrix have in common: an isolated home, one login, one way of saying no.

An operation that a client lacks is one that its class does not override, so that the table of who can do what is
the classes themselves.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from .content import Content

TIMEOUT = 120
"""Seconds; only a client that hangs needs them."""


class Credentials(Protocol):
    """A user name and a password, as a pull secret has them."""

    @property
    def username(self) -> str: ...

    @property
    def password(self) -> str: ...


class RefusedError(Exception):
    """The client failed and said why in words that a person understands; the text is all that it printed."""


UNDERSTOOD = ("unauthorized", "denied", "authentication required", "authorization failed", "invalid username/password")
"""One of these tells a person that it is a question of rights."""
WRONG = "authentication required: wrong or missing user name or password, or no access any more"
"""The token server's own text, of which most clients print all."""


class Client:
    """One client at one registry, with a configuration of its own below `directory`.

    Each operation raises RefusedError where the client exits with an error and says that it may not, and
    RuntimeError for any other. Images are `repository:tag`. Without credentials the client is not logged in. `trust` is
    the CA that the registry's certificate is of; without it the registry speaks plain HTTP.
    """

    name: ClassVar[str]
    takes: ClassVar[str] = "image"
    """What it pushes and pulls: images or charts."""
    says: ClassVar[Mapping[str, str]]
    """What it prints when it is refused, by `operation rights`, `operation`, `rights`, and `""` for all others."""
    login_asks: ClassVar[bool] = True
    """Whether its login command asks the registry."""
    mounts_config: ClassVar[bool] = True
    """Whether it mounts an image's configuration like a layer, and does not upload it."""

    def __init__(
        self, registry: str, credentials: Credentials | None, directory: Path, trust: Path | None = None
    ) -> None:
        self.registry = registry
        self.credentials = credentials
        self.directory = directory
        self.trust = trust
        directory.mkdir(parents=True, exist_ok=True)

    @classmethod
    def can(cls, operation: str) -> bool:
        """Whether this client has the operation."""
        return getattr(cls, operation) is not getattr(Client, operation)

    def login(self) -> None:
        """The client's own login command."""
        raise NotImplementedError

    def push(self, content: Content, image: str) -> None:
        raise NotImplementedError

    def pull(self, image: str) -> str:
        """The digest of the manifest that was pulled."""
        raise NotImplementedError

    def mount(self, source: str, target: str) -> None:
        """Copy an image to another repository of the registry, without moving its layers."""
        raise NotImplementedError

    def tags(self, repository: str) -> list[str]:
        raise NotImplementedError

    def catalog(self) -> list[str]:
        raise NotImplementedError

    def delete(self, image: str) -> None:
        raise NotImplementedError

    def referrers(self, image: str) -> list[str]:
        """The digests of what refers to the image (signatures, bills of materials)."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Keeps all that clients store below the directory; `localhost` is reached without anybody's proxy."""
        home = str(self.directory)
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        variables = ("HOME", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")
        # What programs in Go take for the CAs that the machine trusts.
        trusted = {"SSL_CERT_FILE": str(self.trust)} if self.trust else {}
        return {**kept, **trusted, **dict.fromkeys(variables, home), "REGISTRY_AUTH_FILE": f"{home}/auth.json"}

    def plain(self, flag: str = "plain-http") -> str:
        """A flag that asks for plain HTTP or denies it: for localhost some clients have a default of their own."""
        return f"--{flag}={'true' if self.trust is None else 'false'}"

    def verify(self, flag: str = "tls-verify") -> str:
        """A flag that asks for a certificate that can be verified."""
        return f"--{flag}={'false' if self.trust is None else 'true'}"

    def run(self, *command: str | Path, stdin: str | None = None) -> str:
        """Run a program and return its standard output.

        Raises RefusedError or RuntimeError with all of what it printed.
        """
        return self.running(*command, stdin=stdin).stdout

    def running(self, *command: str | Path, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """The same, for who needs its standard error too."""
        done = subprocess.run(
            list(map(str, command)),
            input=stdin if stdin is not None else "",
            env=self.environment(),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode:
            said = f"{done.stdout}{done.stderr}"
            raise (RefusedError if any(word in said.lower() for word in UNDERSTOOD) else RuntimeError)(said)
        return done

    def words(self, operation: str, rights: str = "") -> str:
        """What this client is to print when the operation is refused to someone with these rights."""
        keys = (f"{operation} {rights}", operation, rights, "")
        return next(self.says[key] for key in keys if key in self.says)

    def fresh(self, name: str) -> Path:
        """A directory of this client that nothing was put into before."""
        made = self.directory / f"{name}-{sum(1 for _ in self.directory.iterdir())}"
        made.mkdir()
        return made


def layout_digest(layout: Path) -> str:
    """The digest of the one image in an image layout directory."""
    return Content.of_layout(layout).digest
