"""Which of the two ways a cluster comes to be."""

from . import kind, local
from .cluster import Cluster


def start(
    name: str = "pullpass",
    *,
    nodes: int = 1,
    provider: str | None = None,
    controllers: bool = True,
) -> Cluster:
    """Start a cluster, or attach to a running one of that name that has at least as many nodes.

    Without a node it is etcd, API server and (unless `controllers` is off) controller manager: enough for
    whatever only talks to the API, in a few seconds and without root. `provider` is "kind" or "local"; None
    takes kind for nodes where Docker answers.
    """
    if provider is None:
        provider = "kind" if nodes and kind.available() else "local"
    if provider == "kind":
        return kind.start(name, nodes=nodes)
    if provider == "local":
        return local.start(name, nodes=nodes, controllers=controllers)
    raise ValueError(f"{provider!r}: a provider is kind or local")


def attach(name: str) -> Cluster | None:
    """The running cluster of that name, or None."""
    return local.attach(name) or kind.attach(name)


def stop(name: str) -> None:
    """End the cluster of that name and remove its rests, also when it is half gone."""
    local.remove(name)
    running = kind.attach(name)
    if running:
        running.stop()


def names() -> list[str]:
    return sorted({*local.names(), *kind.names()})
