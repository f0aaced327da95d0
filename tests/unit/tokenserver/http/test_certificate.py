"""Which certificate is served: that of the files, as soon as they can be used."""

import asyncio
import contextlib
import logging
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pullpass.signing.certificates import CertificateError, KeyPair, new_key, new_server_certificate
from pullpass.tokenserver.http import certificate
from pullpass.tokenserver.http.certificate import ServedCertificate
from tests.certificates import HOSTS, Mount
from tests.unit.signing.authorities import given_ca


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost") -> bytes:
    """A handshake in memory, and the certificate that the client saw."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=host)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(2):
        for side in (ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    certificate = ours.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def der(pair: KeyPair) -> bytes:
    return pair.certificate.public_bytes(serialization.Encoding.DER)


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    return Mount(tmp_path)


def test_what_is_mounted_is_served(mount: Mount) -> None:
    pair = mount.renew()
    served = ServedCertificate(mount.directory)
    assert shake_hands(served.context, mount.client_context()) == der(pair)
    assert served.not_after == pair.not_after


def test_a_renewed_one_is_served_from_then_on_and_the_context_before_it_stays_as_it_was(
    mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    first = mount.renew()
    served = ServedCertificate(mount.directory)
    before = served.context
    second = mount.renew("tokens.example")
    with caplog.at_level(logging.INFO):
        served.reload()
    assert shake_hands(served.context, mount.client_context(), "tokens.example") == der(second)
    assert shake_hands(before, mount.client_context()) == der(first)
    assert served.not_after == second.not_after
    after = served.context
    served.reload()
    assert served.context is after
    assert caplog.messages == [f"serving a certificate for tokens.example until {second.not_after.isoformat()}"]


def test_without_a_change_nothing_is_loaded(mount: Mount) -> None:
    served = ServedCertificate(mount.directory)
    before = served.context
    served.reload()
    assert served.context is before


def test_the_same_files_under_another_link_are_no_change(mount: Mount) -> None:
    pair = mount.renew()
    served = ServedCertificate(mount.directory)
    before = served.context
    mount.put(pair.certificate_pem, pair.key_pem)
    served.reload()
    assert served.context is before


def test_the_chain_is_sent_along(tmp_path: Path) -> None:
    """A brought certificate may be of an intermediate CA that clients do not have."""
    now = datetime.now(UTC)
    root_key, middle_key = new_key(), new_key()
    root = given_ca(now, root_key, cert_sign=True)
    middle = given_ca(now, middle_key, issuer=root, cert_sign=True, name="middle")
    mount = Mount(tmp_path, root)
    pair = new_server_certificate(middle, HOSTS, now)
    mount.put(pair.certificate_pem + middle.certificate_pem, pair.key_pem)
    assert shake_hands(ServedCertificate(tmp_path).context, mount.client_context()) == der(pair)


def files(kind: str, mount: Mount) -> tuple[bytes, bytes]:
    """Certificate and key that cannot be served."""
    good, other = mount.renew(), mount.renew()
    own, key = good.certificate_pem, good.key_pem
    encrypted = good.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    return {
        "empty": (b"", b""),
        "garbage": (b"certificate", b"key"),
        "swapped": (key, own),
        "of another key": (own, other.key_pem),
        "encrypted": (own, encrypted),
    }[kind]


BAD = {
    "empty": "cannot parse the certificate as PEM",
    "garbage": "cannot parse the certificate as PEM",
    "swapped": "cannot parse the certificate as PEM",
    "of another key": "the private key belongs to another certificate",
    "encrypted": "the private key is encrypted",
}


@pytest.mark.parametrize(("kind", "said"), BAD.items())
def test_what_cannot_be_served_is_refused_at_the_start(mount: Mount, kind: str, said: str) -> None:
    broken, key = files(kind, mount)
    mount.put(broken, key)
    with pytest.raises(CertificateError, match=said) as caught:
        ServedCertificate(mount.directory)
    assert str(mount.directory) in str(caught.value)
    assert "correct the Secret" in str(caught.value)


@pytest.mark.parametrize(("kind", "said"), BAD.items())
def test_what_cannot_be_served_is_said_once_and_the_last_good_one_stays(
    mount: Mount, caplog: pytest.LogCaptureFixture, kind: str, said: str
) -> None:
    broken, key = files(kind, mount)
    good = mount.renew()
    served = ServedCertificate(mount.directory)
    mount.put(broken, key)
    for _ in range(3):
        served.reload()
    assert shake_hands(served.context, mount.client_context()) == der(good)
    assert served.not_after == good.not_after
    [message] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert said in message
    assert f"stays in use until {good.not_after.isoformat()}" in message
    assert "PRIVATE KEY" not in caplog.text
    again = mount.renew()
    served.reload()
    assert shake_hands(served.context, mount.client_context()) == der(again)


def test_files_that_are_gone_are_an_error_and_no_end(mount: Mount, caplog: pytest.LogCaptureFixture) -> None:
    served = ServedCertificate(mount.directory)
    before = served.context
    (mount.directory / "..data").unlink()
    served.reload()
    assert served.context is before
    assert "mount a Secret of type kubernetes.io/tls" in caplog.text


def test_an_empty_directory_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"cannot read tls\.crt and tls\.key in"):
        ServedCertificate(tmp_path)


def test_certificate_and_key_are_read_of_one_state(
    mount: Mount, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kubelet may exchange the files between the reading of the two."""
    served = ServedCertificate(mount.directory)
    mount.renew()
    read = Path.read_bytes

    def exchanged_in_between(path: Path) -> bytes:
        content = read(path)
        if path.name == "tls.crt":
            mount.renew()
        return content

    monkeypatch.setattr(Path, "read_bytes", exchanged_in_between)
    served.reload()
    monkeypatch.undo()
    assert caplog.records == []
    last = mount.renew()
    served.reload()
    assert shake_hands(served.context, mount.client_context()) == der(last)


async def test_it_looks_every_few_seconds(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "POLL_SECONDS", 0.01)
    served = ServedCertificate(mount.directory)
    watching = asyncio.create_task(served.watch())
    second = mount.renew()
    async with asyncio.timeout(60):
        while shake_hands(served.context, mount.client_context()) != der(second):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    watching.cancel()


async def test_watching_goes_on_whatever_happens(
    mount: Mount, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served, looks, twice = ServedCertificate(mount.directory), 0, asyncio.Event()

    def reload() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            twice.set()
        raise RuntimeError

    monkeypatch.setattr(certificate, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(served, "reload", reload)
    watching = asyncio.create_task(served.watch())
    async with asyncio.timeout(60):
        await twice.wait()
    watching.cancel()
    assert "checking for a new certificate failed" in caplog.text


def test_a_certificate_whose_names_cannot_be_read_is_not_served(
    mount: Mount, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = ServedCertificate(mount.directory)
    before, ends = served.context, served.not_after

    def unreadable(_: object) -> list[str]:
        raise ValueError("no such name")

    monkeypatch.setattr(certificate, "subject_names", unreadable)
    mount.renew()
    for _ in range(2):
        served.reload()
    assert (served.context, served.not_after) == (before, ends)
    assert len([record for record in caplog.records if "no such name" in record.getMessage()]) == 1
