"""Who wrote without the Lease."""

import pytest

from tests.chaos.traffic import Request, Usurpation, usurped

LEASE = "/apis/coordination.k8s.io/v1/namespaces/system/leases/operator"
SECRET = "/api/v1/namespaces/team/secrets/pull"


def took(sender: str, at: float, stored: int = 200) -> Request:
    return Request(sender, at, "PUT", LEASE, stored=stored, ended=at + 0.5)


def wrote(sender: str, at: float) -> Request:
    return Request(sender, at, "PATCH", SECRET, stored=200, ended=at + 0.5)


def test_writes_of_the_holder_are_fine() -> None:
    requests = [took("a", 1), wrote("a", 2), took("a", 3), took("b", 20), wrote("b", 21)]
    assert usurped(requests) == []


def test_a_write_after_another_one_got_the_lease_is_found() -> None:
    late, taken = wrote("a", 21), took("b", 20)
    assert usurped([took("a", 1), wrote("a", 2), taken, late, wrote("b", 22)]) == [Usurpation(late, taken)]


def test_the_records_of_two_proxies_need_not_be_in_order() -> None:
    late, taken = wrote("a", 21), took("b", 20)
    assert usurped([late, wrote("a", 2), took("a", 1), taken]) == [Usurpation(late, taken)]


def test_a_write_sent_before_is_fine_though_it_ended_after() -> None:
    requests = [took("a", 1), Request("a", 2, "PATCH", SECRET, stored=200, ended=30), took("b", 20)]
    assert usurped(requests) == []


@pytest.mark.parametrize("stored", [0, 409, 500])
def test_a_lease_that_was_not_stored_changes_nothing(stored: int) -> None:
    assert usurped([took("a", 1), took("b", 5, stored), wrote("a", 10)]) == []


def test_whoever_gets_the_lease_again_may_write_again() -> None:
    requests = [took("a", 1), took("b", 20), took("a", 40), wrote("a", 41)]
    assert usurped(requests) == []


@pytest.mark.parametrize(
    ("path", "concerned"),
    [
        ("/api/v1/namespaces/team/secrets/pull", True),
        ("/api/v1/namespaces/team/secrets", True),
        ("/api/v1/namespaces/team/serviceaccounts/default", False),
        ("/api/v1/namespaces/team-2/secrets/pull", False),
        ("/api/v1/namespaces/team", False),
        ("/api/v1/secrets", False),
        ("/apis/pullpass.dev/v1alpha1/namespaces/team/registrytokens/secrets", False),
    ],
)
def test_requests_about_the_objects_of_one_namespace(path: str, concerned: bool) -> None:
    assert Request("a", 1, "GET", path).concerns("team", ("secrets",)) is concerned


def test_reads_and_watches_are_everybodys() -> None:
    requests = [took("a", 1), Request("b", 2, "GET", SECRET), Request("b", 3, "GET", LEASE)]
    assert usurped(requests) == []
