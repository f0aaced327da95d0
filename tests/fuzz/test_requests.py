"""Headers, query strings and forms: what was sent is what is read, and what cannot be read is refused."""

import base64
import json
from urllib.parse import quote

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pullpass.tokenserver.cache import AccessCache
from pullpass.tokenserver.errors import TokenRequestError
from pullpass.tokenserver.request import CREDENTIAL_LENGTH, FORM, RawRequest, TokenRequest, registry_of
from pullpass.tokenserver.reuse import Reuse
from tests.fuzz.inputs import ENDLESS, SCOPE_VALUES, WILD
from tests.registries import TWO

FUZZ = settings.get_profile("fuzz")
SERVICE = TWO.default.service

# Text that UTF-8 can carry; a surrogate alone it cannot.
SENDABLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["web.reader", "\0", "a:b", ":", "%", "+", "&", "=", "é", "🔑", "x" * 73, "é" * 40]
)
USERS = SENDABLE.filter(lambda user: ":" not in user)
KEYS = st.sampled_from(
    ["scope", "service", "account", "username", "password", "grant_type", "client_id", "offline_token", "refresh_token"]
)
VALUES = (
    WILD
    | ENDLESS
    | st.sampled_from(["", SERVICE, "web.reader", "password", "refresh_token", "repository:a/b:pull", "other-registry"])
)
RAW = st.text("%0123456789abcdefABCDEF+&=;#\0 \ud800", max_size=30) | st.sampled_from(
    ["%", "%0", "%zz", "%FF", "%ED%A0%80", "%00", "&" * 100, "=" * 100, "scope", "+", "%u0041", ";", "a[]=b"]
)


@st.composite
def encoded(draw: st.DrawFn, text: str) -> str:
    """A value as clients encode it: they differ in what they leave as it is, and in how they write a space."""
    safe = draw(st.sampled_from(["", "/:,*", "/:,*!'()~@$"]))
    form = (
        "".join(
            f"%{byte:02x}" if draw(st.integers(0, 9)) == 0 else quote(bytes([byte]), safe=safe)
            for byte in text.encode(errors="surrogatepass")
        )
        if len(text) < 60
        else quote(text.encode(errors="surrogatepass"), safe=safe)
    )
    return form.replace("%20", "+") if draw(st.booleans()) else form


@st.composite
def forms(draw: st.DrawFn) -> str:
    """A query string or a body, nearly right or not at all."""
    pieces = [
        f"{draw(KEYS)}={draw(encoded(draw(VALUES)))}" if draw(st.integers(0, 3)) else draw(RAW)
        for _ in range(draw(st.integers(0, 6)))
    ]
    return "&".join(pieces * draw(st.sampled_from([1, 1, 1, 2, 30])))


def basic(content: bytes) -> str:
    return "Basic " + base64.b64encode(content).decode()


@st.composite
def headers(draw: st.DrawFn) -> str:
    """An Authorization header, nearly right or not at all."""
    header = basic(draw(st.binary(max_size=30) | st.builds(lambda u, p: f"{u}:{p}".encode(), SENDABLE, SENDABLE)))
    place = draw(st.integers(0, len(header)))
    match draw(st.integers(0, 5)):
        case 0:
            return header[:place] + draw(st.characters()) + header[place:]
        case 1:
            return header[:place] + header[place + 1 :]
        case 2:
            return draw(WILD | ENDLESS)
        case 3:
            return header.replace("Basic", draw(st.sampled_from(["basic", "BASIC ", " Basic", "Bearer", "Digest", ""])))
        case _:
            return header


def read(raw: RawRequest) -> TokenRequest | None:
    try:
        fields = raw.fields()
        registry_of(fields, TWO)
        return raw.read(fields)
    except TokenRequestError as error:
        can_be_shown(error)
        return None


def can_be_shown(error: TokenRequestError) -> None:
    assert 400 <= error.status < 500
    for oauth in (False, True):
        body = error.body(oauth=oauth)
        [shown] = json.loads(body)["errors"]
        assert shown["message"].isprintable()
        assert len(body) < 4000
    assert all(value.isprintable() and value.isascii() for value in error.headers().values())


def get(query: str, *authorization: str) -> RawRequest:
    return RawRequest("GET", query, b"", "", authorization, "127.0.0.1")


def post(body: bytes, *authorization: str, content_type: str = FORM) -> RawRequest:
    return RawRequest("POST", "", body, content_type, authorization, "127.0.0.1")


@FUZZ
@given(USERS, SENDABLE, st.sampled_from(["Basic ", "basic ", "BASIC    "]), st.sampled_from(["", " ", "  "]))
def test_user_and_password_of_a_header_are_those_that_were_sent(user: str, secret: str, scheme: str, end: str) -> None:
    assume((user, secret) != ("", ""))
    asked = read(get("", scheme + basic(f"{user}:{secret}".encode())[6:] + end))
    assert asked is not None
    assert (asked.username, asked.password) == (user, secret)


@FUZZ
@given(st.data(), SENDABLE, SENDABLE)
def test_user_and_password_of_a_form_are_those_that_were_sent(data: st.DataObject, user: str, secret: str) -> None:
    assume((user, secret) != ("", ""))
    fields = [("grant_type", "password"), ("username", user), ("password", secret), ("service", SERVICE)]
    body = "&".join(f"{key}={data.draw(encoded(value))}" for key, value in data.draw(st.permutations(fields)))
    asked = read(post(body.encode()))
    assert asked is not None
    assert (asked.username, asked.password) == (user, secret)


@FUZZ
@given(st.data(), SCOPE_VALUES)
def test_a_get_and_a_post_ask_for_the_same(data: st.DataObject, values: list[str]) -> None:
    """However each of them encodes it."""
    scopes = "&".join(f"scope={data.draw(encoded(value))}" for value in values)
    again = "&".join(f"scope={data.draw(encoded(value))}" for value in values)
    by_get = read(get(scopes, basic(b"u:p")))
    by_post = read(post(f"username=u&password=p&{again}&grant_type=password".encode()))
    assert by_get == by_post


@FUZZ
@given(forms(), st.lists(headers(), max_size=2))
@example("scope=%ED%A0%80&account=%00", ["Basic 7aCAOuKAqA=="])
@example("&" * 5000, [])
def test_a_get_is_read_or_refused(query: str, authorization: list[str]) -> None:
    asked = read(get(query, *authorization))
    if asked is None:
        return
    assert len(authorization) <= 1
    assert (asked.username is None) <= (asked.password == "")
    if asked.username is not None:
        content = base64.b64decode(authorization[0].split(None, 1)[1])
        assert content == f"{asked.username}:{asked.password}".encode()
        assert max(len(asked.username), len(asked.password)) <= CREDENTIAL_LENGTH
    assert len(asked.scopes) <= 32


@FUZZ
@given(
    forms().map(lambda form: form.encode(errors="surrogatepass")) | st.binary(max_size=80),
    st.lists(headers(), max_size=2),
    st.sampled_from([FORM, FORM, FORM, "", f"{FORM}; charset=utf-8", "text/plain", "\ud800", ";", "\0"]) | WILD,
)
@example(b"grant_type=password&username=%ff&password=%ff", [], FORM)
def test_a_post_is_read_or_refused(body: bytes, authorization: list[str], content_type: str) -> None:
    asked = read(post(body, *authorization, content_type=content_type))
    if asked is not None:
        assert body.isascii()
        assert b"grant_type" in body or b"%" in body
        assert max(len(asked.username or ""), len(asked.password)) <= CREDENTIAL_LENGTH


@FUZZ
@given(forms(), st.lists(headers(), max_size=2), st.binary(max_size=20), WILD)
def test_every_request_has_a_key_to_be_remembered_by(
    query: str, authorization: list[str], body: bytes, remote: str
) -> None:
    memory = Reuse(AccessCache(TWO))
    raw = RawRequest("GET", query, body, "", tuple(authorization), remote)
    key = memory.key(raw.parts())
    assert key == memory.key(raw.parts())
    for other in (
        RawRequest("POST", query, body, "", tuple(authorization), remote),
        RawRequest("GET", f"{query}&", body, "", tuple(authorization), remote),
        RawRequest("GET", query, body + b"x", "", tuple(authorization), remote),
        RawRequest("GET", query, body, "", (*authorization, ""), remote),
    ):
        assert memory.key(other.parts()) != key
    elsewhere = RawRequest("GET", query, body, "", tuple(authorization), f"{remote}x", "another client")
    assert memory.key(elsewhere.parts()) == key
