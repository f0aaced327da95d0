"""Settings of the token server process; each is a flag of `pullpass token-server`."""

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from pullpass.api.registries import Registries
from pullpass.credentials.hashing import DEFAULT_COST, MAXIMUM_COST


@dataclass(frozen=True)
class TokenServerSettings:
    """Settings of one token server. Raises ValueError for a bcrypt cost out of range."""

    credentials_namespace: str
    """Namespace of the credential records and the signing leaves."""
    registries: Registries
    """The registries that access tokens are issued for."""
    host: str = ""
    """Address to listen on; empty for all."""
    port: int = 8080
    """Port for token requests."""
    management_port: int = 8081
    """Port for probes, metrics and the operator's requests: plain HTTP, and not for clients."""
    tls_directory: Path | None = None
    """Directory of the certificate (tls.crt) and its key (tls.key). None: plain HTTP, for use behind an Ingress."""
    max_staleness: timedelta | None = None
    """Answer 503 once the cache is older than this. None: answer from the cache for ever. Values below two minutes
    refuse requests in normal operation: from a quiet API server something comes about once a minute."""
    bcrypt_cost: int = DEFAULT_COST
    """Cost of the hash that unknown users are checked against; set it to the cost of the credential records."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks of the proxies whose X-Forwarded-For headers are trusted."""
    drain_seconds: float = 5.0
    """Seconds from the stop signal to closing the port, so that by then no client is routed here any more."""
    kubeconfig: str | None = None
    """Path of the kubeconfig, for use outside a cluster. None: the pod's ServiceAccount, or the default kubeconfig."""

    def __post_init__(self) -> None:
        if not 4 <= self.bcrypt_cost <= MAXIMUM_COST:
            raise ValueError(f"the bcrypt cost must be from 4 to {MAXIMUM_COST}, not {self.bcrypt_cost}")
