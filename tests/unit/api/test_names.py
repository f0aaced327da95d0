import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.api.names import split_username, username

NAMESPACES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(NAMESPACES, min_size=1, max_size=3).map(".".join)


@given(NAMESPACES, NAMES)
def test_a_username_splits_into_what_it_was_made_of(namespace: str, name: str) -> None:
    assert split_username(username(namespace, name)) == (namespace, name)


@pytest.mark.parametrize("text", ["", ".", "web", "web.", ".nginx"])
def test_what_is_no_username_of_ours(text: str) -> None:
    assert split_username(text) is None
