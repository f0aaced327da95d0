"""A token server with one token in its cache and an empty handler beside it, for load.

Run as a process of its own: prints the ports and the password as one JSON line, then serves until it is stopped. It
logs and looks at the age of its cache as the real one does; its log goes nowhere.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import redirect_stderr
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any, cast

import uvloop
from aiohttp import web

from pullpass.api import names
from pullpass.cli import logs
from pullpass.credentials import hashing, password
from pullpass.credentials.record import Record, Slot
from pullpass.kube.standstill import Heartbeat
from pullpass.signing.certificates import new_ca, new_leaf
from pullpass.tokenserver.cache import AccessCache
from pullpass.tokenserver.handler import BODY_BYTES, TokenServer
from pullpass.tokenserver.http.listener import listen
from pullpass.tokenserver.management import Management
from pullpass.tokenserver.process import age_of, freeze_cache, reflectors
from pullpass.tokenserver.settings import TokenServerSettings
from tests.registries import ONE

SERVICE = ONE.default.service
USER = "team.reader"
REPOSITORY = "team/app"
UID = "11111111-2222-3333-4444-555555555555"
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


def _metadata(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "uid": UID, "resourceVersion": "1", **more}


def fill(cache: AccessCache) -> str:
    """Puts one token into the cache and returns its password."""
    now = datetime.now(UTC).replace(microsecond=0)
    made = password.derive(os.urandom(32), UID, password.new_nonce(), password.new_id())
    slot = Slot(
        id=made.id, nonce="", seed="", hash=hashing.hash_password(made.text, hashing.DEFAULT_COST), created_at=now
    )
    record = Record(UID, "team", "reader", {"password1": slot}, "password1").to_secret("credentials")
    record["metadata"] |= {"uid": UID, "resourceVersion": "1"}
    leaf = new_leaf(new_ca(now), now)
    cache.on_namespace("ADDED", {"metadata": _metadata("team")})
    rules = [{"repositories": ["team/*"], "actions": ["content/read"]}]
    cache.on_scope_map(
        "ADDED", {"metadata": _metadata("read"), "spec": {"rules": rules, "allowedNamespaces": {"from": "All"}}}
    )
    cache.on_token(
        "ADDED", {"metadata": _metadata("reader", namespace="team"), "spec": {"scopeMapRef": {"name": "read"}}}
    )
    cache.on_secret("ADDED", record)
    cache.on_secret("ADDED", signing_secret(leaf.certificate_pem, leaf.key_pem))
    return made.text


def signing_secret(certificate: bytes, key: bytes) -> dict[str, object]:
    """The signing leaf as the API gives it."""
    return {
        "type": "kubernetes.io/tls",
        "metadata": _metadata(
            "pullpass-signing",
            namespace="credentials",
            labels={names.MANAGED_BY_LABEL: names.MANAGED_BY, names.COMPONENT_LABEL: names.SIGNING_KEY},
        ),
        "data": {"tls.crt": b64encode(certificate).decode(), "tls.key": b64encode(key).decode()},
    }


def aged(cache: AccessCache) -> Callable[[], float]:
    """The age of a cache that has just heard everything, found out as the process does it."""
    followed = reflectors(cast("Any", None), cache, "credentials")
    for reflector in followed:
        reflector.synced.set()
        reflector.last_contact = time.monotonic()
    heartbeat = Heartbeat(lambda: None)

    def age() -> float:
        heartbeat.beat()
        return age_of(followed)

    return age


async def _empty(_: web.BaseRequest) -> web.Response:
    return web.Response(body=b"{}", content_type="application/json")


async def serve(trusted: list[str]) -> None:
    """Serves both."""
    cache = AccessCache(ONE)
    text = fill(cache)
    proxies = tuple(map(ip_network, trusted))
    settings = TokenServerSettings("credentials", ONE, trusted_proxies=proxies)
    server = TokenServer(settings, cache, age=aged(cache))
    server.connections.fit_descriptors()
    freeze_cache()
    async with (
        server.serve("127.0.0.1", 0) as port,
        Management(server, cache).serve("127.0.0.1", 0) as management_port,
        listen(_empty, server.connections, "127.0.0.1", 0, body_bytes=BODY_BYTES) as empty_port,
    ):
        ports = {"port": port, "management_port": management_port, "empty_port": empty_port}
        print(json.dumps({**ports, "password": text}), flush=True)
        await asyncio.Event().wait()


def main() -> int:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", choices=LOOPS, default="uvloop")
    parser.add_argument("--trusted-proxy", action="append", default=[])
    options = parser.parse_args()
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        logs.configure("info", "json")
        with asyncio.Runner(loop_factory=LOOPS[options.loop]) as runner:
            try:
                runner.run(serve(options.trusted_proxy))
            except KeyboardInterrupt:
                return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
