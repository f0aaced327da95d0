"""The harness's own way to the API server: as the admin, past every proxy."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

Object = dict[str, Any]

_LABEL = re.compile(r'(\w+)="([^"]*)"')

SECONDS = 15
"""Time limit of a request other than a watch."""
PAUSE = 0.2
"""Seconds before what has failed is tried again."""

TOKENS = "/apis/pullpass.dev/v1alpha1/registrytokens"
SCOPE_MAPS = "/apis/pullpass.dev/v1alpha1/scopemaps"
NAMESPACES = "/api/v1/namespaces"
SECRETS = "/api/v1/secrets"


def secrets_of(namespace: str) -> str:
    """Path of the Secrets of a namespace."""
    return f"{NAMESPACES}/{namespace}/secrets"


def tokens_of(namespace: str) -> str:
    """Path of the RegistryTokens of a namespace."""
    return f"/apis/pullpass.dev/v1alpha1/namespaces/{namespace}/registrytokens"


class ApiError(Exception):
    """The API server refused, or could not be asked: then `status` is 0."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """A session with the API server. Make it with `Api.connect()`."""

    def __init__(self, server: str, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: Path, *, token: str | None = None) -> AsyncIterator["Api"]:
        """Connects as whoever the kubeconfig names, or as the ServiceAccount of the token."""
        config = yaml.safe_load(await asyncio.to_thread(kubeconfig.read_text))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
        if token is None:
            tls.load_cert_chain(user["client-certificate"], user["client-key"])
        # What passes through is passed on as it is, compressed or not.
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=0),
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            auto_decompress=False,
        ) as session:
            yield cls(cluster["server"], session)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        query: dict[str, str] | None = None,
        seconds: float = SECONDS,
    ) -> Object:
        """Sends a request and returns the answer. Raises ApiError."""
        try:
            async with self.session.request(
                method,
                f"{self.server}{path}",
                params=query,
                data=None if body is None else json.dumps(body),
                headers={"Content-Type": content_type, "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(f"{method} {path}: {type(error).__name__}") from error
        if answer.status >= 400:
            raise ApiError(f"{method} {path}: {content.decode(errors='replace')[:500]}", answer.status)
        return dict(json.loads(content))

    async def persist(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json"
    ) -> Object:
        """Like `request`, but asks again for as long as the API server is away or busy."""
        while True:
            try:
                return await self.request(method, path, body, content_type=content_type)
            except ApiError as error:
                if error.status not in (0, 429) and error.status < 500:
                    raise
                await asyncio.sleep(PAUSE)

    async def get(self, path: str, *, seconds: float = SECONDS) -> Object:
        """One object, or the list of a collection."""
        return await self.request("GET", path, seconds=seconds)

    async def create(self, path: str, *bodies: Object) -> None:
        """Creates objects in a collection, also where the API server is away for a while."""
        for body in bodies:
            try:
                await self.persist("POST", path, body)
            except ApiError as error:
                # An earlier try may have reached the API server without our hearing of it.
                if error.status != 409:
                    raise

    async def merge(self, path: str, body: Object) -> Object:
        """A merge patch (RFC 7386)."""
        return await self.persist("PATCH", path, body, content_type="application/merge-patch+json")

    async def delete(self, *paths: str) -> None:
        """Deletes objects or whole collections; what is not there need not be."""
        for path in paths:
            try:
                await self.persist("DELETE", path)
            except ApiError as error:
                if error.status != 404:
                    raise

    async def metrics(self) -> str:
        """The API server's own metrics."""
        async with self.session.get(f"{self.server}/metrics", headers={"Accept-Encoding": "identity"}) as answer:
            return await answer.text()

    async def follow(self, path: str, selector: str) -> AsyncIterator[Object]:
        """All objects of a selection and then each change of one, for ever; deletions are not told.

        After a connection that broke, everything is told again as it is then.
        """
        query = {"labelSelector": selector}
        while True:
            try:
                listed = await self.request("GET", path, query=query)
                for item in listed["items"]:
                    yield item
                position = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
                async for event in self._watch(path, query | position):
                    if event["type"] == "ERROR":
                        break
                    if event["type"] != "DELETED":
                        yield event["object"]
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError, ValueError):
                await asyncio.sleep(PAUSE)

    async def _watch(self, path: str, query: dict[str, str]) -> AsyncIterator[Object]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SECONDS)
        url, headers = f"{self.server}{path}", {"Accept-Encoding": "identity"}
        async with self.session.get(url, params=query, headers=headers, timeout=timeout) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)


def written(metrics: str, resources: Sequence[str] = ()) -> float:
    """Writes that the API server has counted, from its metrics: of these resources, or of all those that we write.

    Leases are not among them: the election renews one all the time.
    """
    wanted = resources or ("registrytokens", "scopemaps", "secrets", "serviceaccounts", "configmaps", "events")
    total = 0.0
    for line in metrics.splitlines():
        if line.startswith("apiserver_request_total{"):
            labels = dict(_LABEL.findall(line))
            if labels["verb"] in ("POST", "PUT", "PATCH", "APPLY", "DELETE") and labels["resource"] in wanted:
                total += float(line.rpartition(" ")[2])
    return total
