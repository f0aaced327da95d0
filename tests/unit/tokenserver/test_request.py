"""Whatever a request holds, reading it ends in a request or a refusal, and never shows the password."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pullpass.api.registries import Registry
from pullpass.tokenserver.errors import InvalidRequestError, TokenRequestError
from pullpass.tokenserver.request import FORM, RawRequest, TokenRequest, registry_of
from tests.registries import DEFAULT, OTHER, TWO

WORDS = st.sampled_from(
    ["scope", "service", "account", "username", "password", "grant_type", "registry", "repository:a:pull"]
)
TEXT = st.text(max_size=40) | WORDS
QUERY = st.lists(st.tuples(TEXT, TEXT).map("=".join), max_size=6).map("&".join)
HEADERS = st.lists(st.text(max_size=40) | st.sampled_from(["Basic Og==", "Basic YTpi", "Basic =", "basic"]), max_size=3)


def read(raw: RawRequest) -> TokenRequest:
    fields = raw.fields()
    registry_of(fields, TWO)
    return raw.read(fields)


def get(query: str, headers: list[str]) -> TokenRequest:
    return read(RawRequest("GET", query, b"", "", tuple(headers), "127.0.0.1"))


def post(body: bytes, content_type: str, headers: list[str]) -> TokenRequest:
    return read(RawRequest("POST", "", body, content_type, tuple(headers), "127.0.0.1"))


@given(QUERY, HEADERS)
@example("scope=%ED%A0%80&account=%00", ["Basic 7aCAOuKAqA=="])
def test_reading_a_get_never_fails_otherwise(query: str, headers: list[str]) -> None:
    try:
        request = get(query, headers)
    except TokenRequestError:
        return
    assert isinstance(request, TokenRequest)


@given(st.binary(max_size=60) | QUERY.map(str.encode), st.sampled_from(["", FORM, f"{FORM};charset=utf-8"]), HEADERS)
@example(b"grant_type=password&username=%ff&password=%ff", FORM, [])
@example(b"grant_type=password&username=a%3D&password=b%26", FORM, [])
def test_reading_a_post_never_fails_otherwise(body: bytes, content_type: str, headers: list[str]) -> None:
    try:
        request = post(body, content_type, headers)
    except TokenRequestError:
        return
    assert isinstance(request, TokenRequest)


def test_a_password_may_hold_colons_and_is_split_from_the_user_at_the_first() -> None:
    request = get("", ["Basic dTphOmI="])
    assert (request.username, request.password) == ("u", "a:b")


def test_the_form_goes_before_the_header() -> None:
    body = b"grant_type=password&username=form&password=p%2Bq+r"
    request = post(body, FORM, ["Basic dTphOmI="])
    assert (request.username, request.password) == ("form", "p+q r")


def test_the_password_is_not_in_the_repr() -> None:
    assert "hunter2" not in repr(TokenRequest((), "u", "hunter2"))


@pytest.mark.parametrize(
    ("services", "registry"),
    [
        ([], DEFAULT),
        ([""], DEFAULT),
        (["registry"], DEFAULT),
        (["other-registry"], OTHER),
        (["", "other-registry", "other-registry"], OTHER),
        (["other"], None),
        (["default"], None),
        (["registry", "other-registry"], None),
        (["other-registry", "third"], None),
    ],
)
def test_a_service_chooses_the_registry(services: list[str], registry: Registry | None) -> None:
    if registry is not None:
        assert registry_of({"service": services}, TWO) is registry
    else:
        with pytest.raises(InvalidRequestError):
            registry_of({"service": services}, TWO)
