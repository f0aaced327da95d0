"""The POST form (distribution's OAuth2 page, RFC 6749), as containerd sends it for every kubelet."""

from typing import Any

import pytest

from pullpass.tokenserver.handler import TOKEN_PATHS
from tests.contract.protocol.client import FORGED, FORM, GOOD, PULL, USER, WRONG, Client, basic, refused


@pytest.mark.parametrize("path", TOKEN_PATHS)
async def test_containerd_pull(client: Client, path: str) -> None:
    """Without `access_token` in the answer containerd fails, and does not try GET."""
    answer = await client.post(
        f"{FORM}; charset=utf-8", path, client_id="containerd-client", scope="repository:demo/nginx:pull"
    )
    assert answer.status == 200
    assert answer.access == PULL
    assert answer.json["access_token"]


@pytest.mark.parametrize(
    "content_type",
    [FORM, f"{FORM}; charset=utf-8", f"{FORM};charset=UTF-8", FORM.upper(), f" {FORM} ;x=y", None],
)
async def test_a_form_is_known_by_its_media_type_alone(client: Client, content_type: str | None) -> None:
    """regctl and containerd append a charset; without a type it can be nothing else."""
    assert (await client.post(content_type)).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="no client_id, as in Azure's own examples"),
        pytest.param({"client_id": "docker"}, id="client_id"),
        pytest.param({"client_id": ""}, id="an empty client_id"),
        pytest.param({"service": "-"}, id="no service"),
        pytest.param({"service": ""}, id="an empty service"),
        pytest.param({"access_type": "offline"}, id="offline"),
        pytest.param({"access_type": "online"}, id="online"),
        pytest.param({"access_type": "other"}, id="an unknown access type"),
        pytest.param({"account": USER}, id="account"),
        pytest.param({"refresh_token": "x"}, id="a refresh token beside the password"),
        pytest.param({"unknown": ["1", "2"]}, id="unknown fields"),
    ],
)
async def test_forms_that_work(client: Client, fields: dict[str, Any]) -> None:
    answer = await client.post(scope="repository:demo/nginx:pull", **fields)
    assert answer.status == 200
    assert answer.access == PULL


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        pytest.param({"password": WRONG}, 401, "invalid_grant", id="a password of nobody"),
        pytest.param({"password": FORGED}, 401, "invalid_grant", id="a wrong password"),
        pytest.param({"password": GOOD + "x" * 30}, 401, "invalid_grant", id="past 72 bytes"),
        pytest.param({"password": GOOD + "\0"}, 401, "invalid_grant", id="NUL behind the password"),
        pytest.param({"username": USER + "\0"}, 401, "invalid_grant", id="NUL behind the user"),
        pytest.param({"username": "web.nobody"}, 401, "invalid_grant", id="an unknown user"),
        pytest.param({"username": "wéb.🔑"}, 401, "invalid_grant", id="a user in UTF-8"),
        pytest.param({"username": ""}, 401, "invalid_grant", id="an empty user"),
        pytest.param({"username": "-"}, 401, "invalid_grant", id="no user"),
        pytest.param({"password": "-"}, 401, "invalid_grant", id="no password"),
        pytest.param({"username": "-", "password": "-"}, 401, "invalid_grant", id="no credentials"),
        pytest.param({"password": "x" * 2000}, 401, "invalid_grant", id="an endless password"),
        pytest.param({"grant_type": "-"}, 400, "unsupported_grant_type", id="no grant type"),
        pytest.param({"grant_type": ""}, 400, "unsupported_grant_type", id="an empty grant type"),
        pytest.param({"grant_type": "Password"}, 400, "unsupported_grant_type", id="a grant type in upper case"),
        pytest.param({"grant_type": "client_credentials"}, 400, "unsupported_grant_type", id="another grant type"),
        pytest.param({"grant_type": ["password", "password"]}, 400, "invalid_request", id="two grant types"),
        pytest.param({"password": [GOOD, WRONG]}, 400, "invalid_request", id="two passwords"),
        pytest.param({"password": [GOOD, GOOD]}, 400, "invalid_request", id="the same password twice"),
        pytest.param({"username": [USER, "web.other"]}, 400, "invalid_request", id="two users"),
        pytest.param({"service": "other"}, 400, "invalid_request", id="another service"),
        pytest.param({"service": ["registry", "other"]}, 400, "invalid_request", id="another service beside ours"),
        pytest.param({"account": "web.other"}, 400, "invalid_request", id="another account"),
        pytest.param({"account": [USER, "web.other"]}, 400, "invalid_request", id="another account beside the user"),
        pytest.param({"scope": "nonsense"}, 400, "invalid_scope", id="nonsense for a scope"),
        pytest.param({"x": ["1"] * 100}, 400, "invalid_request", id="a hundred fields"),
    ],
)
async def test_forms_that_are_refused(client: Client, fields: dict[str, Any], status: int, error: str) -> None:
    """RFC 6749, 5.2. containerd then tries GET: after 400, 401, 404 and 405, and after nothing else."""
    answer = await client.post(**fields)
    refused(answer, status, "UNAUTHORIZED" if status == 401 else "UNSUPPORTED")
    assert answer.json["error"] == error
    assert answer.json["error_description"] == answer.json["errors"][0]["message"]


@pytest.mark.parametrize("token", ["x", "", GOOD, "-"])
async def test_a_refresh_token_was_never_issued_here(client: Client, token: str) -> None:
    """401 and not 400: clients then ask for the password again. That one stands beside it opens nothing either."""
    answer = await client.post(grant_type="refresh_token", refresh_token=token)
    refused(answer, 401, "UNAUTHORIZED")
    assert answer.json["error"] == "invalid_grant"


async def test_an_access_token_is_no_refresh_token_and_no_password(client: Client) -> None:
    token = (await client.get()).json["access_token"]
    refused(await client.post(grant_type="refresh_token", refresh_token=token), 401, "UNAUTHORIZED")
    refused(await client.post(password=token), 401, "UNAUTHORIZED")
    refused(await client.get("", f"Bearer {token}"), 401, "UNAUTHORIZED")
    refused(await client.get("", basic("00000000-0000-0000-0000-000000000000", token[:500])), 401, "UNAUTHORIZED")


async def test_the_header_may_carry_the_credentials_of_a_form(client: Client) -> None:
    good = basic(USER, GOOD)
    for body in (b"grant_type=password", b"grant_type=password&username=&password="):
        assert (await client.send("POST", "/token", good, body=body, content_type=FORM)).status == 200


async def test_the_form_goes_before_the_header(client: Client) -> None:
    body = f"grant_type=password&username={USER}&password={WRONG}".encode()
    answer = await client.send("POST", "/token", basic(USER, GOOD), body=body, content_type=FORM)
    refused(answer, 401, "UNAUTHORIZED")


async def test_half_a_form_is_not_filled_up_from_the_header(client: Client) -> None:
    body = f"grant_type=password&username={USER}".encode()
    answer = await client.send("POST", "/token", basic(USER, GOOD), body=body, content_type=FORM)
    refused(answer, 401, "UNAUTHORIZED")


async def test_the_query_of_a_post_counts_for_nothing(client: Client) -> None:
    """RFC 6749, 3.2: parameters of a POST stand in its body."""
    body = f"grant_type=password&username={USER}&password={GOOD}".encode()
    answer = await client.send(
        "POST", "/token?scope=repository:demo/nginx:pull&service=other", body=body, content_type=FORM
    )
    assert answer.status == 200
    assert answer.access == []


@pytest.mark.parametrize("encoded", ["pull%70ass_", "%70%75%6C%6c%70%61%73%73_"])
async def test_a_percent_encoded_password_is_decoded(client: Client, encoded: str) -> None:
    """Every byte may come encoded, with digits of either case."""
    body = f"grant_type=password&username=web%2Ereader&password={GOOD.replace('pullpass_', encoded)}".encode()
    assert (await client.send("POST", "/token", body=body, content_type=FORM)).status == 200


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"{}", "application/json", id="JSON"),
        pytest.param(b"--x\r\n", "multipart/form-data; boundary=x", id="multipart"),
        pytest.param(b"grant_type=password", "text/plain", id="text"),
        pytest.param(b"grant_type=password", "x", id="no media type"),
        pytest.param(b"a=\xff", FORM, id="bytes beyond ASCII"),
        pytest.param("a=é".encode(), FORM, id="UTF-8 that is not percent-encoded"),
        pytest.param(b"", FORM, id="empty"),
        pytest.param(b"&&&===", FORM, id="separators alone"),
        pytest.param(b"\0", FORM, id="NUL"),
        pytest.param(b"%", FORM, id="half an escape"),
    ],
)
async def test_a_body_that_is_no_form(client: Client, body: bytes, content_type: str) -> None:
    refused(await client.send("POST", "/token", body=body, content_type=content_type), 400, "UNSUPPORTED")


async def test_a_body_beyond_any_clients_is_refused(client: Client) -> None:
    refused(await client.post(scope="a" * 100_000), 413, "SIZE_INVALID")
