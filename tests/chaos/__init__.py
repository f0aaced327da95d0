"""pullpass as it is in production, in processes of this machine, while everything around it fails.

Real operators and token servers run against a real API server. Each reaches it through a proxy of its own (`proxy`),
which keeps a record and can be told to fail. The harness stands in for the rest of a cluster: it restarts processes
(`replicas`), probes token servers and writes their EndpointSlices (`endpoints`), and sends customers who log in all
the time with what stands in the pull secrets (`customers`). `stage` puts all of it together, `faults` are what can
happen to it, and `python -m tests.chaos` lets them happen at random, by seed.
"""
