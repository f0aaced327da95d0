"""A thin client over kubernetes.aio: plain JSON in and out, a few verbs, and errors that say what to do.

The generated client turns each object into a model, which costs time and memory at 20,000 objects; its connection,
TLS and credentials handling is used as it is.
"""

import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.config.config_exception import ConfigException

from pullpass.api import names
from pullpass.api.times import utcnow
from pullpass.kube.resources import Resource

Object = dict[str, Any]
Guard = Callable[[], Awaitable[None]]

REQUEST_SECONDS = 30
"""Time limit of one request, watches excepted."""
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""How the kernel asks, on the quiet connection of a watch, whether the other side is still there. Without an answer the
watch breaks after 10 + 3 x 5 seconds. Kubernetes takes a node for dead after 40 at the earliest: by then a process on
it is already looking for the API server, and finds it soon after the network is back."""
FIRST_PAGE = 25
"""Objects in the first page of a list, before their size is known."""
MAX_PAGE = 500
PAGE_BYTES = 1024 * 1024
"""Target size of a page. Parsing a page blocks the event loop."""
MAX_PAGE_BYTES = 4 * PAGE_BYTES
"""A larger page is not read; the list continues with fewer objects."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Ten times the largest object that the API server accepts. A larger answer is not read."""
MAX_MESSAGE = 500
"""Characters of an error message of the API server that are repeated in ours."""
MAX_RETRY_AFTER = 30.0
"""Longest wait in seconds that an answer's Retry-After can ask for."""


class KubeError(Exception):
    """The API server refused a request or did not answer. `status` is the HTTP status, 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotFound(KubeError):
    """404: the object, its namespace or its kind does not exist."""


class Conflict(KubeError):
    """409: the object exists already, changed meanwhile, or belongs to another manager."""


class Gone(KubeError):
    """410: the list or watch position is too old; list again."""


class Refused(KubeError):
    """400, 401, 403, 422 and the like: a retry is of no use until somebody changes something."""


class Unavailable(KubeError):
    """429, 5xx, no connection or no answer in time: try again later. `retry_after` is in seconds."""

    def __init__(self, message: str, status: int = 0, retry_after: float = 0) -> None:
        super().__init__(message, status)
        self.retry_after = retry_after


class _TooLargeError(Exception):
    """An answer is longer than allowed."""


@dataclass(frozen=True)
class Page:
    """One page of a list. `position` is the token for the next one, None on the last one; `size` is in bytes."""

    items: Sequence[Object]
    resource_version: str
    position: str | None = None
    size: int = 0

    def next_limit(self) -> int:
        """Returns how many objects make a page of PAGE_BYTES, if the next ones are as large as these."""
        return min(max(1, PAGE_BYTES * len(self.items) // max(self.size, 1)), MAX_PAGE)


_NAME = r"([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)"
_ADMISSION = (
    (re.compile(rf'admission webhook "{_NAME}" denied the request'), 'admission webhook "{}" denied it'),
    (
        re.compile(rf'(?:Internal error occurred: )?failed calling webhook "{_NAME}"'),
        'admission webhook "{}" could not be called',
    ),
    (
        re.compile(
            rf"""(?:secrets (?:"[^"]*" )?is forbidden: )?ValidatingAdmissionPolicy '{_NAME}' """
            rf"""(?:with binding '[^']*' )?denied request"""
        ),
        "ValidatingAdmissionPolicy '{}' denied it",
    ),
    (re.compile(rf'secrets (?:"[^"]*" )?is forbidden: exceeded quota: {_NAME}(?=,|$)'), "exceeded quota: {}"),
)
"""Refusals of a Secret by admission, and what is repeated of them: the name of the webhook, policy or quota, not the
text after it, which may quote the Secret."""


def _of_secret(status: int, said: str) -> str:
    for pattern, words in _ADMISSION:
        if (found := pattern.match(said)) is not None:
            return words.format(found[1])
    if status in (403, 404, 409) and " denied " not in said:
        return said
    return f"HTTP {status}"


def _retry_after(value: str | None) -> float:
    """Parses a Retry-After header (RFC 9110, 10.2.3: seconds or a date) into bounded seconds, 0 without one."""
    if value is None:
        return 0.0
    if value.isascii() and value.isdigit():
        seconds = float(value)
    else:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - utcnow()).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _parse(body: bytes) -> Object:
    """Parses a JSON object. Raises ValueError for anything else."""
    try:
        content = json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if isinstance(content, dict):
        return content
    raise ValueError("not an object")


def _page(path: str, body: bytes) -> Page:
    try:
        content = _parse(body)
        metadata, items = content["metadata"], content.get("items") or []
        version, position = metadata["resourceVersion"], metadata.get("continue") or None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable(f"GET {path}: the answer is not a list ({type(error).__name__})") from error
    if not (isinstance(items, list) and isinstance(version, str) and isinstance(position, str | None)):
        raise Unavailable(f"GET {path}: the answer is not a list")
    return Page(items, version, position, len(body))


def not_stored(written: Object, answer: Object) -> list[str]:
    """Names the labels and annotations of a written object that the API server has not stored as they were written: an
    admission policy or webhook has taken them away."""
    return [
        key
        for kind in ("labels", "annotations")
        for key, value in (written["metadata"].get(kind) or {}).items()
        if (answer["metadata"].get(kind) or {}).get(key) != value
    ]


def _keep_alive(response: aiohttp.ClientResponse) -> None:
    """Turns KEEPALIVE on, as far as this system has it; a response that is over has no connection any more."""
    transport = response.connection.transport if response.connection is not None else None
    connection = transport.get_extra_info("socket") if transport is not None else None
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    parts, size = [], 0
    async with response:
        async for part in response.content.iter_any():
            size += len(part)
            if size > most:
                raise _TooLargeError
            parts.append(part)
    return b"".join(parts)


def _error(method: str, path: str, status: int, body: bytes, retry_after: str | None) -> KubeError:
    try:
        said = str(_parse(body)["message"])[:MAX_MESSAGE]
    except (ValueError, KeyError):
        said = f"HTTP {status}"
    if "/secrets" in path:
        said = _of_secret(status, said)
    if status == 429:
        said = f"too many requests ({said})"
    message = f"{method} {path}: {said}"
    if status == 404:
        return NotFound(message, status)
    if status == 409:
        return Conflict(message, status)
    if status == 410:
        return Gone(message, status)
    if status == 429 or status >= 500:
        return Unavailable(message, status, _retry_after(retry_after))
    return Refused(message, status)


class Kube:
    """A connection pool to the API server. Create it with `Kube.connect()`. All methods raise KubeError."""

    def __init__(self, api: client.ApiClient, guards: tuple[Guard, ...] = ()) -> None:
        self.api = api
        self._guards = guards

    def guarded(self, guard: Guard) -> "Kube":
        """Returns a client over the same connections that awaits `guard` before each write.

        What a guard raises prevents the write. Guards are awaited in the order in which they were added.
        """
        return Kube(self.api, (*self._guards, guard))

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: str | None = None) -> AsyncIterator["Kube"]:
        """Connects with the kubeconfig of that path; without one as the pod's ServiceAccount or, outside a cluster,
        with the default kubeconfig.

        Raises KubeError where neither is found.
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
                raise KubeError(
                    f"not running in a cluster, and no kubeconfig found ({error}): set KUBECONFIG or --kubeconfig"
                ) from error
        # Whoever sends requests bounds how many there are. With a bound here, those that hang would hold up the others,
        # the Lease included.
        settings.connection_pool_maxsize = 0
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
            try:
                content = await _read(response, MAX_ANSWER_BYTES)
            except (aiohttp.ClientError, TimeoutError, OSError, _TooLargeError):
                content = b""
            raise _error(method, path, response.status, content, response.headers.get("Retry-After"))
        return response

    async def _exchange(self, method: str, path: str, *, most: int = MAX_ANSWER_BYTES, **more: Any) -> bytes:
        """Sends one request and returns the answer. Raises KubeError, or _TooLargeError for more than `most` bytes."""
        try:
            return await _read(await self._send(method, path, **more), most)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(
                f"{method} {path}: the connection broke before the end of the answer ({type(error).__name__})"
            ) from error

    async def request(self, method: str, path: str, **more: Any) -> Object:
        """Sends one request, after the guards if it is a write, and returns the JSON answer. Raises KubeError."""
        if method != "GET":
            for guard in self._guards:
                await guard()
        try:
            return _parse(await self._exchange(method, path, **more))
        except ValueError as error:
            raise Unavailable(f"{method} {path}: the answer is not a JSON object") from error
        except _TooLargeError as error:
            raise Unavailable(f"{method} {path}: the answer has more than {MAX_ANSWER_BYTES >> 20} MiB") from error

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """Reads one object. Raises NotFound where it does not exist."""
        return await self.request("GET", resource.path(namespace, name))

    async def list_page(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        limit: int = MAX_PAGE,
        continue_: str | None = None,
    ) -> Page:
        """Returns at most `limit` objects of a list from a position on, fewer if they are large. Raises Gone."""
        path = resource.path(namespace)
        query: dict[str, Any] = {"limit": limit}
        if label_selector:
            query["labelSelector"] = label_selector
        if continue_:
            query["continue"] = continue_
        while True:
            most = MAX_PAGE_BYTES if query["limit"] > 1 else MAX_ANSWER_BYTES
            try:
                return _page(path, await self._exchange("GET", path, most=most, query=query))
            except _TooLargeError as error:
                if query["limit"] == 1:
                    raise Unavailable(f"GET {path}: one object has more than {most >> 20} MiB") from error
                query["limit"] = max(1, query["limit"] // 8)

    async def pages(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str | None = None
    ) -> AsyncIterator[Page]:
        """Yields a list page by page, all of one version. Raises Gone if the API server forgets it meanwhile."""
        position: str | None = None
        limit = FIRST_PAGE
        while True:
            page = await self.list_page(
                resource, namespace, label_selector=label_selector, limit=limit, continue_=position
            )
            yield page
            position, limit = page.position, page.next_limit()
            if position is None:
                return

    async def list(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str | None = None
    ) -> AsyncIterator[Object]:
        """Yields all objects of a list. Raises Gone if the API server forgets its version meanwhile."""
        async for page in self.pages(resource, namespace, label_selector=label_selector):
            for item in page.items:
                yield item

    async def create(
        self, resource: Resource, namespace: str | None, body: Object, *, time_limit: float = REQUEST_SECONDS
    ) -> Object:
        """Creates an object. Raises Conflict where it exists. `time_limit` is in seconds, from when it is sent."""
        query = {"fieldManager": names.FIELD_MANAGER}
        return await self.request("POST", resource.path(namespace), query=query, body=body, time_limit=time_limit)

    async def replace(self, resource: Resource, namespace: str | None, name: str, body: Object) -> Object:
        """Replaces an object. Raises Conflict where the body has a resourceVersion and the object has another."""
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
        time_limit: float = REQUEST_SECONDS,
    ) -> Object:
        """Applies a body (server-side apply). Without `force`, raises Conflict for fields of another manager.

        `time_limit` is in seconds, from when it is sent.
        """
        path = resource.path(namespace, name) + (f"/{subresource}" if subresource else "")
        query = {"fieldManager": names.FIELD_MANAGER, "force": str(force).lower()}
        content_type = "application/apply-patch+yaml"
        return await self.request(
            "PATCH", path, query=query, body=body, content_type=content_type, time_limit=time_limit
        )

    async def json_patch(
        self, resource: Resource, namespace: str | None, name: str, operations: Sequence[Object]
    ) -> Object:
        """Applies a JSON patch (RFC 6902). Raises Refused where one of its tests fails."""
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
        """Deletes the object with that UID. Does nothing where it does not exist any more, or has another UID.

        Raises Conflict where a resourceVersion is given and the object has another.
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
        """Yields watch events from a version on, with bookmarks, until the server ends it after `server_seconds`.

        Calls `opened` when the server has accepted the watch. A connection on which nothing comes for `silence_seconds`
        counts as broken, as bookmarks come once a minute; one whose other side is gone breaks after 25 s (KEEPALIVE).
        Raises Gone for a version that is too old, Unavailable for a broken connection.
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
        _keep_alive(response)
        opened()
        rest = b""
        try:
            async with response:
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line.strip():
                            yield self._event(path, line)
                    if len(rest) > MAX_ANSWER_BYTES:
                        raise Unavailable(f"WATCH {path}: an event has more than {MAX_ANSWER_BYTES >> 20} MiB")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"WATCH {path}: the connection broke ({type(error).__name__})") from error

    @staticmethod
    def _event(path: str, line: bytes) -> Object:
        try:
            event = _parse(line)
        except ValueError as error:
            raise Unavailable(f"WATCH {path}: an event is not a JSON object") from error
        if event.get("type") == "ERROR":
            status = event.get("object")
            code = status.get("code") if isinstance(status, dict) else None
            raise _error("WATCH", path, code if isinstance(code, int) else 500, json.dumps(status).encode(), None)
        return event
