"""Scopes as real clients send them, and that nothing else gets through."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.access import scopes
from pullpass.access.scopes import Scope, ScopeError, parse


def one(name: str, *actions: str, type_: str = "repository") -> tuple[Scope, ...]:
    return (Scope(type_, name, actions),)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], (), id="login"),
        pytest.param([""], (), id="docker POST without scopes"),
        pytest.param(["  "], (), id="only spaces"),
        pytest.param(["repository:a/b:pull"], one("a/b", "pull"), id="pull"),
        pytest.param(["repository:a/b:push,pull"], one("a/b", "push", "pull"), id="order of crane"),
        pytest.param(
            ["repository:a:pull repository:b:pull,push"],
            (*one("a", "pull"), *one("b", "pull", "push")),
            id="a whole challenge in one value",
        ),
        pytest.param(["repository:a:pull", "repository:b:pull"], (*one("a", "pull"), *one("b", "pull")), id="mount"),
        pytest.param(
            ["repository:a/b:pull repository:a/b:pull,push"], one("a/b", "pull", "push"), id="containerd push"
        ),
        pytest.param(["repository:g/h:*", "repository:g/h:delete"], one("g/h", "*", "delete"), id="skopeo delete"),
        pytest.param(["repository(plugin):a/b:pull"], one("a/b", "pull"), id="class"),
        pytest.param(["repository(plugin):a:pull repository:a:push"], one("a", "pull", "push"), id="class merges"),
        pytest.param(["registry:catalog:*"], one("catalog", "*", type_="registry"), id="catalog"),
        pytest.param(["repository::pull"], one("", "pull"), id="zot catalog"),
        pytest.param(["repository:host:5000/a/b:pull"], one("host:5000/a/b", "pull"), id="port in the name"),
        pytest.param(["repository:a:pull,metadata_read"], one("a", "pull", "metadata_read"), id="underscore"),
        pytest.param(["repository:a:"], one("a"), id="no action"),
        pytest.param(["repository:a:,pull,,pull,"], one("a", "pull"), id="empty and double actions"),
        pytest.param(["artifact:A..b:x"], one("A..b", "x", type_="artifact"), id="unknown type"),
        pytest.param(["  repository:a:pull  "], one("a", "pull"), id="spaces around"),
        pytest.param(["repository:a__b/c--d.e:pull"], one("a__b/c--d.e", "pull"), id="separators"),
    ],
)
def test_what_clients_send(values: list[str], expected: tuple[Scope, ...]) -> None:
    assert parse(values) == expected


@pytest.mark.parametrize(
    "text",
    [
        "repository",
        "repository:a",
        ":a:pull",
        "x!y:a:pull",
        "Repository:a:pull",
        "repository():a:pull",
        "repository(a:pull:x",
        "repository:A:pull",
        "repository:a/../b:pull",
        "repository:..:pull",
        "repository:/a:pull",
        "repository:a/:pull",
        "repository:a//b:pull",
        "repository:a%2fb:pull",
        "repository:a,b:pull",
        "repository:a\nb:pull",
        "repository:a\n:pull",
        "repository:a\x00:pull",
        "repository:a\tb:pull",
        "repository:ä:pull",
        "repository:a/*:pull",
        "repository:*:pull",
        "repository:-a:pull",
        "repository:a:pull;push",
        "repository:a:pull\n",
        "repository:a:**",
        "repository:a:x:pull",
        "repository:٣:pull",
    ],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ScopeError):
        parse([text])


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (
            [f"repository:a{n}:pull" for n in range(scopes.SCOPES_PER_REQUEST)],
            [f"repository:a{n}:pull" for n in range(scopes.SCOPES_PER_REQUEST + 1)],
        ),
        (["repository:a:pull " * scopes.SCOPES_PER_REQUEST], ["repository:a:pull " * (scopes.SCOPES_PER_REQUEST + 1)]),
        ([f"repository:{'a' * scopes.NAME_LENGTH}:pull"], [f"repository:{'a' * (scopes.NAME_LENGTH + 1)}:pull"]),
        (
            ["other:" + "a" * 200 + ":" + "b," * ((scopes.SCOPE_LENGTH - 207) // 2)],
            ["other:" + "a" * 200 + ":" + "b," * (scopes.SCOPE_LENGTH // 2)],
        ),
        (
            ["repository:a:" + ",".join("abcdefghijklmnop"[: scopes.ACTIONS_PER_SCOPE])],
            ["repository:a:" + ",".join("abcdefghijklmnop"), "repository:a:q"],
        ),
    ],
    ids=["scopes", "scopes in one value", "name", "scope", "actions"],
)
def test_limits(good: list[str], bad: list[str]) -> None:
    assert parse(good)
    with pytest.raises(ScopeError):
        parse(bad)


def test_the_message_quotes_safely() -> None:
    with pytest.raises(ScopeError) as error:
        parse(["repository:\x1b[31m" + "x" * 400 + ":pull"])
    assert str(error.value).isprintable()
    with pytest.raises(ScopeError) as other:
        parse(["a\nb" + "c" * 400])
    assert "\n" not in str(other.value)
    assert len(str(other.value)) < 200


@given(st.lists(st.text(max_size=80) | st.text("repositoy:(),*/ab. \n", max_size=60), max_size=6))
def test_nothing_but_a_scope_error_is_ever_raised(values: list[str]) -> None:
    try:
        result = parse(values)
    except ScopeError:
        return
    for scope in result:
        assert scope.type.isalnum()
        assert all(action == "*" or re.fullmatch("[A-Za-z0-9._-]{1,32}", action) for action in scope.actions)
    assert len({(scope.type, scope.name) for scope in result}) == len(result)
    assert parse([str(scope) for scope in result]) == result
