"""Follows what stands in all pull secrets of a cluster, and customers who log in with that all the time."""

import json
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.cluster.install import Release

from .tokens import Credentials, login

READ_SECONDS = 0.5
PAUSE = 0.02
SELECTOR = "pullpass.dev/component=pull-secret"


@dataclass(frozen=True)
class Place:
    """A pull secret in a namespace."""

    namespace: str
    secret: str


class PullSecrets:
    """What stands in the pull secrets, read twice a second, and the passwords that each has held so far."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._held: dict[Place, tuple[float, Credentials]] = {}
        self.ids: dict[Place, list[str]] = {}
        """The ids of the passwords that each place has held, in order."""

    def read(self) -> None:
        """Reads all of them."""
        at = time.monotonic()
        done = self._release.cluster.kubectl("get", "secrets", "-A", "-l", SELECTOR, "-o", "json")
        for secret in json.loads(done.stdout)["items"]:
            place = Place(secret["metadata"]["namespace"], secret["metadata"]["name"])
            if self._release.registry not in Credentials.hosts(secret):
                continue
            credentials = Credentials.read(secret, self._release.registry)
            self._held[place] = at, credentials
            ids = self.ids.setdefault(place, [])
            if credentials.id not in ids:
                ids.append(credentials.id)

    def held(self, place: Place) -> tuple[float, Credentials] | None:
        """What a place held when it was last read, and when that was, on the monotonic clock."""
        return self._held.get(place)


class Customers:
    """Log in with what these places hold, one after the other; `places` may grow meanwhile.

    A password that was read longer than `overlap` seconds ago may have been replaced since, and its refusal says
    nothing. What is refused sooner should not have been.
    """

    def __init__(self, release: Release, secrets: PullSecrets, places: Collection[Place], overlap: float) -> None:
        self._release = release
        self._secrets = secrets
        self._places = places
        self._overlap = overlap
        self.accepted = 0
        self.refused: list[str] = []

    def visit(self) -> None:
        """Logs in once with what each of the places holds."""
        for place in list(self._places):
            if (held := self._secrets.held(place)) is None:
                continue
            read_at, credentials = held
            answer = login(self._release, credentials)
            seconds = time.monotonic() - read_at
            if answer.accepted:
                self.accepted += 1
            elif seconds < self._overlap:
                self.refused.append(
                    f"{time.strftime('%H:%M:%S')} {place.namespace}/{place.secret}: password {credentials.id}, read "
                    f"{seconds:.1f} s before: HTTP {answer.status}"
                )


@contextmanager
def repeating(what: Callable[[], None], pause: float) -> Iterator[None]:
    """Does it again and again in a thread while the context lasts. Raises what has stopped it."""
    over, errors = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            while not over.is_set():
                what()
                over.wait(pause)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=60)
    for error in errors:
        raise error
