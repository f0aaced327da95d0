"""What the API server's metrics say of writes."""

from tests.chaos.api import written

METRICS = """# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",resource="secrets",scope="resource",verb="PUT",version="v1"} 3
apiserver_request_total{code="201",component="apiserver",resource="events",scope="resource",verb="POST",version="v1"} 2
apiserver_request_total{code="200",component="apiserver",resource="registrytokens",subresource="status",verb="APPLY"} 4
apiserver_request_total{code="200",component="apiserver",resource="secrets",scope="cluster",verb="LIST"} 100
apiserver_request_total{code="200",component="apiserver",resource="leases",scope="resource",verb="PUT",version="v1"} 50
apiserver_request_total{code="200",component="apiserver",resource="nodes",scope="resource",verb="PATCH",version="v1"} 7
apiserver_request_duration_seconds_count{resource="secrets",verb="PUT"} 9
"""


def test_only_writes_of_what_is_ours_count() -> None:
    assert written(METRICS) == 9
    assert written(METRICS, ["leases"]) == 50
