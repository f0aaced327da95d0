"""Clusters to test on.

`start()` gives a real Kubernetes cluster, from kind where Docker answers and otherwise from processes of
this machine; tests see no difference. Read `cluster` for what it can do, `local` and `kind` for the two
ways it comes to be.
"""

from .cluster import Cluster
from .provider import attach, start

__all__ = ["Cluster", "attach", "start"]
