"""Which repositories a pattern matches, and that rules add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.access.repositories import Rights
from pullpass.api.scopemap import ScopeMapSpec


def rights(*rules: tuple[list[str], list[str]]) -> Rights:
    spec = {
        "rules": [{"repositories": repositories, "actions": actions} for repositories, actions in rules],
        "allowedNamespaces": {"from": "All"},
    }
    return Rights.of(ScopeMapSpec.model_validate(spec))


@pytest.mark.parametrize(
    ("pattern", "repository", "matches"),
    [
        ("demo/nginx", "demo/nginx", True),
        ("demo/nginx", "demo/nginx2", False),
        ("demo/nginx", "demo/nginx/x", False),
        ("demo/nginx", "demo", False),
        ("demo/nginx", "x/demo/nginx", False),
        ("nginx", "nginx", True),
        ("samples/*", "samples/a", True),
        ("samples/*", "samples/a/b/c", True),
        ("samples/*", "samples", False),
        ("samples/*", "samples/", True),
        ("samples/*", "samples2/a", False),
        ("samples/*", "x/samples/a", False),
        ("samples/team/*", "samples/team/a", True),
        ("samples/team/*", "samples/a", False),
        ("*", "a", True),
        ("*", "a/b/c", True),
        ("*", "", False),
        ("a", "", False),
    ],
)
def test_a_pattern_matches(pattern: str, repository: str, matches: bool) -> None:
    assert rights(([pattern], ["content/read"])).on(repository) == (frozenset({"pull"}) if matches else frozenset())


@pytest.mark.parametrize("pattern", ["a/*/b", "a/team*", "a/*/b/*", "**", "*/a", "a/", "/a", "A", "a//b", "..", ".*"])
def test_a_pattern_the_api_would_refuse_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="not a repository pattern"):
        rights(([pattern], ["content/read"]))


def test_rules_add_up() -> None:
    held = rights(
        (["samples/*"], ["content/read"]),
        (["samples/team-a/*"], ["content/write"]),
        (["samples/team-a/b"], ["content/delete"]),
        (["samples/team-a/b", "other"], ["metadata/read"]),
    )
    assert held.on("samples/x") == {"pull"}
    assert held.on("samples/team-a/x") == {"pull", "push"}
    assert held.on("samples/team-a/b") == {"pull", "push", "delete", "metadata_read"}
    assert held.on("other") == {"metadata_read"}


def test_no_rights_are_the_default() -> None:
    assert Rights().on("a/b") == frozenset()


COMPONENT = st.text("ab", min_size=1, max_size=2)
NAME = st.lists(COMPONENT, min_size=1, max_size=4).map("/".join)


@given(st.lists(st.tuples(NAME, st.booleans()), min_size=1, max_size=8, unique=True), NAME)
def test_on_agrees_with_the_plain_meaning(patterns: list[tuple[str, bool]], repository: str) -> None:
    written = [name + "/*" if prefix else name for name, prefix in patterns]
    expected = any(repository.startswith(name + "/") if prefix else repository == name for name, prefix in patterns)
    assert bool(rights((written, ["content/read"])).on(repository)) == expected
