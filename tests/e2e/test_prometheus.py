"""What people see of the release through a Prometheus in the cluster."""

import re
import secrets
from collections.abc import Callable, Iterator

import pytest

from tests.cluster import places
from tests.cluster.install import MANAGEMENT, NAMESPACE, OPERATOR, Release
from tests.e2e.prometheus import Prometheus
from tests.e2e.tenant import Tenant
from tests.e2e.waiting import until

LOGINS = 'sum(pullpass_token_server_requests_total{outcome="granted"})'


@pytest.fixture(scope="module")
def prometheus(release: Release) -> Iterator[Prometheus]:
    tenant = Tenant(release, f"monitoring-{secrets.token_hex(2)}")
    tenant.create()
    made = Prometheus(tenant)
    try:
        made.start()
        yield made
    finally:
        tenant.delete()


def pods(release: Release) -> set[str]:
    """The pods of operator and token servers."""
    selector = "app.kubernetes.io/instance=pullpass,app.kubernetes.io/component in (operator,token-server)"
    names = release.cluster.kubectl("get", "pods", "-n", NAMESPACE, "-l", selector, "-o", "name").stdout.split()
    return {name.removeprefix("pod/") for name in names}


def test_every_replica_is_found_and_scraped(prometheus: Prometheus, release: Release) -> None:
    until(lambda: {labels["pod"] for labels, up in prometheus.query("up") if up} == pods(release), "all are up")
    jobs = {(labels["namespace"], labels["job"]) for labels, _ in prometheus.query("up")}
    assert jobs == {(NAMESPACE, OPERATOR), (NAMESPACE, MANAGEMENT)}


def test_documentation_lists_every_metric(prometheus: Prometheus, tenant: Tenant) -> None:
    tenant.scope_map("read", ["team/app"])
    tenant.token("reader", "read")
    tenant.ready("reader")
    listed = set(re.findall(r"^\| `(pullpass_\w+)` \|", (places.ROOT / "docs/operations.md").read_text(), re.MULTILINE))

    def shown() -> set[str]:
        names = {name for name in prometheus.names() if name.startswith("pullpass_") and not name.endswith("_created")}
        return {re.sub(r"_seconds_(bucket|count|sum)$", "_seconds", name) for name in names}

    until(lambda: listed <= shown(), f"all of {sorted(listed)}")
    assert shown() == listed


def test_logins_are_counted(prometheus: Prometheus, tenant: Tenant) -> None:
    tenant.scope_map("read", ["team/app"])
    tenant.token("reader", "read")
    tenant.ready("reader")
    before = prometheus.query(LOGINS)[0][1]
    tenant.accepted(tenant.credentials("reader-pull"))
    until(lambda: prometheus.query(LOGINS)[0][1] > before, "one more login")


def test_alert_when_nobody_leads(
    prometheus: Prometheus, release: Release, without_operator: Callable[[], None]
) -> None:
    until(lambda: "PullpassNoOperator" not in prometheus.alerts(), "a leader is seen")
    without_operator()
    until(lambda: "PullpassNoOperator" in prometheus.alerts(), "the alert")
