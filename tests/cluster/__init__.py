"""Clusters to test on.

`start()` gives a cluster with nodes, by kind (see `kind`). `start_control_plane()` gives one without: etcd and the API
server as processes of this machine, for whatever only talks to the API (see `controlplane`).
"""

from .cluster import Cluster
from .controlplane import ControlPlane
from .kind import KindCluster
from .provider import attach, start, start_control_plane

__all__ = ["Cluster", "ControlPlane", "KindCluster", "attach", "start", "start_control_plane"]
