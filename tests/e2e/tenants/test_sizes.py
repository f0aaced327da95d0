"""He asks for as much as he can."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.tenant import API, Tenant
from tests.e2e.tenants.intruder import Intruder, says
from tests.e2e.waiting import until

# Sizes


def test_the_longest_names_and_the_most_places(intruder: Intruder) -> None:
    long = "n" * 63
    longest = ".".join(["s" * 63] * 3 + ["s" * 61])
    for account in (longest, "a"):
        intruder.kubectl("create", "serviceaccount", account)
    nowhere = [f"nowhere-{number}-{'x' * 40}" for number in range(64)]
    accounts = [longest, "a", *(f"missing-{number}-{'x' * 200}" for number in range(62))]
    spec = {"name": longest, "serviceAccounts": accounts, "namespaces": nowhere}
    intruder.token(long, "own", pullSecret=spec)
    says(intruder, long, "ServiceAccountNotFound", "more")
    assert intruder.pull_secret_names(longest) == [longest]
    assert intruder.find("secret", longest)
    intruder.patch("registrytoken", long, pullSecret={"serviceAccounts": [], "namespaces": []})
    intruder.ready(long)
    assert intruder.pull_secret_names(longest) == []


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("n" * 64, {}, "at most 63"),
        ("mine", {"namespaces": [f"n-{number}" for number in range(65)]}, "64"),
        ("mine", {"serviceAccounts": [f"n-{number}" for number in range(65)]}, "64"),
        ("mine", {"name": "n" * 254}, "253"),
        ("mine", {"namespaces": ["*"]}, "namespace"),
        ("mine", {"namespaces": ["a/../b"]}, "namespace"),
        ("mine", {"name": "../pullpass-seed"}, "name"),
        ("mine", {"name": "two\nlines"}, "name"),
        ("mine", {"serviceAccounts": ["a=b,c"]}, "ServiceAccount"),
        ("../reader", {}, "name"),
    ],
)
def test_names_that_are_refused_at_once(intruder: Intruder, name: str, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        intruder.token(name, "own", pullSecret=spec)


# Load


def test_a_flood_of_tokens_does_not_keep_others_waiting(intruder: Intruder, new_tenant: Callable[[], Tenant]) -> None:
    other = new_tenant()
    other.scope_map("read", ["team/app"])
    body = {
        "apiVersion": API,
        "kind": "RegistryToken",
        "spec": {"scopeMapRef": {"name": intruder.map_name("own")}, "pullSecret": {"serviceAccounts": ["*"]}},
    }
    flood = [body | {"metadata": {"name": f"flood-{number}", "namespace": intruder.namespace}} for number in range(200)]
    intruder.apply(*flood)
    other.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
    other.ready("reader")
    until(lambda: len(intruder.records()) == 200, "his own are made as well", timeout=300)
