"""Customers who log in all the time, and keep count of every answer and of every connection that fails."""

import base64
import collections
import http.client
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tests.cluster.install import Release

from .tokens import Credentials
from .waiting import until

PAUSE = 0.02
"""Seconds between a customer's logins."""


class Customer:
    """Logs in again and again with the credentials that it is told; unlike `login` it forgives nothing.

    A new connection for each login, as a container runtime has it, or the same one for as long as the server keeps it,
    as a busy proxy has it.
    """

    def __init__(self, release: Release, credentials: Callable[[], Credentials], *, keep_alive: bool) -> None:
        url = urllib.parse.urlsplit(release.realm)
        self._target = f"{url.path}?service=registry"
        self._connection = (
            http.client.HTTPSConnection(url.hostname or "", url.port, timeout=20, context=release.context)
            if release.tls
            else http.client.HTTPConnection(url.hostname or "", url.port, timeout=20)
        )
        self._credentials = credentials
        self._keep_alive = keep_alive
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._buy)
        self.accepted = 0
        self.refused: list[str] = []
        """What every answer but 200 said, with the id of the password."""
        self.broken: list[str] = []
        """Why a connection failed: it was not made, or ended without an answer."""
        self.ids: list[str] = []
        """The passwords seen, in order."""
        self.error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(timeout=60)
        self._connection.close()

    def _buy(self) -> None:
        try:
            while not self._over.wait(PAUSE):
                self._log_in(self._credentials())
        except BaseException as error:
            self.error = error

    def _log_in(self, credentials: Credentials) -> None:
        if credentials.id not in self.ids:
            self.ids.append(credentials.id)
        basic = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
        try:
            self._connection.request("GET", self._target, headers={"Authorization": f"Basic {basic}"})
            with self._connection.getresponse() as answer:
                said = answer.read().decode(errors="replace")
                status = answer.status
        except (OSError, http.client.HTTPException) as error:
            self.broken.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}")
            self._connection.close()
            return
        if status != 200:
            self.refused.append(f"{time.strftime('%H:%M:%S')} {credentials.id}: {status} {said}")
        elif json.loads(said)["token"]:
            self.accepted += 1
        if not self._keep_alive:
            self._connection.close()


class Crowd:
    """Several customers, and what they have met with together."""

    def __init__(self, customers: list[Customer]) -> None:
        self._customers = customers

    @property
    def accepted(self) -> int:
        return sum(customer.accepted for customer in self._customers)

    @property
    def refused(self) -> list[str]:
        return [text for customer in self._customers for text in customer.refused]

    @property
    def broken(self) -> list[str]:
        return [text for customer in self._customers for text in customer.broken]

    @property
    def ids(self) -> list[str]:
        """The passwords that somebody has logged in with, in order."""
        return list(dict.fromkeys(id for customer in self._customers for id in customer.ids))

    def go_on(self) -> None:
        """Wait until every customer has been accepted some more times. Raises what has stopped one of them."""
        before = [customer.accepted for customer in self._customers]

        def served() -> bool:
            for customer in self._customers:
                if customer.error:
                    raise customer.error
            return all(now.accepted >= then + 5 for now, then in zip(self._customers, before, strict=True))

        until(served, "every customer is served")


@contextmanager
def shopping(
    release: Release, credentials: Callable[[], Credentials], *, new: int = 3, kept: int = 2
) -> Iterator[Crowd]:
    """Customers with a new connection for each login, and such that keep theirs, for as long as the block lasts."""
    customers = [Customer(release, credentials, keep_alive=number >= new) for number in range(new + kept)]
    crowd = Crowd(customers)
    with ExitStack() as stack:
        for customer in customers:
            stack.callback(customer.stop)
            customer.start()
        crowd.go_on()
        yield crowd
        crowd.go_on()
    counted = collections.Counter(text.partition(" ")[2] for text in [*crowd.refused, *crowd.broken])
    print(f"{crowd.accepted} logins accepted, {len(crowd.refused)} refused, {len(crowd.broken)} broken: {counted}")
