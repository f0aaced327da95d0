"""Input that is nearly right, and input that is wild."""

import copy
from typing import Any

from hypothesis import strategies as st

from pullpass.access.actions import ORDER

WILD = st.text(max_size=40)
"""Text of any characters, surrogates and NUL among them."""
ENDLESS = st.builds(lambda text, times: text * times, st.text(min_size=1, max_size=3), st.sampled_from([300, 5000]))

_COMPONENT = st.text("ab0", min_size=1, max_size=3)
NAMES = st.lists(_COMPONENT | st.sampled_from(["a.b", "a__b", "a--b", "demo", "nginx"]), min_size=1, max_size=4).map(
    "/".join
)
"""Names of repositories."""
ODD_NAMES = st.sampled_from(
    ["", "/", "a/", "/a", "a//b", "..", "a/../b", "A", "a:b", "host:5000/a", "host:99999/a", "*", "a/*", "ä", "a\nb"]
) | st.text("ab/:.*_-%", max_size=12)

TYPES = st.sampled_from(["repository", "repository(plugin)", "registry", "x1"])
ODD_TYPES = st.sampled_from(["", "Repository", "repository()", "x!y", "repository(a)(b)", "(a)"]) | st.text(max_size=5)
ACTIONS = st.lists(st.sampled_from([*ORDER, "*", "fly", ""]), max_size=6).map(",".join)
ODD_ACTIONS = st.sampled_from(["PULL", "pull;push", "**", "pull\n", " ", ",", "\0"]) | st.text(max_size=6)


def _joined(parts: tuple[str, str, str]) -> str:
    return ":".join(parts)


RIGHT_SCOPES = st.tuples(TYPES, NAMES, ACTIONS).map(_joined)
"""Scopes that can be read."""
SCOPES = (
    RIGHT_SCOPES
    | st.tuples(TYPES | ODD_TYPES, NAMES | ODD_NAMES, ACTIONS | ODD_ACTIONS).map(_joined)
    | WILD
    | ENDLESS
    | st.tuples(st.just("repository"), ENDLESS, ACTIONS).map(_joined)
)
SCOPE_VALUES = st.lists(st.lists(SCOPES, max_size=4).map(" ".join), max_size=4) | st.lists(
    st.lists(RIGHT_SCOPES, max_size=12).map(" ".join), max_size=4
)
"""The values of `scope` in one request."""


_TIMES = st.sampled_from(
    ["2027-03-31T22:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2027-02-30T00:00:00Z", "soon"]
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, 10**400, -1, 0])
    | st.floats()
    | WILD
    | st.sampled_from(["", "true", "aaaaaa", "demo", "*", "\ud800", "$2b$31$" + "a" * 53, "x" * 10_000])
    | _TIMES
)


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WILD | st.sampled_from(["name", "id"]), inner, max_size=3)
    ),
    max_leaves=6,
) | st.builds(_nested, st.just(200))
"""Any value that JSON can hold."""


def _places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [way] if way else []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        found += _places(child, (*way, key))
    return found


@st.composite
def spoilt(draw: st.DrawFn, good: Any, changes: int = 2, within: tuple[str, ...] = ()) -> Any:
    """A good object of which something was replaced, removed, wrapped or added; `within` limits the keys of the
    first level that may be touched."""
    value = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, changes))):
        places = [place for place in _places(value) if not within or place[0] in within]
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        holder = value
        for key in way:
            holder = holder[key]
        what = draw(st.sampled_from(["replace", "replace", "remove", "wrap", "add"]))
        if what == "replace":
            holder[last] = copy.deepcopy(draw(HOSTILE))
        elif what == "remove":
            del holder[last]
        elif what == "wrap":
            holder[last] = draw(st.sampled_from([[holder[last]], {"name": holder[last]}, str(holder[last])]))
        elif isinstance(holder, dict):
            holder[draw(WILD)] = copy.deepcopy(draw(HOSTILE))
        else:
            holder.append(copy.deepcopy(draw(HOSTILE)))
    return value
