"""Token-server replicas: the real cache, authentication and authorization, each fed by watches of its own that lag.

A replica is ready once it has read everything, and stays ready however far it falls behind after that.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pullpass.api import names
from pullpass.credentials import hashing
from pullpass.tokenserver.authentication import Authenticator
from pullpass.tokenserver.authorization import authorize
from pullpass.tokenserver.cache import AccessCache
from pullpass.tokenserver.errors import UnauthenticatedError
from pullpass.tokenserver.management import Management
from tests.unit.controller.fake_api import Body
from tests.unit.controller.faults.watches import Watch
from tests.unit.controller.world import SETTINGS, checked

if TYPE_CHECKING:
    from tests.unit.controller.faults.scene import Scene

DUMMY = hashing.hash_password("nobody", 4)


class _Checks:
    """bcrypt at once, and once only for each pair of password and hash."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def begin(self, text: str, hash_: str | None) -> "asyncio.Future[bool]":
        future = self._loop.create_future()
        future.set_result(checked(text, hash_ or DUMMY))
        return future


class _Server:
    """What of a token server its management port asks."""

    def __init__(self, replica: "Replica") -> None:
        self._replica = replica

    @property
    def complete(self) -> bool:
        return self._replica.ready

    def why_unready(self) -> str | None:
        return None if self.complete else "not everything was heard from the API server yet"


class Replica:
    """One token server."""

    def __init__(self, scene: "Scene", address: str) -> None:
        self._scene = scene
        self.address = address
        self.ready = False
        self.cache = AccessCache(SETTINGS.registries)
        self._authenticator = Authenticator(self.cache, _Checks(scene.loop))  # type: ignore[arg-type]
        server: Any = _Server(self)
        self.management = Management(server, self.cache, clock=lambda: scene.now)
        self.watches = {
            "namespaces": self._watch("namespaces", self.cache.on_namespace),
            "scopemaps": self._watch("scopemaps", self.cache.on_scope_map),
            "registrytokens": self._watch("registrytokens", self.cache.on_token),
            "secrets": self._watch(
                "secrets",
                self.cache.on_secret,
                namespace=SETTINGS.credentials_namespace,
                selector=names.MANAGED_SELECTOR,
            ),
        }

    def _watch(self, plural: str, take: Callable[[str, Body], None], **of: Any) -> Watch:
        return Watch(self._scene.api, plural, lambda type_, body: take(type_ or "ADDED", body), notices=True, **of)

    @property
    def current(self) -> bool:
        """Whether it has heard everything."""
        return not any(watch.coming for watch in self.watches.values())

    def catch_up(self) -> None:
        """It hears everything."""
        for watch in self.watches.values():
            watch.hear(watch.coming)

    def refusal(self, username: str, text: str) -> str | None:
        """Why it refuses a login now, or None."""
        login = self._authenticator.authenticate(username, text)
        try:
            login.send(None)
        except StopIteration as done:
            try:
                authorize(self.cache, done.value, "default", self._scene.now)
            except UnauthenticatedError as error:
                return error.reason
            return None
        except UnauthenticatedError as error:
            return error.reason
        raise AssertionError("a check that does not wait has waited")
