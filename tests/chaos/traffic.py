"""What a proxy has seen of one process, and what it tells of the leader election."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

CHANGING = ("POST", "PUT", "PATCH", "DELETE")


@dataclass
class Request:
    """One request of the process behind a proxy. Times are the event loop's, in seconds.

    The proxy reads whatever the kernel has of a connection at once. So a request that it met after a moment was sent
    after that moment, however long the process had slept before.
    """

    sender: str
    """Name of the process."""
    at: float
    """When its head had arrived."""
    method: str
    path: str
    watch: bool = False
    page: bool = False
    """Whether it goes on with a list."""
    stored: int = 0
    """The API server's status; 0 where it was not asked, or has not answered."""
    told: int = 0
    """The status that the process was told, which may be the proxy's own; 0 where it was told nothing."""
    ended: float | None = None
    """When it was over."""

    @property
    def changes(self) -> bool:
        """Whether it is a write."""
        return self.method in CHANGING

    def concerns(self, namespace: str, resources: Collection[str]) -> bool:
        """Whether it is about objects of these kinds, all of them of the core group, in one namespace."""
        match self.path.split("/"):
            case ["", "api", "v1", "namespaces", place, plural, *_]:
                return place == namespace and plural in resources
        return False

    @property
    def lease(self) -> bool:
        """Whether it is about the Lease, which is the business of standbys, too."""
        return self.path.startswith("/apis/coordination.k8s.io/")

    @property
    def works(self) -> bool:
        """Whether it is a write that only the holder of the Lease may send."""
        return self.changes and not self.lease

    @property
    def takes_lease(self) -> bool:
        """Whether it has renewed or taken the Lease."""
        return self.changes and self.lease and 200 <= self.stored < 300

    def __str__(self) -> str:
        return f"{self.sender} at {self.at:.3f}: {self.method} {self.path} ({self.stored}, told {self.told})"


@dataclass(frozen=True)
class Usurpation:
    """A write without the Lease, and the request by which another process had got it."""

    write: Request
    lease: Request

    def __str__(self) -> str:
        seconds = self.write.at - (self.lease.ended or self.lease.at)
        return f"{self.write}, {seconds:.3f} s after {self.lease.sender} had renewed the Lease"


def usurped(requests: Iterable[Request]) -> list[Usurpation]:
    """The writes that a process sent after another one had got the Lease, and before it had the Lease itself again.

    Between the moment that the API server stores a Lease and the moment that its new holder hears of it, nobody can
    say who is first; what is sent then is not counted.
    """
    moments: list[tuple[float, int, Request]] = []
    for request in requests:
        if request.takes_lease and request.ended is not None:
            moments.append((request.ended, 0, request))
        elif request.works:
            moments.append((request.at, 1, request))
    moments.sort(key=lambda moment: moment[:2])
    lease: Request | None = None
    found = []
    for _, kind, request in moments:
        if kind == 0:
            lease = request
        elif lease is not None and request.sender != lease.sender:
            found.append(Usurpation(request, lease))
    return found
