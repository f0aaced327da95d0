"""OperatorSettings of the operator process; each is a flag of `pullpass operator`."""

from dataclasses import dataclass

from pullpass.api.registries import Registries


@dataclass(frozen=True)
class ServerCertificate:
    """A certificate that the operator keeps for a server."""

    secret: str
    """Secret of the release namespace that it is kept in."""
    hosts: tuple[str, ...]
    """DNS names and IP addresses that clients know the server by."""


@dataclass(frozen=True)
class KeyLocations:
    """Where keys are: as much as `pullpass keys` has to know."""

    namespace: str
    """Release namespace: the Lease, CAs, seed and trust bundles live here, and the token servers run here."""
    credentials_namespace: str
    """Namespace of the credential records and the signing leaves, the only one whose Secrets token servers may read."""
    registries: Registries
    """What pull secrets are for, and whose keys are looked after."""


@dataclass(frozen=True)
class OperatorSettings(KeyLocations):
    """Where the operator keeps things and whom it asks."""

    identity: str
    """Who holds the Lease: the pod's name."""
    token_server_service: str
    """Headless Service whose EndpointSlices name the token servers' replicas and their management port."""
    seed_secret: str = "pullpass-seed"
    """Secret with the seed that passwords are derived from."""
    server_certificates: tuple[ServerCertificate, ...] = ()
    """Certificates of our servers, to be made of the server CA."""
    server_ca_secret: str = "pullpass-server-ca"
    """Secret with the server CA's certificate and key (tls.crt, tls.key)."""
    server_trust_configmap: str = "pullpass-server-trust"
    """ConfigMap with the server CA's certificate (ca.crt), for clients to trust."""
    bcrypt_cost: int = 6
    """Cost of new password hashes, as a power of two."""
    workers: int = 32
    """How many keys are worked on at once, those left out that are slow; they wait for the API server most of the time,
    and what they write is paced."""
    writes_per_second: float = 100
    """How many API writes are made at most in a second, in the long run; the Lease is not counted."""
    health_port: int = 8081
    """Port of /healthz."""
    metrics_port: int = 8082
    """Port of /metrics."""
    kubeconfig: str | None = None
    """Outside a cluster: the kubeconfig to use."""
