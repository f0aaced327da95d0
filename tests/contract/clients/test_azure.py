"""The requests of Azure Container Registry's own SDK for Python, azure-containerregistry.

The SDK itself is not in the matrix. It asks for access tokens below the registry's own address, whatever the realm, so
it needs an address that leads `/oauth2/token` here and the rest to the registry. With an Entra ID credential it begins
with `/oauth2/exchange`, which is for Azure's tokens and not here. Tags and the catalog it reads under `/acr/v1`, which
Distribution does not have.

Without a credential, and with the header `Authorization: Basic …` given to it as `headers`, it pulls, pushes and
deletes by digest; for pushes the registry must have `http.relativeurls` set. It then sends what is tested here.
"""

import base64
import http.client
import json
from contextlib import closing
from urllib.parse import quote, urlencode

import pytest

from tests.clients.api import Api
from tests.clients.content import MANIFEST, TAG, digest_of
from tests.contract.clients.realm import SERVICE
from tests.contract.clients.stage import VERSIONS, Stage, repository

FORM = {"Content_Type": "application/x-www-form-urlencoded"}


def ask(host: str, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(host, timeout=120)) as connection:
        connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.parametrize("rights", ["none", "read"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_form_without_a_user_and_basic_beside_it(stage: Stage, version: str, rights: str) -> None:
    registry = stage.registry(version, True)
    stage.prepare(registry, Api.name, "pull", rights)
    place = repository(rights, Api.name, "pull")
    login = stage.realm.login(rights)
    basic = "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    form = urlencode({"service": SERVICE, "scope": f"repository:{place}:pull", "grant_type": "password"})
    path = "/oauth2/token?api-version=2021-07-01"
    status, body = ask(stage.realm.host, "POST", path, form, Authorization=basic, **FORM)
    assert status == 200
    token = json.loads(body)["access_token"]
    manifest = f"/v2/{quote(place, safe='')}/manifests/{TAG}"
    status, body = ask(registry.host, "GET", manifest, Authorization=f"Bearer {token}", Accept=MANIFEST)
    if rights == "none":
        assert status == 401
    else:
        assert (status, digest_of(body)) == (200, stage.contents["image"].digest)


def test_the_form_alone_gets_nothing(stage: Stage) -> None:
    form = urlencode({"service": SERVICE, "scope": "repository:read/app:pull", "grant_type": "password"})
    status, body = ask(stage.realm.host, "POST", "/oauth2/token?api-version=2021-07-01", form, **FORM)
    assert (status, json.loads(body)["error"]) == (401, "invalid_grant")


def test_tokens_of_azure_are_not_exchanged(stage: Stage) -> None:
    form = urlencode({"grant_type": "access_token", "service": SERVICE, "access_token": "of Entra ID"})
    status, body = ask(stage.realm.host, "POST", "/oauth2/exchange?api-version=2021-07-01", form, **FORM)
    assert (status, json.loads(body)["errors"][0]["code"]) == (404, "UNSUPPORTED")
