"""Ask the token server for access tokens, as every client of a registry does."""

import base64
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.cluster.install import Release


@dataclass(frozen=True)
class Credentials:
    """What a pull secret says; `uid` is that of the Secret."""

    username: str
    password: str = field(repr=False)
    uid: str = ""

    @classmethod
    def read(cls, secret: Mapping[str, Any], host: str) -> "Credentials":
        """The login that a pull secret holds for a host."""
        entry = _auths(secret)[host]
        return cls(entry["username"], entry["password"], secret["metadata"]["uid"])

    @staticmethod
    def hosts(secret: Mapping[str, Any]) -> list[str]:
        """The hosts that a pull secret holds a login for."""
        return list(_auths(secret))

    @property
    def id(self) -> str:
        """The public id of the password, under which the token's status lists it."""
        return self.password.removeprefix("pullpass_")[:6]


@dataclass(frozen=True)
class Answer:
    """What the token server answered: the status, and the access that was granted, by repository."""

    status: int
    access: Mapping[str, frozenset[str]] = field(default_factory=dict)
    token: str = field(default="", repr=False)
    expires_at: datetime | None = None

    @property
    def accepted(self) -> bool:
        return self.status == 200


def login(release: Release, credentials: Credentials, *scopes: str, service: str = "registry") -> Answer:
    """Log in and ask for `scopes`. A connection that breaks, as when a pod is killed, is tried again."""
    query = urllib.parse.urlencode([("service", service), *(("scope", scope) for scope in scopes)])
    basic = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
    request = urllib.request.Request(f"{release.realm}?{query}", headers={"Authorization": f"Basic {basic}"})
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5, context=release.context) as answer:
                return _granted(answer.status, json.load(answer)["token"])
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in (502, 503):
                    return Answer(error.code)
        except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException):
            pass
        if time.monotonic() > deadline:
            raise AssertionError("the token server does not answer")
        time.sleep(0.1)


def pull_status(release: Release, image: str, access_token: str, *, at: str = "") -> int:
    """What the release's registry, or the one at this URL, answers to a pull of `repository:tag` with this token."""
    name, _, tag = image.partition(":")
    headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/vnd.oci.image.manifest.v1+json"}
    request = urllib.request.Request(f"{at or release.registry_url}/v2/{name}/manifests/{tag}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10, context=release.context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _auths(secret: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"])


def _granted(status: int, access_token: str) -> Answer:
    body = access_token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    access = {entry["name"]: frozenset(entry["actions"]) for entry in claims["access"]}
    return Answer(status, access, access_token, datetime.fromtimestamp(claims["exp"], UTC))
