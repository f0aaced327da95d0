"""A token server with one token in its mirror and an empty handler beside it, for load.

Run as a process of its own: prints the port and the password as one JSON line, then serves until it is stopped.
"""

import asyncio
import json
import logging
import os
import sys
from datetime import UTC, datetime

import uvloop
from aiohttp import web

from pullpass.api import names
from pullpass.credentials import hashing, password
from pullpass.credentials.record import Record, Slot
from pullpass.signing.certificates import new_ca, new_leaf
from pullpass.tokenserver.connections import Connections, Site
from pullpass.tokenserver.mirror import Mirror
from pullpass.tokenserver.server import TokenServer
from pullpass.tokenserver.settings import Settings

SERVICE = "registry"
REPOSITORY = "team/app"
UID = "11111111-2222-3333-4444-555555555555"


def _metadata(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "uid": UID, "resourceVersion": "1", **more}


def fill(mirror: Mirror) -> str:
    """Puts one token into the mirror and returns its password."""
    now = datetime.now(UTC).replace(microsecond=0)
    made = password.derive(os.urandom(32), UID, password.new_nonce(), password.new_id())
    slot = Slot(
        id=made.id, nonce="", seed="", hash=hashing.hash_password(made.text, hashing.DEFAULT_COST), created_at=now
    )
    record = Record(UID, "team", "reader", {"password1": slot}, "password1").to_secret("credentials")
    record["metadata"] |= {"uid": UID, "resourceVersion": "1"}
    ca = new_ca(now)
    leaf = new_leaf(ca, now)
    mirror.on_namespace("ADDED", {"metadata": _metadata("team")})
    rules = [{"repositories": ["team/*"], "actions": ["content/read"]}]
    mirror.on_scope_map(
        "ADDED", {"metadata": _metadata("read"), "spec": {"rules": rules, "allowedNamespaces": {"from": "All"}}}
    )
    mirror.on_token(
        "ADDED", {"metadata": _metadata("reader", namespace="team"), "spec": {"scopeMapRef": {"name": "read"}}}
    )
    mirror.on_secret("ADDED", record)
    mirror.on_secret("ADDED", signing_secret(leaf.certificate_pem, leaf.key_pem))
    return made.text


def signing_secret(certificate: bytes, key: bytes) -> dict[str, object]:
    """The signing leaf as the API gives it."""
    from base64 import b64encode

    return {
        "type": "kubernetes.io/tls",
        "metadata": _metadata(
            "pullpass-signing",
            namespace="credentials",
            labels={names.MANAGED_BY_LABEL: names.MANAGED_BY, names.COMPONENT_LABEL: names.SIGNING_KEY},
        ),
        "data": {"tls.crt": b64encode(certificate).decode(), "tls.key": b64encode(key).decode()},
    }


async def _empty(_: web.Request) -> web.Response:
    return web.Response(body=b"{}", content_type="application/json")


async def listen(application: web.Application, connections: Connections) -> int:
    """Serves an application as the process does; its port."""
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = Site(runner, connections, "127.0.0.1", 0)
    await site.start()
    return site.port


async def serve() -> None:
    """Serves on a free port of the loopback interface."""
    mirror = Mirror()
    text = fill(mirror)
    settings = Settings(credentials_namespace="credentials", service=SERVICE, issuer="pullpass")
    server = TokenServer(settings, mirror, age=lambda: 0.0)
    # The last route of the application answers everything, so the empty handler is an application around it.
    empty = web.Application()
    empty.router.add_get("/token", _empty)
    ports = [await listen(app, server.connections) for app in (server.application(), empty)]
    print(json.dumps({"port": ports[0], "empty_port": ports[1], "password": text}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=open(os.devnull, "w"))  # noqa: SIM115
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as _runner:
        try:
            _runner.run(serve())
        except KeyboardInterrupt:
            sys.exit(0)
