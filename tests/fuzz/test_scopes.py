"""Scopes: whatever is asked for ends in a ScopeError or within bounds, and no more is granted than is held."""

import string

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pullpass.access import scopes
from pullpass.access.actions import ORDER
from pullpass.access.grants import grant, scope_text
from pullpass.access.repositories import Rights
from pullpass.access.scopes import Scope, ScopeError, parse
from tests.fuzz.inputs import NAMES, ODD_NAMES, RIGHT_SCOPES, SCOPE_VALUES

FUZZ = settings.get_profile("fuzz")
LOWER = set(string.ascii_lowercase + string.digits)
ACTION = set(string.ascii_letters + string.digits + "._-")

WORDS = st.frozensets(st.sampled_from(ORDER))
RIGHTS = st.builds(
    Rights,
    st.dictionaries(NAMES | ODD_NAMES, WORDS, max_size=6),
    st.dictionaries((NAMES | ODD_NAMES).map(lambda name: f"{name}/"), WORDS, max_size=6),
    WORDS,
)


def read(values: list[str]) -> tuple[Scope, ...] | None:
    try:
        return parse(values)
    except ScopeError as error:
        can_be_shown(str(error))
        return None


def can_be_shown(message: str) -> None:
    assert message.isprintable()
    assert message.isascii()
    assert len(message) < 800


def is_name(name: str) -> bool:
    """A plain second reading of what a repository is called."""
    host, slash, rest = name.partition("/")
    if ":" in host:
        address, _, port = host.partition(":")
        ends = {address[:1], address[-1:]}
        if not (slash and ends <= LOWER and set(address) <= LOWER | {".", "-"}):
            return False
        if not (1 <= len(port) <= 5 and set(port) <= set(string.digits)):
            return False
        name = rest
    return all(
        set(component) <= LOWER | set("._-")
        and component[:1] in LOWER
        and component[-1:] in LOWER
        and all(separator in (".", "_", "__") or set(separator) == {"-"} for separator in _separators(component))
        for component in name.split("/")
    )


def _separators(component: str) -> list[str]:
    spaced = "".join(" " if character in LOWER else character for character in component)
    return spaced.split()


@FUZZ
@given(SCOPE_VALUES)
@example(["repository:a/b:pull " * 32, ""])
@example(["repository:a_-b:pull", "repository:a..b:pull"])
def test_what_is_read_lies_within_bounds(values: list[str]) -> None:
    result = read(values)
    if result is None:
        return
    assert len(result) <= scopes.SCOPES_PER_REQUEST
    assert len({(scope.type, scope.name) for scope in result}) == len(result)
    for scope in result:
        assert scope.type
        assert set(scope.type) <= LOWER
        assert len(scope.name) <= scopes.NAME_LENGTH
        assert len(scope.actions) == len(set(scope.actions)) <= scopes.ACTIONS_PER_SCOPE
        assert all(action == "*" or (action and set(action) <= ACTION) for action in scope.actions)
        if scope.type == "repository":
            assert not scope.name or is_name(scope.name)


@FUZZ
@given(NAMES | ODD_NAMES)
def test_a_name_is_taken_exactly_if_it_is_one(name: str) -> None:
    assume(" " not in name)
    assert (read([f"repository:{name}:pull"]) is not None) == (name == "" or is_name(name))


@FUZZ
@given(SCOPE_VALUES)
def test_what_is_read_can_be_written_and_read_again(values: list[str]) -> None:
    result = read(values)
    if result is not None:
        assert parse([str(scope) for scope in result]) == result
        assert parse([" ".join(map(str, result))]) == result


@FUZZ
@given(st.lists(RIGHT_SCOPES, max_size=12), st.integers(0, 12))
def test_scopes_add_up_however_they_are_divided(asked: list[str], place: int) -> None:
    merged: dict[tuple[str, str], dict[str, None]] = {}
    for scope in asked:
        type_, name, actions = scope.split(":")
        known = merged.setdefault((type_.partition("(")[0], name), {})
        known.update(dict.fromkeys(action for action in actions.split(",") if action))
    expected = tuple(Scope(type_, name, tuple(actions)) for (type_, name), actions in merged.items())
    for values in (asked, [" ".join(asked)], [" ".join(asked[:place]), "", " ".join(asked[place:])]):
        assert parse(values) == expected


@FUZZ
@given(SCOPE_VALUES, RIGHTS)
def test_granted_is_asked_for_and_held_and_nothing_else(values: list[str], rights: Rights) -> None:
    asked = read(values)
    if asked is None:
        return
    access = grant(asked, rights)
    by_name = {scope.name: set(scope.actions) for scope in asked if scope.type == "repository"}
    assert len({entry["name"] for entry in access}) == len(access)
    for entry in access:
        wanted, given_, held = by_name[entry["name"]], set(entry["actions"]), rights.on(entry["name"])
        assert entry["type"] == "repository"
        assert entry["name"]
        assert given_
        assert given_ == (held if "*" in wanted else held & wanted)
        assert given_ <= set(ORDER)
    assert "*" not in scope_text(access)
    granted = {entry["name"] for entry in access}
    for name in by_name.keys() - granted:
        assert not rights.on(name) & by_name[name]


@FUZZ
@given(SCOPE_VALUES, RIGHTS)
def test_what_was_granted_can_be_asked_for_and_is_granted_again(values: list[str], rights: Rights) -> None:
    """Clients ask for what the last answer's `scope` says."""
    asked = read(values)
    if asked is not None:
        access = grant(asked, rights)
        assert grant(parse([scope_text(access)]), rights) == access
