"""Whatever a request holds, reading it ends in a request or a refusal, and never shows the password."""

from hypothesis import example, given
from hypothesis import strategies as st

from pullpass.tokenserver.errors import TokenRequestError
from pullpass.tokenserver.request import FORM, TokenRequest, read_get, read_post

WORDS = st.sampled_from(
    ["scope", "service", "account", "username", "password", "grant_type", "registry", "repository:a:pull"]
)
TEXT = st.text(max_size=40) | WORDS
QUERY = st.lists(st.tuples(TEXT, TEXT).map("=".join), max_size=6).map("&".join)
HEADERS = st.lists(st.text(max_size=40) | st.sampled_from(["Basic Og==", "Basic YTpi", "Basic =", "basic"]), max_size=3)


@given(QUERY, HEADERS)
@example("scope=%ED%A0%80&account=%00", ["Basic 7aCAOuKAqA=="])
def test_reading_a_get_never_fails_otherwise(query: str, headers: list[str]) -> None:
    try:
        request = read_get(query, headers, service="registry")
    except TokenRequestError:
        return
    assert isinstance(request, TokenRequest)


@given(st.binary(max_size=60) | QUERY.map(str.encode), st.sampled_from(["", FORM, f"{FORM};charset=utf-8"]), HEADERS)
@example(b"grant_type=password&username=%ff&password=%ff", FORM, [])
@example(b"grant_type=password&username=a%3D&password=b%26", FORM, [])
def test_reading_a_post_never_fails_otherwise(body: bytes, content_type: str, headers: list[str]) -> None:
    try:
        request = read_post(body, content_type, headers, service="registry")
    except TokenRequestError:
        return
    assert isinstance(request, TokenRequest)


def test_a_password_may_hold_colons_and_is_split_from_the_user_at_the_first() -> None:
    request = read_get("", ["Basic dTphOmI="], service="registry")
    assert (request.username, request.password) == ("u", "a:b")


def test_the_form_goes_before_the_header() -> None:
    body = b"grant_type=password&username=form&password=p%2Bq+r"
    request = read_post(body, FORM, ["Basic dTphOmI="], service="registry")
    assert (request.username, request.password) == ("form", "p+q r")


def test_the_password_is_not_in_the_repr() -> None:
    assert "hunter2" not in repr(TokenRequest((), "u", "hunter2"))
