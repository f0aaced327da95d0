"""Repository patterns against a plain second reading of what they mean."""

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from pullpass.access.actions import WORDS
from pullpass.access.repositories import Rights
from pullpass.api.scopemap import ScopeMapSpec
from tests.fuzz.inputs import ENDLESS, NAMES, ODD_NAMES, WILD

FUZZ = settings.get_profile("fuzz")
LOWER = set(string.ascii_lowercase + string.digits)

PATTERNS = NAMES | NAMES.map(lambda name: f"{name}/*") | st.just("*")
ODD_PATTERNS = ODD_NAMES | WILD | ENDLESS | st.text("a/*._-", max_size=8)
RULES = st.lists(
    st.tuples(
        st.lists(PATTERNS, min_size=1, max_size=5), st.lists(st.sampled_from(list(WORDS)), min_size=1, max_size=5)
    ),
    min_size=1,
    max_size=5,
)


def rights(rules: list[tuple[list[str], list[str]]]) -> Rights:
    spec = {
        "rules": [{"repositories": repositories, "actions": actions} for repositories, actions in rules],
        "allowedNamespaces": {"from": "All"},
    }
    return Rights.of(ScopeMapSpec.model_validate(spec))


def matches(pattern: str, repository: str) -> bool:
    """Component by component."""
    if pattern == "*":
        return repository != ""
    have = repository.split("/")
    if not pattern.endswith("/*"):
        return have == pattern.split("/")
    want = pattern.removesuffix("/*").split("/")
    return len(have) > len(want) and have[: len(want)] == want


def is_pattern(text: str) -> bool:
    """Alphanumeric runs with separators or one slash between them; at the end perhaps `/*`; or `*` alone."""
    if text == "*":
        return True
    name = text.removesuffix("/*")
    return 0 < len(text) <= 255 and all(
        component and set(component) <= LOWER | set("._-") and component[0] in LOWER and component[-1] in LOWER
        for component in name.split("/")
    )


@FUZZ
@given(RULES, NAMES | ODD_NAMES)
def test_rights_are_the_union_of_the_rules_that_match(
    rules: list[tuple[list[str], list[str]]], repository: str
) -> None:
    expected = {
        WORDS[action]  # type: ignore[index]
        for patterns, actions in rules
        if any(matches(pattern, repository) for pattern in patterns)
        for action in actions
    }
    assert rights(rules).on(repository) == expected


@FUZZ
@given(st.data(), RULES)
def test_below_and_beside_each_pattern(data: st.DataObject, rules: list[tuple[list[str], list[str]]]) -> None:
    """Names made out of the patterns themselves, where the edges are."""
    pattern = data.draw(st.sampled_from([pattern for patterns, _ in rules for pattern in patterns]))
    bare = pattern.removesuffix("/*")
    names = [bare, f"{bare}/", f"{bare}/x", f"{bare}x", f"x/{bare}", bare[:-1], f"{bare}/x/y", f"{bare}//x"]
    held = rights(rules)
    for name in names:
        expected = any(matches(one, name) for patterns, _ in rules for one in patterns)
        assert bool(held.on(name)) == expected


@FUZZ
@given(PATTERNS | ODD_PATTERNS)
def test_a_pattern_is_taken_exactly_if_it_is_one(pattern: str) -> None:
    try:
        rights([([pattern], ["content/read"])])
    except ValueError:
        taken = False
    else:
        taken = True
    assert taken == is_pattern(pattern)
