"""Passwords rotate, end and die on time. The three stories run side by side, as each is mostly waiting."""

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.cluster.install import Release
from tests.e2e.exposure import Exposure
from tests.e2e.tenant import Tenant, time_of
from tests.e2e.tokens import Credentials, pull_status
from tests.e2e.waiting import until

GRACE = timedelta(seconds=1)
"""Between a date and what is seen of it: dates are whole seconds, and a request takes some time."""


def rotation(tenant: Tenant, image: str) -> None:
    tenant.token(
        "rotating",
        "read",
        passwords={"lifetime": "60s", "renewBefore": "40s", "overlap": "10s"},
        pullSecret={"serviceAccounts": ["default"]},
    )
    tenant.ready("rotating")
    first = tenant.credentials("rotating-pull")
    tenant.pod("before", image)
    tenant.runs("before")

    second = until(lambda: successor(tenant, first), "a second password", timeout=60)
    assert second.uid == first.uid
    assert tenant.login(first).accepted
    assert tenant.login(second).accepted
    tenant.pod("during", image)
    retiring = until(lambda: retiring_status(tenant, first), "the status says until when the first password works")
    end = time_of(retiring)
    while datetime.now(UTC) < end - GRACE:
        assert_until(tenant, first, end)
        assert tenant.login(second).accepted
    until(lambda: not tenant.login(first).accepted, "the first password ends", timeout=15)
    assert datetime.now(UTC) >= end
    assert datetime.now(UTC) < end + 5 * GRACE
    tenant.runs("during")

    tenant.pod("after", image)
    tenant.runs("after")
    assert tenant.credentials("rotating-pull").uid == first.uid


def successor(tenant: Tenant, first: Credentials) -> Credentials | None:
    """The published password once it is another one; until then the first has to work."""
    now = tenant.credentials("rotating-pull")
    if now.password != first.password:
        return now
    assert tenant.login(first).accepted
    return None


def retiring_status(tenant: Tenant, credentials: Credentials) -> str:
    return str(tenant.password_status("rotating", credentials.id).get("validUntil", ""))


def assert_until(tenant: Tenant, credentials: Credentials, end: datetime) -> None:
    """The login works if it was over before the end."""
    answer = tenant.login(credentials)
    assert answer.accepted or datetime.now(UTC) >= end


def revocation(tenant: Tenant, image: str) -> None:
    tenant.token(
        "revoked",
        "read",
        passwords={"lifetime": "60s", "onExpiry": "Revoke"},
        pullSecret={"whenRevoked": "Remove"},
    )
    tenant.ready("revoked")
    only = tenant.credentials("revoked-pull")
    end = time_of(tenant.password_status("revoked", only.id)["expiresAt"])
    dies_at(tenant, only, end)
    until(lambda: "PasswordExpired" in tenant.reasons("revoked").values(), "the status says so")
    until(lambda: not tenant.find("secret", "revoked-pull"), "the dead Secret is removed")
    assert not tenant.login(only).accepted


def expiry(tenant: Tenant, image: str) -> None:
    end = (datetime.now(UTC) + timedelta(seconds=20)).replace(microsecond=0)
    tenant.token("ending", "read", expiresAt=end.strftime("%Y-%m-%dT%H:%M:%SZ"))
    tenant.ready("ending")
    only = tenant.credentials("ending-pull")
    out = tenant.login(only, "repository:team/app:pull")
    assert out.expires_at is not None
    assert out.expires_at <= end
    assert pull_status(tenant.release, image, out.token) == 200
    dies_at(tenant, only, end)
    until(lambda: "TokenExpired" in tenant.reasons("ending").values(), "the status says so")
    assert tenant.credentials("ending-pull") == only  # whenRevoked: Keep
    # What was handed out before is over as well, for a registry that allows clocks to differ by a minute.
    until(lambda: pull_status(tenant.release, image, out.token) == 401, "its access token dies", timeout=75)


def dies_at(tenant: Tenant, credentials: Credentials, end: datetime) -> None:
    """Log in all the time: never refused before `end`, never accepted after it."""

    def dead() -> bool:
        asked = datetime.now(UTC)
        accepted = tenant.login(credentials).accepted
        if accepted:
            assert asked < end
        else:
            assert datetime.now(UTC) >= end
        return not accepted

    until(dead, f"the password dies at {end}", timeout=90)


STORIES = (rotation, revocation, expiry)


@pytest.fixture(scope="module")
def stories(release: Release, exposure: Exposure, published: str) -> Iterator[dict[str, Future[None]]]:
    tenant = Tenant(release, f"rotation-{secrets.token_hex(2)}")
    tenant.create()
    tenant.scope_map("read", ["team/app"])
    with ThreadPoolExecutor() as pool:
        yield {story.__name__: pool.submit(story, tenant, published) for story in STORIES}
    exposure.keep(tenant.namespace)
    tenant.delete()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_passwords_over_time(story: Callable[..., None], stories: dict[str, Future[None]]) -> None:
    stories[story.__name__].result()
