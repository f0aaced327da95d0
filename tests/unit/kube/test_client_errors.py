"""The client over HTTP: which errors it raises, what they say, and what they never repeat."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

from pullpass.kube.client import (
    MAX_ANSWER_BYTES,
    MAX_RETRY_AFTER,
    Conflict,
    Gone,
    Kube,
    KubeError,
    NotFound,
    Refused,
    Unavailable,
)
from pullpass.kube.resources import SECRETS, SERVICE_ACCOUNTS
from tests.unit.kube.served import Api, hang_up, watched


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Refused),
        (401, Refused),
        (403, Refused),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (415, Refused),
        (422, Refused),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
@pytest.mark.parametrize("body", [{"message": "in words"}, "no JSON", "[]", "", {"other": 1}])
async def test_errors_say_what_to_do(kube: Kube, api: Api, status: int, error: type[KubeError], body: Any) -> None:
    api.says(status, body)
    with pytest.raises(KubeError) as caught:
        await kube.get(SERVICE_ACCOUNTS, "web", "default")
    assert type(caught.value) is error
    assert caught.value.status == status
    said = "in words" if isinstance(body, dict) and "message" in body else f"HTTP {status}"
    if status == 429:
        said = f"too many requests ({said})"
    assert str(caught.value) == f"GET /api/v1/namespaces/web/serviceaccounts/default: {said}"


LABELS_DENIED = 'admission webhook "labels.example.com" denied it'


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (404, 'secrets "a" not found', 'secrets "a" not found'),
        (409, "the object has been modified", "the object has been modified"),
        (403, 'secrets "a" is forbidden: User "u" cannot create', 'secrets "a" is forbidden: User "u" cannot create'),
        (403, 'admission webhook "x" denied the request: {shibboleth}', 'admission webhook "x" denied it'),
        (
            403,
            "secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: shibboleth",
            "ValidatingAdmissionPolicy 'p' denied it",
        ),
        (
            422,
            "secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'p.x' with binding 'b' denied request: shibboleth",
            "ValidatingAdmissionPolicy 'p.x' denied it",
        ),
        (400, 'admission webhook "labels.example.com" denied the request: shibboleth', LABELS_DENIED),
        (400, 'admission webhook "labels.example.com" denied the request without explanation', LABELS_DENIED),
        (
            500,
            'Internal error occurred: failed calling webhook "labels.example.com": failed to call webhook: shibboleth',
            'admission webhook "labels.example.com" could not be called',
        ),
        (500, 'failed calling webhook "a-b.c": shibboleth', 'admission webhook "a-b.c" could not be called'),
        (
            403,
            'secrets "a" is forbidden: exceeded quota: few, requested: count/secrets=1, used: count/secrets=1',
            "exceeded quota: few",
        ),
        # No name that anybody could have given to a webhook, or not where it stands: nothing is repeated.
        (403, 'admission webhook "shibboleth!" denied the request', "HTTP 403"),
        (403, 'admission webhook "Shibboleth" denied the request', "HTTP 403"),
        (403, f'admission webhook "{"shibboleth" * 26}" denied the request', "HTTP 403"),
        (500, f'failed calling webhook "{"shibboleth" * 26}"', "HTTP 500"),
        (422, 'Invalid value: "admission webhook "shibboleth" denied the request"', "HTTP 422"),
        (500, 'shibboleth: failed calling webhook "shibboleth"', "HTTP 500"),
        (403, "secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'shib boleth' denied request: x", "HTTP 403"),
        (422, 'secrets "a" is forbidden: exceeded quota: shibboleth and more', "HTTP 422"),
        (400, "shibboleth", "HTTP 400"),
        (422, "Invalid value: shibboleth", "HTTP 422"),
        (500, "failed calling webhook: shibboleth", "HTTP 500"),
    ],
)
async def test_what_is_said_of_a_secret_quotes_nothing(
    kube: Kube, api: Api, status: int, message: str, said: str
) -> None:
    api.says(status, {"message": message})
    with pytest.raises(KubeError) as caught:
        await kube.apply(SECRETS, "web", "a", {"data": {"key": "shibboleth"}})
    assert str(caught.value).endswith(f": {said}")
    assert "shibboleth" not in str(caught.value)


async def test_what_admission_says_of_other_kinds_is_repeated_within_bounds(kube: Kube, api: Api) -> None:
    api.says(400, {"message": 'admission webhook "x" denied the request: no label' + "!" * 10_000})
    with pytest.raises(Refused, match="no label") as caught:
        await kube.get(SERVICE_ACCOUNTS, "web", "default")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0"}, 0),
        ({}, 0),
        ({"Retry-After": ""}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": "1.5"}, 0),
        ({"Retry-After": "3600"}, MAX_RETRY_AFTER),
        ({"Retry-After": "9" * 400}, MAX_RETRY_AFTER),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0),
        ({"Retry-After": "Fri, 31 Dec 2999 23:59:59 GMT"}, MAX_RETRY_AFTER),
        ({"Retry-After": "Fri, 31 Dec 2999 23:59:59 -0000"}, MAX_RETRY_AFTER),
        ({"Retry-After": "Fri, 99 Dec 2999 23:59:59 GMT"}, 0),
    ],
)
async def test_a_server_may_ask_for_time(kube: Kube, api: Api, header: dict[str, str], seconds: float) -> None:
    api.says(429, {}, **header)
    with pytest.raises(Unavailable) as caught:
        await kube.get(SECRETS, "web", "a")
    assert caught.value.retry_after == seconds


async def test_a_date_is_counted_from_now(kube: Kube, api: Api) -> None:
    api.says(503, {}, **{"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)})
    with pytest.raises(Unavailable) as caught:
        await kube.get(SECRETS, "web", "a")
    assert 0 < caught.value.retry_after <= 40


@pytest.mark.parametrize("status", [404, 409])
async def test_what_is_gone_or_another_by_now_is_not_deleted(kube: Kube, api: Api, status: int) -> None:
    api.says(status, {"message": "precondition failed"})
    await kube.delete(SECRETS, "web", "a", uid="uid-1")


async def test_a_deletion_that_is_refused_is_told(kube: Kube, api: Api) -> None:
    api.says(403, {"message": "no"})
    with pytest.raises(Refused):
        await kube.delete(SECRETS, "web", "a", uid="uid-1")


NO_OBJECTS = ["<html>", "", "[]", "7", "null", '"metadata"', '{"metadata":', "[" * 100_000, "\udc80"]


@pytest.mark.parametrize("body", NO_OBJECTS, ids=lambda body: body[:10])
async def test_an_answer_that_is_no_json_object(kube: Kube, api: Api, body: str) -> None:
    api.sends(200, body)
    with pytest.raises(Unavailable, match="not a JSON object"):
        await kube.get(SECRETS, "web", "a")


@pytest.mark.parametrize(
    "body",
    [
        *NO_OBJECTS,
        "{}",
        '{"metadata": {}}',
        '{"metadata": 7}',
        '{"metadata": {"resourceVersion": 7}}',
        '{"metadata": {"resourceVersion": "7"}, "items": {"a": 1}}',
        '{"metadata": {"resourceVersion": "7", "continue": 7}}',
    ],
    ids=lambda body: body[:60],
)
async def test_an_answer_that_is_no_list(kube: Kube, api: Api, body: str) -> None:
    api.sends(200, body)
    with pytest.raises(Unavailable, match="not a list"):
        await kube.list_page(SECRETS)


@pytest.mark.parametrize("body", NO_OBJECTS, ids=lambda body: body[:10])
async def test_an_error_that_is_no_json_object(kube: Kube, api: Api, body: str) -> None:
    api.sends(503, body)
    with pytest.raises(Unavailable, match="HTTP 503"):
        await kube.get(SECRETS, "web", "a")


async def test_an_answer_that_is_too_long(kube: Kube, api: Api) -> None:
    api.sends(200, " " * (MAX_ANSWER_BYTES + 1))
    with pytest.raises(Unavailable, match="more than 16 MiB"):
        await kube.get(SECRETS, "web", "a")


async def test_an_error_that_is_too_long(kube: Kube, api: Api) -> None:
    api.sends(500, " " * (MAX_ANSWER_BYTES + 1))
    with pytest.raises(Unavailable, match="HTTP 500"):
        await kube.get(SECRETS, "web", "a")


async def test_an_error_that_breaks_off(kube: Kube, api: Api) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=503)
        response.content_length = 100
        await response.prepare(request)
        await hang_up(request)
        return response

    for call in (lambda: kube.get(SECRETS, "web", "a"), lambda: watched(kube)):
        api.answers.append(answer)
        with pytest.raises(Unavailable, match="HTTP 503"):
            await call()


async def test_an_answer_that_breaks_off(kube: Kube, api: Api) -> None:
    api.streams(b'{"metadata":', then=hang_up)
    with pytest.raises(Unavailable, match="broke before the end"):
        await kube.get(SECRETS, "web", "a")


async def test_nobody_listens(unused_tcp_port: int) -> None:
    settings = client.Configuration(host=f"http://127.0.0.1:{unused_tcp_port}")
    async with client.ApiClient(configuration=settings) as connection:
        with pytest.raises(Unavailable, match="no answer from the API server") as caught:
            await Kube(connection).get(SECRETS, "web", "a")
    assert caught.value.status == 0


async def test_neither_pod_nor_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KubeError, match="not running in a cluster"):
        async with Kube.connect(str(tmp_path / "missing")):
            pass
