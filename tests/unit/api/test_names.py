import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.api.names import split_token, username

NAMESPACES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(NAMESPACES, min_size=1, max_size=3).map(".".join)


@given(NAMESPACES, NAMES)
def test_a_username_splits_at_its_first_dot(namespace: str, name: str) -> None:
    assert username(namespace, name).split(".", 1) == [namespace, name]


@given(NAMESPACES, NAMES)
def test_a_token_annotation_splits_into_what_it_was_made_of(namespace: str, name: str) -> None:
    assert split_token(f"{namespace}/{name}") == (namespace, name)


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "web", "web/", "/reader", "web/..", "../x", "web/../secrets", "web/a/b", "web/%2e%2e"),
        *("web/a\nb", "web/a ", "Web/a", "web/a?b=c", "web/a#", "w" * 64 + "/a", "web/" + "a" * 254),
    ],
)
def test_what_is_no_token_annotation_of_ours(text: str) -> None:
    assert split_token(text) is None
