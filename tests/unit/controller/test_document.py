"""Objects kept as text."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pullpass.controller.document import Document

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), VALUES))
def test_the_content_comes_back(content: dict[str, Any]) -> None:
    document = Document.of(content)
    assert document.read() == content
    turned = dict(reversed(content.items()))
    assert Document.of(turned) == document
    assert Document.of(json.loads(json.dumps(content))) == document


def test_what_was_read_is_the_callers_own() -> None:
    document = Document.of({"conditions": [{"type": "Ready"}]})
    document.read()["conditions"].clear()
    assert document.read() == {"conditions": [{"type": "Ready"}]}
