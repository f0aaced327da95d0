"""People rotate, regenerate and revoke passwords by hand, with the commands of the README."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.cluster.install import CREDENTIALS_NAMESPACE, NAMESPACE, OPERATOR, Release
from tests.e2e.tenant import Tenant, time_of
from tests.e2e.tokens import Credentials
from tests.e2e.waiting import until

GRACE = timedelta(seconds=1)
"""Between a date and what is seen of it: dates are whole seconds, and a request takes some time."""


@pytest.fixture
def first(tenant: Tenant, published: str) -> Credentials:
    """The first login of the token `reader`, whose pods may pull and whose replaced passwords work for an hour."""
    tenant.scope_map("read", ["team/app"])
    tenant.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
    tenant.ready("reader")
    return tenant.credentials("reader-pull")


def annotate(tenant: Tenant, *annotations: str) -> None:
    tenant.kubectl("annotate", "registrytoken", "reader", "--overwrite", *annotations)


def rotate(tenant: Tenant, value: str) -> None:
    annotate(tenant, f"pullpass.dev/rotate-requested-at={value}")


def revoke(tenant: Tenant, *credentials: Credentials) -> None:
    tenant.patch("registrytoken", "reader", passwords={"revoked": [one.id for one in credentials]})


def successor(tenant: Tenant, old: Credentials) -> Credentials:
    """Wait for another password in the same Secret."""

    def found() -> Credentials | None:
        now = tenant.credentials("reader-pull")
        return now if now.id != old.id else None

    new = until(found, f"a password other than {old.id}")
    assert new.uid == old.uid
    assert tenant.login(new).accepted
    return new


def handled(tenant: Tenant, what: str, value: str) -> None:
    """Wait for the echo of a request."""
    condition = f"--for=jsonpath={{.status.lastHandled{what}Request}}={value}"
    tenant.kubectl("wait", "registrytoken/reader", condition, "--timeout=60s")


def states(tenant: Tenant) -> dict[str, str]:
    passwords = tenant.find("registrytoken", "reader")["status"].get("passwords", [])
    return {entry["id"]: entry["state"] for entry in passwords}


def version(tenant: Tenant) -> tuple[str, str]:
    """The versions of the credential record and the pull secret: each write makes another."""
    (name,) = [
        name for name in tenant.records() if name.endswith(tenant.find("registrytoken", "reader")["metadata"]["uid"])
    ]
    record = tenant.kubectl(
        "get", "secret", name, "-n", CREDENTIALS_NAMESPACE, "-o", "jsonpath={.metadata.resourceVersion}"
    )
    return record.stdout, tenant.find("secret", "reader-pull")["metadata"]["resourceVersion"]


def test_rotate_now_once_for_each_value(tenant: Tenant, first: Credentials) -> None:
    tenant.patch("registrytoken", "reader", passwords={"overlap": "15s"})
    tenant.ready("reader")
    rotate(tenant, "2027-03-01T12:00:00Z")
    second = successor(tenant, first)
    handled(tenant, "Rotate", "2027-03-01T12:00:00Z")
    end = time_of(tenant.password_status("reader", first.id)["validUntil"])
    while datetime.now(UTC) < end - GRACE:
        answer = tenant.login(first)
        assert answer.accepted or datetime.now(UTC) >= end
        assert tenant.login(second).accepted
    until(lambda: not tenant.login(first).accepted, "the replaced password ends", timeout=15)
    assert datetime.now(UTC) >= end
    until(lambda: states(tenant) == {second.id: "Active"}, "its slot is emptied")

    before, status = version(tenant), tenant.find("registrytoken", "reader")["status"]
    annotate(tenant, "pullpass.dev/rotate-requested-at-")
    rotate(tenant, "2027-03-01T12:00:00Z")
    tenant.token("later", "read")
    tenant.ready("later")  # so the operator has seen what was written before
    assert version(tenant) == before
    assert tenant.find("registrytoken", "reader")["status"] == status

    rotate(tenant, "2027-03-01T13:00:00Z")
    third = successor(tenant, second)
    handled(tenant, "Rotate", "2027-03-01T13:00:00Z")
    assert third.id != first.id


def test_regenerate_after_a_leak(tenant: Tenant, first: Credentials, published: str) -> None:
    rotate(tenant, "before")
    second = successor(tenant, first)
    handled(tenant, "Rotate", "before")
    assert tenant.login(first).accepted
    rotate(tenant, "waits for the overlap of an hour")
    annotate(tenant, "pullpass.dev/regenerate-requested-at=2027-03-01T12:00:00Z")
    third = successor(tenant, second)
    tenant.refused(second)
    tenant.refused(first)
    handled(tenant, "Regenerate", "2027-03-01T12:00:00Z")
    handled(tenant, "Rotate", "waits for the overlap of an hour")
    assert states(tenant) == {third.id: "Active"}
    tenant.pod("after", published)
    tenant.runs("after")


def test_revoke_the_current_password_without_the_operator(
    tenant: Tenant, first: Credentials, published: str, release: Release, without_operator: Callable[[], None]
) -> None:
    rotate(tenant, "before")
    second = successor(tenant, first)
    handled(tenant, "Rotate", "before")
    without_operator()
    revoke(tenant, second)
    tenant.refused(second)
    assert tenant.login(first).accepted, "the other one works on"
    assert tenant.credentials("reader-pull") == second
    tenant.pod("refused", published)
    assert tenant.pull_failure("refused")

    release.cluster.kubectl("scale", "deployment", OPERATOR, "-n", NAMESPACE, "--replicas=1")
    third = successor(tenant, second)
    tenant.ready("reader")
    assert tenant.login(first).accepted
    assert not tenant.login(second).accepted
    assert states(tenant) == {first.id: "Retiring", third.id: "Active"}
    selector = "involvedObject.name=reader,reason=PasswordRevoked"
    notes = tenant.kubectl("get", "events", "--field-selector", selector, "-o", "jsonpath={.items[*].message}").stdout
    assert second.id in notes
    assert third.id in notes
    tenant.pod("after", published)
    tenant.runs("after")


def test_revoke_the_retiring_password(tenant: Tenant, first: Credentials) -> None:
    rotate(tenant, "before")
    second = successor(tenant, first)
    handled(tenant, "Rotate", "before")
    assert tenant.login(first).accepted
    revoke(tenant, first)
    tenant.refused(first)
    until(lambda: states(tenant) == {second.id: "Active"}, "the revoked password is dropped")
    assert tenant.credentials("reader-pull") == second
    assert tenant.login(second).accepted


def test_a_revoked_password_that_access_ends_with_is_replaced_on_request(
    tenant: Tenant, first: Credentials, published: str
) -> None:
    tenant.patch("registrytoken", "reader", passwords={"lifetime": "1h", "onExpiry": "Revoke"})
    tenant.ready("reader")
    revoke(tenant, first)
    tenant.refused(first)
    until(lambda: tenant.reasons("reader").get("Ready") == "PasswordRevoked", "the status says so")
    assert states(tenant) == {first.id: "Revoked"}
    assert tenant.credentials("reader-pull") == first
    rotate(tenant, "another one, please")
    successor(tenant, first)
    tenant.ready("reader")
    assert not tenant.login(first).accepted
    tenant.pod("after", published)
    tenant.runs("after")
