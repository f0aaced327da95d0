"""A token server over real HTTP, a client that sends it anything, and what a registry reads in its answers."""

import asyncio
import base64
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import aiohttp
import jwt
from cryptography import x509
from multidict import CIMultiDict
from yarl import URL

from pullpass.tokenserver.handler import TokenServer
from pullpass.tokenserver.management import Management
from pullpass.tokenserver.settings import TokenServerSettings
from tests.registries import TWO
from tests.unit.tokenserver.world import COST, World, password

USER = "web.reader"
GOOD = password().text
WRONG = password(id_="bbbbbb").text
"""Well-formed, of no slot."""
FORGED = password("uid-2", "aaaaaa").text
"""Well-formed, with the id of a slot whose password it is not."""

PULL = [{"type": "repository", "name": "demo/nginx", "actions": ["pull"]}]
READ = [{"type": "repository", "name": "demo/nginx", "actions": ["pull", "metadata_read"]}]
ALL = ["content/read", "content/write", "content/delete", "metadata/read", "metadata/write"]
FORM = "application/x-www-form-urlencoded"

SETTINGS = TokenServerSettings("credentials", TWO, bcrypt_cost=COST, max_staleness=timedelta(minutes=10))


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.body)
        return content

    @property
    def claims(self) -> dict[str, Any]:
        """The claims of the access token, its signature and certificate checked as a registry does."""
        token = self.json["access_token"]
        leaf = x509.load_der_x509_certificate(base64.b64decode(jwt.get_unverified_header(token)["x5c"][0]))
        key: Any = leaf.public_key()
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=["ES256"],
            audience="registry",
            issuer="pullpass",
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
        return claims

    @property
    def access(self) -> Any:
        return self.claims["access"]


def basic(user: str, secret: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


class Client:
    """Sends requests to one token server over a world."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()
        self.age = 0.0
        self.seconds = 0.0
        """What limits go by; it stands still."""
        self.server = TokenServer(
            SETTINGS,
            self.world.cache,
            age=lambda: self.age,
            clock=self.world.clock,
            monotonic=lambda: self.seconds,
        )
        self._management = Management(self.server, self.world.cache, clock=self.world.clock)
        self._serving = AsyncExitStack()
        self.session = aiohttp.ClientSession()
        self.port = 0
        self.management_port = 0

    async def start(self) -> None:
        """Serves as the process does."""
        self.port = await self._serving.enter_async_context(self.server.serve("127.0.0.1", 0))
        self.management_port = await self._serving.enter_async_context(self._management.serve("127.0.0.1", 0))

    async def stop(self) -> None:
        """Serves no more."""
        await self.session.close()
        await self._serving.aclose()

    async def manage(self, path: str, method: str = "GET") -> Answer:
        """A request to the management port."""
        url = URL(f"http://127.0.0.1:{self.management_port}{path}", encoded=True)
        async with self.session.request(method, url) as response:
            return Answer(response.status, response.headers, await response.read())

    async def send(
        self,
        method: str,
        path: str,
        *authorization: str,
        body: bytes | None = None,
        content_type: str | None = None,
    ) -> Answer:
        """Any request, with any number of Authorization headers."""
        headers: CIMultiDict[str] = CIMultiDict([("Authorization", value) for value in authorization])
        if content_type is not None:
            headers["Content-Type"] = content_type
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.session.request(
            method, url, headers=headers, data=body, skip_auto_headers=["Content-Type"]
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def raw(self, content: bytes, port: int | None = None) -> Answer:
        """Bytes over a connection of their own, and the one answer to them."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self.port)
        try:
            writer.write(content)
            async with asyncio.timeout(60):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                status, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
                headers: CIMultiDict[str] = CIMultiDict()
                for line in lines:
                    name, _, value = line.partition(": ")
                    headers.add(name, value)
                body = await reader.readexactly(int(headers.get("Content-Length", "0")))
        finally:
            writer.close()
        return Answer(int(status.split(" ")[1]), headers, body)

    async def get(self, query: str = "", *authorization: str, path: str = "/token") -> Answer:
        """A GET with the good password unless another header is given; `query` is sent as it stands."""
        return await self.send("GET", f"{path}?{query}", *(authorization or (basic(USER, GOOD),)))

    async def post(self, content_type: str | None = FORM, path: str = "/token", **fields: str | list[str]) -> Answer:
        """A form with the good password; a field set to `-` is left out."""
        form = {"grant_type": "password", "username": USER, "password": GOOD, "service": "registry"} | fields
        filled = {key: value for key, value in form.items() if value != "-"}
        return await self.send("POST", path, body=urlencode(filled, doseq=True).encode(), content_type=content_type)


def has_error_list(answer: Answer, status: int, code: str) -> None:
    """Asserts the one error body that docker, crane and skopeo can print."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
    [error] = answer.json["errors"]
    assert set(error) == {"code", "message", "detail"}
    assert error["code"] == code
    assert error["message"]


def refused(answer: Answer, status: int, code: str) -> None:
    """Asserts a refusal's body, and the headers that go with it."""
    has_error_list(answer, status, code)
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith('Basic realm="')
    else:
        assert "WWW-Authenticate" not in answer.headers
