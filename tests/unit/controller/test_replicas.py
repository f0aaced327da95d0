"""Which token servers have to accept a new password, asked over HTTP and over HTTPS."""

import base64
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from pullpass.controller import verification
from pullpass.controller.replicas import NotAcceptedError, NotNowError, TokenServers
from pullpass.credentials.password import Password, derive
from pullpass.kube.resources import ENDPOINT_SLICES, SECRETS
from pullpass.signing.certificates import KeyPair, new_server_ca, new_server_certificate
from pullpass.tokenserver.http.tls import server_context
from tests.unit.controller.fake_api import FakeApi
from tests.unit.controller.world import SEED, SETTINGS
from tests.unit.signing.authorities import of_no_version, with_doubled_extension

PASSWORD = derive(SEED, "uid-1", "nonce", "4f9c1e")
LOGIN = "Basic " + base64.b64encode(f"web.reader:{PASSWORD.text}".encode()).decode()


class Replica:
    """A token server that answers with a status, and counts."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.logins = 0
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.logins += 1
        assert request.headers["Authorization"] == LOGIN
        assert dict(request.query) == {"service": "other-registry"}
        return web.Response(status=self.status)


class Fleet:
    """Replicas on ports of this machine, and what the EndpointSlices say of them."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.servers: list[TestServer] = []
        self.settings = SETTINGS
        self.port_name = "http"

    async def replica(self, status: int, *, ready: bool | None = True, tls: ssl.SSLContext | None = None) -> Replica:
        made = Replica(status)
        app = web.Application()
        app.router.add_get("/token", made.answer)
        server = TestServer(app, scheme="https" if tls else "http")
        await server.start_server(ssl=tls)
        assert server.port is not None
        made.port = server.port
        self.servers.append(server)
        self.announce(made.port, ready)
        return made

    def announce(self, port: int, ready: bool | None) -> None:
        """An EndpointSlice for one port."""
        conditions = {} if ready is None else {"ready": ready}
        labels = {"kubernetes.io/service-name": "tokens"}
        self.api.put(
            ENDPOINT_SLICES,
            {
                "metadata": {"namespace": "release", "name": f"tokens-{port}", "labels": labels},
                "ports": [{"name": "metrics", "port": 1}, {"name": self.port_name, "port": port}],
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": conditions}],
            },
        )

    async def accept(self) -> None:
        async with TokenServers.connect(self.api, self.settings) as token_servers:
            await token_servers.accept("web.reader", PASSWORD, "other-registry")


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    made = Fleet()
    yield made
    for server in made.servers:
        await server.close()


async def test_every_ready_replica_is_asked_once(fleet: Fleet) -> None:
    replicas = [await fleet.replica(200) for _ in range(3)]
    await fleet.accept()
    assert [replica.logins for replica in replicas] == [1, 1, 1]


async def test_without_any_replica_nobody_has_to_accept(fleet: Fleet) -> None:
    await fleet.accept()


@pytest.mark.parametrize("status", [401, 400, 500, 302])
@pytest.mark.parametrize("ready", [True, False, None])
async def test_whoever_answers_logins_must_accept(fleet: Fleet, status: int, ready: bool | None) -> None:
    """Also one that is not ready: it may become so at any moment, and then would not know the password."""
    await fleet.replica(200)
    refusing = await fleet.replica(status, ready=ready)
    with pytest.raises(NotAcceptedError, match=f":{refusing.port} does not accept the new password yet .HTTP {status}"):
        await fleet.accept()


async def test_one_that_is_not_ready_and_not_complete_does_not_count(fleet: Fleet) -> None:
    await fleet.replica(200)
    starting = await fleet.replica(503, ready=False)
    await fleet.accept()
    assert starting.logins == 1


async def test_one_that_is_not_ready_and_cannot_be_reached_does_not_count(fleet: Fleet) -> None:
    await fleet.replica(200)
    fleet.announce(unused_port(), False)
    await fleet.accept()


@pytest.mark.parametrize("ready", [True, None])
async def test_a_ready_one_that_cannot_be_asked_counts(fleet: Fleet, ready: bool | None) -> None:
    port = unused_port()
    fleet.announce(port, ready)
    with pytest.raises(NotAcceptedError, match=f"127.0.0.1:{port} cannot be asked"):
        await fleet.accept()


async def test_a_busy_ready_one_is_asked_again_later(fleet: Fleet) -> None:
    await fleet.replica(503)
    with pytest.raises(NotNowError, match="is busy or has no signing key"):
        await fleet.accept()


async def test_replicas_that_come_or_become_ready_meanwhile_are_asked_too(fleet: Fleet) -> None:
    starting = await fleet.replica(503, ready=False)
    late = await fleet.replica(200)
    fleet.api.remove(ENDPOINT_SLICES, "release", f"tokens-{late.port}")
    early = await fleet.replica(200)

    async def list_page(*arguments: Any, **more: Any) -> Any:
        if early.logins and starting.status == 503:
            starting.status = 401
            fleet.announce(starting.port, True)
            fleet.announce(late.port, True)
        return await FakeApi.list_page(fleet.api, *arguments, **more)

    fleet.api.list_page = list_page  # type: ignore[method-assign]
    with pytest.raises(NotAcceptedError, match=f":{starting.port} does not accept"):
        await fleet.accept()
    assert [early.logins, late.logins, starting.logins] == [1, 1, 2]


async def test_the_refusal_does_not_tell_the_password(fleet: Fleet) -> None:
    await fleet.replica(401)
    with pytest.raises(NotAcceptedError) as caught:
        await fleet.accept()
    assert not leaks(PASSWORD, str(caught.value))


# Over HTTPS

SERVICE = "tokens.release.svc"
NOW = datetime.now(UTC)
OWN_CA = new_server_ca(NOW)
OTHER_CA = new_server_ca(NOW)


def certificate(*hosts: str, ca: KeyPair = OWN_CA) -> KeyPair:
    return new_server_certificate(ca, hosts, NOW)


def serving(pair: KeyPair, directory: Path) -> ssl.SSLContext:
    """What a server has that serves with this certificate."""
    (directory / "tls.crt").write_bytes(pair.certificate_pem)
    (directory / "tls.key").write_bytes(pair.key_pem)
    return server_context(directory / "tls.crt", directory / "tls.key")


@pytest.fixture
def secure(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Token servers that serve with Secret `tls`."""
    monkeypatch.setattr(verification, "LOOK_SECONDS", 0)
    fleet.settings = replace(SETTINGS, token_server_tls_secret="tls")
    fleet.port_name = "https"
    return fleet


def mount(fleet: Fleet, pair: KeyPair, **more: bytes) -> None:
    """Puts a certificate into the Secret."""
    data = {
        "tls.crt": pair.certificate_pem,
        "tls.key": pair.key_pem,
        **{k.replace("_", "."): v for k, v in more.items()},
    }
    encoded = {key: base64.b64encode(content).decode() for key, content in data.items()}
    fleet.api.put(SECRETS, {"metadata": {"namespace": "release", "name": "tls"}, "data": encoded})


async def test_a_certificate_for_the_service_is_verified_by_its_ca(secure: Fleet, tmp_path: Path) -> None:
    """Also one that is not in the Secret yet, or no longer."""
    mount(secure, certificate(SERVICE), ca_crt=OWN_CA.certificate_pem)
    replica = await secure.replica(200, tls=serving(certificate(SERVICE), tmp_path))
    await secure.accept()
    assert replica.logins == 1


@pytest.mark.parametrize(
    "shown",
    [certificate(SERVICE, ca=OTHER_CA), certificate("other.release.svc"), certificate("127.0.0.1")],
    ids=["another CA's", "another Service's", "the address's"],
)
async def test_who_shows_another_certificate_is_told_no_password(secure: Fleet, tmp_path: Path, shown: KeyPair) -> None:
    mount(secure, certificate(SERVICE), ca_crt=OWN_CA.certificate_pem)
    replica = await secure.replica(200, tls=serving(shown, tmp_path))
    with pytest.raises(NotAcceptedError, match=r"cannot be asked .ClientConnectorCertificateError"):
        await secure.accept()
    assert replica.logins == 0


async def test_who_speaks_plain_http_is_told_no_password(secure: Fleet) -> None:
    mount(secure, certificate(SERVICE), ca_crt=OWN_CA.certificate_pem)
    replica = await secure.replica(200)
    with pytest.raises(NotAcceptedError, match="cannot be asked"):
        await secure.accept()
    assert replica.logins == 0


@pytest.mark.parametrize("ca", [b"", OWN_CA.certificate_pem], ids=["without its CA", "with its CA"])
async def test_a_brought_certificate_for_other_names_is_known_by_itself(
    secure: Fleet, tmp_path: Path, ca: bytes
) -> None:
    brought = certificate("tokens.example")
    mount(secure, brought, ca_crt=ca)
    replica = await secure.replica(200, tls=serving(brought, tmp_path))
    await secure.accept()
    assert replica.logins == 1


@pytest.mark.parametrize("ca", [b"", OWN_CA.certificate_pem], ids=["without its CA", "with its CA"])
async def test_another_one_of_the_same_ca_and_for_the_same_name_is_not(
    secure: Fleet, tmp_path: Path, ca: bytes
) -> None:
    mount(secure, certificate("tokens.example"), ca_crt=ca)
    replica = await secure.replica(200, tls=serving(certificate("tokens.example"), tmp_path))
    with pytest.raises(NotAcceptedError, match="cannot be asked"):
        await secure.accept()
    assert replica.logins == 0


async def test_a_brought_certificate_and_the_one_before_it_are_known(secure: Fleet, tmp_path: Path) -> None:
    """The kubelet takes its time to bring the new one to the token servers."""
    first, second, third = (certificate("tokens.example") for _ in range(3))
    replica = await secure.replica(200, tls=serving(first, tmp_path))
    async with TokenServers.connect(secure.api, secure.settings) as token_servers:
        for pair in (first, second):
            mount(secure, pair)
            await token_servers.accept("web.reader", PASSWORD, "other-registry")
        mount(secure, third)
        with pytest.raises(NotAcceptedError, match="cannot be asked"):
            await token_servers.accept("web.reader", PASSWORD, "other-registry")
    assert replica.logins == 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "tls"),
        ({}, r"has no tls\.crt"),
        ({"tls.crt": b"garbage"}, r"tls\.crt is not readable PEM"),
        ({"tls.crt": of_no_version(datetime.now(UTC))}, r"tls\.crt is not readable PEM"),
        ({"tls.crt": certificate(SERVICE).certificate_pem, "ca.crt": b"\xff"}, r"ca\.crt is not readable PEM"),
        (
            {"tls.crt": with_doubled_extension(datetime.now(UTC)).certificate_pem, "ca.crt": b"any"},
            r"tls\.crt: the certificate's extensions cannot be read",
        ),
    ],
)
async def test_a_secret_that_is_of_no_use_is_said(
    secure: Fleet, tmp_path: Path, data: dict[str, bytes] | None, said: str
) -> None:
    if data is not None:
        encoded = {key: base64.b64encode(content).decode() for key, content in data.items()}
        secure.api.put(SECRETS, {"metadata": {"namespace": "release", "name": "tls"}, "data": encoded})
    replica = await secure.replica(200, tls=serving(certificate(SERVICE), tmp_path))
    with pytest.raises(NotAcceptedError, match=f"the token servers' certificate is not known: .*{said}"):
        await secure.accept()
    assert replica.logins == 0


def leaks(password: Password, text: str) -> bool:
    """Whether the secret part of a password stands in a text."""
    return password.text[15:47] in text or LOGIN[6:] in text
