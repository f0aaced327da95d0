"""TokenServerSettings of the token server process; each is a flag of `pullpass token-server`."""

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from pullpass.api.registries import Registries
from pullpass.credentials.hashing import DEFAULT_COST, MAXIMUM_COST


@dataclass(frozen=True)
class TokenServerSettings:
    """What the token server issues, and from what."""

    credentials_namespace: str
    """Namespace of the credential records and the signing leaves."""
    registries: Registries
    """Whom access tokens are for."""
    host: str = ""
    """Address to listen on; empty for all."""
    port: int = 8080
    """Port of tokens."""
    management_port: int = 8081
    """Port of probes, metrics and the operator's questions: plain HTTP, and not for clients."""
    tls_directory: Path | None = None
    """Where the certificate (tls.crt) and its key (tls.key) are. None: plain HTTP, for behind an Ingress."""
    max_staleness: timedelta | None = None
    """Answer 503 once the API server has been silent for longer. None: go on answering from memory for ever.
    Below two minutes it would strike in normal operation: a quiet API is heard about once a minute."""
    bcrypt_cost: int = DEFAULT_COST
    """Cost of the hash that unknown users are checked against; to be that of the records."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Whose X-Forwarded-For headers are believed; of everybody else's nothing is."""
    drain_seconds: float = 5.0
    """From the stop signal to closing the port, so that nobody is routed here any more by then."""
    kubeconfig: str | None = None
    """Outside a cluster: the kubeconfig to use."""

    def __post_init__(self) -> None:
        """Raises ValueError for what could not work."""
        if not 4 <= self.bcrypt_cost <= MAXIMUM_COST:
            raise ValueError(f"the bcrypt cost is between 4 and {MAXIMUM_COST}")
