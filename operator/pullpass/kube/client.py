"""A thin client over kubernetes.aio: plain JSON in and out, a few verbs, and errors that say what to do.

The generated client turns each object into a model, which costs time and memory at 20,000 objects; its connection,
TLS and credentials handling is used as it is.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.config.config_exception import ConfigException

from pullpass.api import names
from pullpass.kube.resources import Resource

Object = dict[str, Any]
Guard = Callable[[], Awaitable[None]]

REQUEST_SECONDS = 30
"""Time limit of one request other than a watch."""
PAGE = 500
"""Objects in one page of a list."""


class KubeError(Exception):
    """The API server refused a request or could not be asked. `status` is the HTTP status, 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotFound(KubeError):
    """404: the object, its namespace or its kind is not there."""


class Conflict(KubeError):
    """409: the object exists already, changed meanwhile, or belongs to another manager."""


class Gone(KubeError):
    """410: the list or watch position is too old; list again."""


class Refused(KubeError):
    """400, 401, 403, 422 and the like: asking again changes nothing until somebody changes something."""


class Unavailable(KubeError):
    """429, 5xx, no connection, no answer in time: ask again later. `retry_after` is in seconds."""

    def __init__(self, message: str, status: int = 0, retry_after: float = 0) -> None:
        super().__init__(message, status)
        self.retry_after = retry_after


def _error(method: str, path: str, status: int, body: bytes, retry_after: str | None) -> KubeError:
    try:
        said = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        said = f"HTTP {status}"
    # An admission message may quote the object it refused, so for Secrets it is not repeated.
    if "/secrets" in path:
        said = said.partition(" denied ")[0] + " denied it" if " denied " in said else said
        said = said if status in (403, 404, 409) else f"HTTP {status}"
    message = f"{method} {path}: {said}"
    if status == 404:
        return NotFound(message, status)
    if status == 409:
        return Conflict(message, status)
    if status == 410:
        return Gone(message, status)
    if status == 429 or status >= 500:
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
        return Unavailable(message, status, seconds)
    return Refused(message, status)


class Kube:
    """One connection pool to the API server. Make it with `Kube.connect()`."""

    def __init__(self, api: client.ApiClient, guards: tuple[Guard, ...] = ()) -> None:
        self.api = api
        self._guards = guards

    def guarded(self, guard: Guard) -> "Kube":
        """The same connections, with a guard that each write awaits before it is sent; what it raises stops the write.

        Guards are awaited in the order of their adding.
        """
        return Kube(self.api, (*self._guards, guard))

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: str | None = None) -> AsyncIterator["Kube"]:
        """Connects as the pod's ServiceAccount, or by kubeconfig outside a cluster.

        Raises KubeError when there is neither.
        """
        settings = client.Configuration()
        try:
            if kubeconfig is None:
                config.load_incluster_config(client_configuration=settings)
            else:
                raise ConfigException
        except ConfigException:
            try:
                await config.load_kube_config(config_file=kubeconfig, client_configuration=settings)
            except ConfigException as error:
                raise KubeError(f"not running in a cluster, and no kubeconfig found ({error})") from error
        async with client.ApiClient(configuration=settings) as api:
            yield cls(api)

    async def _send(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        time_limit: Any = REQUEST_SECONDS,
    ) -> aiohttp.ClientResponse:
        request = await self.api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = await self.api.call_api(*request, _request_timeout=time_limit)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{method} {path}: no answer from the API server ({type(error).__name__})") from error
        response: aiohttp.ClientResponse = answer.response
        if response.status >= 400:
            async with response:
                content = await response.read()
            raise _error(method, path, response.status, content, response.headers.get("Retry-After"))
        return response

    async def request(self, method: str, path: str, **more: Any) -> Object:
        """Sends one request and returns the JSON answer. Raises a KubeError."""
        if method != "GET":
            for guard in self._guards:
                await guard()
        try:
            response = await self._send(method, path, **more)
            async with response:
                content: Object = json.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable(f"{method} {path}: the answer broke off ({type(error).__name__})") from error
        return content

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """One object, as it is now."""
        return await self.request("GET", resource.path(namespace, name))

    async def list_page(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        limit: int = PAGE,
        continue_: str | None = None,
    ) -> Object:
        """One page of a list: the List object, with `metadata.continue` where more is to come."""
        query: dict[str, Any] = {"limit": limit}
        if label_selector:
            query["labelSelector"] = label_selector
        if continue_:
            query["continue"] = continue_
        return await self.request("GET", resource.path(namespace), query=query)

    async def list(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str | None = None
    ) -> AsyncIterator[Object]:
        """All objects, page by page. Raises Gone when the position is lost on the way."""
        position: str | None = None
        while True:
            page = await self.list_page(resource, namespace, label_selector=label_selector, continue_=position)
            for item in page.get("items") or []:
                yield item
            position = page["metadata"].get("continue") or None
            if position is None:
                return

    async def create(self, resource: Resource, namespace: str | None, body: Object) -> Object:
        """Creates an object. Raises Conflict where there is one."""
        return await self.request(
            "POST", resource.path(namespace), query={"fieldManager": names.FIELD_MANAGER}, body=body
        )

    async def replace(self, resource: Resource, namespace: str | None, name: str, body: Object) -> Object:
        """Replaces an object; with a resourceVersion in the body only that version. Raises Conflict otherwise."""
        return await self.request(
            "PUT", resource.path(namespace, name), query={"fieldManager": names.FIELD_MANAGER}, body=body
        )

    async def apply(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Object,
        *,
        subresource: str | None = None,
        force: bool = True,
    ) -> Object:
        """Server-side apply. With `force=False` a field that another manager holds raises Conflict."""
        path = resource.path(namespace, name) + (f"/{subresource}" if subresource else "")
        query = {"fieldManager": names.FIELD_MANAGER, "force": str(force).lower()}
        return await self.request("PATCH", path, query=query, body=body, content_type="application/apply-patch+yaml")

    async def json_patch(
        self, resource: Resource, namespace: str | None, name: str, operations: Sequence[Object]
    ) -> Object:
        """A JSON patch (RFC 6902). Raises Refused where its test does not hold."""
        return await self.request(
            "PATCH",
            resource.path(namespace, name),
            query={"fieldManager": names.FIELD_MANAGER},
            body=operations,
            content_type="application/json-patch+json",
        )

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str, resource_version: str | None = None
    ) -> None:
        """Deletes the object of that UID. An object that is gone, or is another one by now, is left as it is.

        With a resourceVersion only that version is deleted. Raises Conflict otherwise.
        """
        conditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version is not None else {})
        try:
            await self.request("DELETE", resource.path(namespace, name), body={"preconditions": conditions})
        except NotFound:
            return
        except Conflict:
            if resource_version is not None:
                raise

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        resource_version: str,
        *,
        label_selector: str | None = None,
        opened: Callable[[], None] = lambda: None,
        server_seconds: int = 290,
        silence_seconds: float = 100,
    ) -> AsyncIterator[Object]:
        """Watch events, bookmarks among them, until the server ends the watch. Calls `opened` once the watch stands.

        A connection without a byte for `silence_seconds` counts as broken: bookmarks come once a minute.
        Raises Gone for a position that is too old, Unavailable for a broken connection.
        """
        query: dict[str, Any] = {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": server_seconds,
        }
        if label_selector:
            query["labelSelector"] = label_selector
        path = resource.path(namespace)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS, sock_read=silence_seconds)
        response = await self._send("GET", path, query=query, time_limit=timeout)
        opened()
        rest = b""
        try:
            async with response:
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line.strip():
                            yield self._event(path, json.loads(line))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable(f"WATCH {path}: the connection broke ({type(error).__name__})") from error

    @staticmethod
    def _event(path: str, event: Object) -> Object:
        if event.get("type") == "ERROR":
            status = event.get("object") or {}
            raise _error("WATCH", path, int(status.get("code") or 500), json.dumps(status).encode(), None)
        return event
