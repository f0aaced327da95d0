"""Granted is what was asked for and is held, never more, and never `*`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.access.actions import ORDER
from pullpass.access.grants import grant, scope_text
from pullpass.access.repositories import Rights
from pullpass.access.scopes import Scope

READ = frozenset({"pull", "metadata_read"})
RIGHTS = Rights(exact={"a/b": READ, "a/c": frozenset({"push", "pull"})})


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("repository:a/b:pull", "repository:a/b:pull"),
        ("repository:a/b:pull,push", "repository:a/b:pull"),
        ("repository:a/b:push", ""),
        ("repository:a/b:", ""),
        ("repository:a/b:*", "repository:a/b:pull,metadata_read"),
        ("repository:a/b:*,delete", "repository:a/b:pull,metadata_read"),
        ("repository:x:*", ""),
        ("repository:a/c:push,pull", "repository:a/c:pull,push"),
        ("repository::pull", ""),
        ("repository::*", ""),
        ("registry:catalog:*", ""),
        ("artifact:a/b:pull", ""),
    ],
)
def test_one_scope(asked: str, granted: str) -> None:
    type_, name, actions = asked.split(":")
    requested = [Scope(type_, name, tuple(action for action in actions.split(",") if action))]
    assert scope_text(grant(requested, RIGHTS)) == granted


def test_the_order_is_that_of_the_request() -> None:
    asked = [Scope("repository", name, ("pull",)) for name in ("a/c", "x", "a/b")]
    assert [entry["name"] for entry in grant(asked, RIGHTS)] == ["a/c", "a/b"]


WORDS = st.frozensets(st.sampled_from(ORDER))
NAMES = st.sampled_from(["", "a", "a/b", "a/b/c", "b"])
SCOPES = st.builds(
    Scope,
    st.sampled_from(["repository", "registry", "other"]),
    NAMES,
    st.lists(st.sampled_from([*ORDER, "*", "admin"]), unique=True).map(tuple),
)


@given(
    st.lists(SCOPES, unique_by=lambda scope: (scope.type, scope.name)),
    st.builds(
        Rights,
        st.dictionaries(NAMES, WORDS),
        st.dictionaries(st.sampled_from(["a/", "a/b/"]), WORDS),
        WORDS,
    ),
)
def test_granted_is_the_intersection(requested: list[Scope], rights: Rights) -> None:
    access = grant(requested, rights)
    asked = {(scope.type, scope.name): set(scope.actions) for scope in requested}
    for entry in access:
        held, wanted = rights.on(entry["name"]), asked[entry["type"], entry["name"]]
        expected = held if "*" in wanted else held & wanted
        assert set(entry["actions"]) == expected != set()
        assert "*" not in entry["actions"]
        assert entry["type"] == "repository"
        assert entry["actions"] == [word for word in ORDER if word in entry["actions"]]
    named = {entry["name"] for entry in access}
    for scope in requested:
        if scope.type == "repository" and scope.name not in named:
            assert not rights.on(scope.name) & set(scope.actions)
            assert "*" not in scope.actions or not rights.on(scope.name)
