"""The registry's API with no client in between: a challenge, GET at the realm with Basic, the same again.

With it tests put content into registries, and ask for single requests that no client can be made to send.
"""

import base64
import http.client
import json
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

from .client import TIMEOUT, Credentials, RefusedError
from .content import INDEX, MANIFEST, Content, referrers_index


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Api:
    """Requests to one registry over plain HTTP. Raises RefusedError for 401, and RuntimeError for what else fails."""

    name = "api"

    def __init__(self, registry: str, credentials: Credentials | None) -> None:
        self.registry = registry
        self.credentials = credentials

    def push(self, content: Content, image: str) -> None:
        repository, _, tag = image.partition(":")
        for digest, blob in content.blobs.items():
            started = self._ask(202, "POST", f"/v2/{repository}/blobs/uploads/", body=b"")
            place = urlsplit(started.headers["Location"])
            target = f"{place.path}?{place.query}&digest={quote(digest)}"
            self._ask(201, "PUT", target, body=blob, headers={"Content-Type": "application/octet-stream"})
        self._put_manifest(repository, tag, content.manifest, MANIFEST)

    def attach(self, referrer: Content, image: str) -> None:
        """Push what refers to the image, as clients do where the registry keeps no list of referrers."""
        repository, _, _ = image.partition(":")
        subject = json.loads(referrer.manifest)["subject"]["digest"]
        self.push(referrer, f"{repository}:{referrer.digest}")
        self._put_manifest(repository, subject.replace(":", "-"), referrers_index(referrer), INDEX)

    def mount_blob(self, digest: str, origin: str, repository: str) -> int:
        """The registry's answer: 201 when it is mounted, 202 when it is to be uploaded."""
        query = urlencode({"mount": digest, "from": origin})
        return self._send_with_token("POST", f"/v2/{repository}/blobs/uploads/?{query}", b"", {}).status

    def _put_manifest(self, repository: str, reference: str, manifest: bytes, media_type: str) -> None:
        path = f"/v2/{repository}/manifests/{reference}"
        self._ask(201, "PUT", path, body=manifest, headers={"Content-Type": media_type})

    def _ask(
        self, status: int, method: str, path: str, *, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Answer:
        answer = self._send_with_token(method, path, body, headers or {})
        if answer.status != status:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.headers} {answer.body.decode()}")
        return answer

    def _send_with_token(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One request; where it is challenged, once more with an access token for the scopes of the challenge."""
        answer = self._send(method, path, body, headers)
        challenge = self._challenge(answer)
        if challenge is not None:
            scopes = [("scope", scope) for scope in challenge.get("scope", "").split()]
            token = self._get_token(challenge["realm"], [("service", challenge["service"]), *scopes])
            answer = self._send(method, path, body, {**headers, "Authorization": f"Bearer {token}"})
        if answer.status == 401:
            raise RefusedError(f"{method} {path}: {answer.headers} {answer.body.decode()}")
        return answer

    def _get_token(self, realm: str, query: list[tuple[str, str]]) -> str:
        headers = {}
        if self.credentials is not None:
            user, password = self.credentials.username, self.credentials.password
            headers["Authorization"] = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
            query = [("account", user), *query]
        place = urlsplit(realm)
        answer = self._send("GET", f"{place.path}?{urlencode(query)}", None, headers, to=place.netloc)
        if answer.status != 200:
            raise RefusedError(f"GET {place.path}: {answer.status} {answer.body.decode()}")
        token: str = json.loads(answer.body)["token"]
        return token

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], *, to: str | None = None
    ) -> Answer:
        with closing(http.client.HTTPConnection(to or self.registry, timeout=TIMEOUT)) as connection:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())

    @staticmethod
    def _challenge(answer: Answer) -> dict[str, str] | None:
        """The parameters of a Bearer challenge, None where there is none."""
        if answer.status != 401:
            return None
        scheme, _, parameters = {key.title(): value for key, value in answer.headers.items()}[
            "Www-Authenticate"
        ].partition(" ")
        assert scheme == "Bearer"
        return dict(re.findall(r'(\w+)="([^"]*)"', parameters))
