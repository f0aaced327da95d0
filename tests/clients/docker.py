"""The requests of Docker's engine: a challenge, GET at the realm with Basic, the same again."""

import base64
import http.client
import json
import re
import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

from .client import TIMEOUT, WRONG, Client, RefusedError
from .content import INDEX, MANIFEST, Content, blobs_of, digest_of, referrers_index

_ACCEPT = {"Accept": f"{MANIFEST}, {INDEX}"}
# Docker reads the first as "denied: requested access to the resource is denied".
_SAYS = {"": 'error="insufficient_scope"', "wrong": WRONG, "anonymous": WRONG}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Docker(Client):
    """Docker speaks to the registry through its daemon; these are the daemon's requests, its texts are not here."""

    name = "docker"
    says = _SAYS

    def login(self) -> None:
        challenge = self._challenge(self._send("GET", "/v2/"))
        if challenge is not None:
            query = {"client_id": "docker", "offline_token": "true", "service": challenge["service"]}
            self._get_token(challenge["realm"], [*query.items()])

    def pull(self, image: str) -> str:
        repository, _, tag = image.partition(":")
        manifest = self._ask(200, "GET", f"/v2/{repository}/manifests/{tag}", headers=_ACCEPT).body
        for digest in blobs_of(manifest):
            assert digest_of(self._ask(200, "GET", f"/v2/{repository}/blobs/{digest}").body) == digest
        return digest_of(manifest)

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

    def mount(self, source: str, target: str) -> None:
        origin, _, tag = source.partition(":")
        repository, _, new = target.partition(":")
        manifest = self._ask(200, "GET", f"/v2/{origin}/manifests/{tag}", headers=_ACCEPT).body
        for digest in blobs_of(manifest):
            if self.mount_blob(digest, origin, repository) != 201:
                raise RuntimeError(f"{digest} was not mounted")
        self._put_manifest(repository, new, manifest, MANIFEST)

    def mount_blob(self, digest: str, origin: str, repository: str) -> int:
        """The registry's answer: 201 when it is mounted, 202 when it is to be uploaded."""
        query = urlencode({"mount": digest, "from": origin})
        return self._send_with_token("POST", f"/v2/{repository}/blobs/uploads/?{query}", b"", {}).status

    def tags(self, repository: str) -> list[str]:
        return list(json.loads(self._ask(200, "GET", f"/v2/{repository}/tags/list").body)["tags"])

    def catalog(self) -> list[str]:
        return list(json.loads(self._ask(200, "GET", "/v2/_catalog").body)["repositories"])

    def delete(self, image: str) -> None:
        repository, _, tag = image.partition(":")
        found = self._ask(200, "HEAD", f"/v2/{repository}/manifests/{tag}", headers=_ACCEPT)
        digest = found.headers["Docker-Content-Digest"]
        self._ask(202, "DELETE", f"/v2/{repository}/manifests/{digest}")

    def referrers(self, image: str) -> list[str]:
        repository, _, tag = image.partition(":")
        found = self._ask(200, "HEAD", f"/v2/{repository}/manifests/{tag}", headers=_ACCEPT)
        digest = found.headers["Docker-Content-Digest"]
        self._ask(404, "GET", f"/v2/{repository}/referrers/{digest}")  # which Distribution does not have
        kept = self._ask(200, "GET", f"/v2/{repository}/manifests/{digest.replace(':', '-')}", headers=_ACCEPT)
        return [entry["digest"] for entry in json.loads(kept.body)["manifests"]]

    def _put_manifest(self, repository: str, reference: str, manifest: bytes, media_type: str) -> None:
        path = f"/v2/{repository}/manifests/{reference}"
        self._ask(201, "PUT", path, body=manifest, headers={"Content-Type": media_type})

    def _ask(
        self,
        status: int,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        answer = self._send_with_token(method, path, body, headers or {})
        if answer.status != status:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.headers} {answer.body.decode()}")
        return answer

    def _send_with_token(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
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
        assert (place.scheme == "https") is (self.trust is not None)
        answer = self._send("GET", f"{place.path}?{urlencode(query)}", None, headers, to=place.netloc)
        if answer.status != 200:
            raise RefusedError(f"GET {place.path}: {answer.status} {answer.body.decode()}")
        token: str = json.loads(answer.body)["token"]
        return token

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        to: str | None = None,
    ) -> Answer:
        connection = self._connection(to or self.registry)
        with closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())

    def _connection(self, host: str) -> http.client.HTTPConnection:
        if self.trust is None:
            return http.client.HTTPConnection(host, timeout=TIMEOUT)
        context = ssl.create_default_context(cafile=self.trust)
        return http.client.HTTPSConnection(host, timeout=TIMEOUT, context=context)

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
