"""The server CA and certificates over an API server in memory: what is made, kept, renewed, published, and refused."""

import base64
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from pullpass.controller.keys.serving import RECHECK_AFTER, reconcile
from pullpass.controller.keys.storage import KeySecretError
from pullpass.controller.settings import OperatorSettings, ServerCertificate
from pullpass.kube.client import Conflict, Unavailable
from pullpass.kube.resources import CONFIG_MAPS, SECRETS
from pullpass.signing.certificates import (
    SERVER_LIFETIME,
    check_ca,
    issued_by,
    new_ca,
    new_key,
    new_server_ca,
    new_server_certificate,
    subject_names,
)
from tests.registries import ONE
from tests.unit.controller.keys.stored_keys import DAY, NOW, files, pair_of, secret
from tests.unit.signing.authorities import given_ca
from tests.unit.signing.memory import Key, Memory

SETTINGS = OperatorSettings(
    namespace="release",
    credentials_namespace="credentials",
    identity="pod",
    registries=ONE,
    token_server_service="tokens",
    server_certificates=(
        ServerCertificate("tokens-tls", ("tokens.release.svc", "tokens.example")),
        ServerCertificate("registry-tls", ("registry.release.svc", "10.0.0.1", "::1")),
    ),
)
CA = (SECRETS, "release", "pullpass-server-ca")
TOKENS = (SECRETS, "release", "tokens-tls")
REGISTRY = (SECRETS, "release", "registry-tls")
TRUST = (CONFIG_MAPS, "release", "pullpass-server-trust")


def content(kube: Memory, key: Key, name: str) -> bytes:
    return base64.b64decode(kube.objects[key]["data"][name])


async def settled() -> Memory:
    kube = Memory()
    await reconcile(kube, SETTINGS, NOW)
    kube.calls.clear()
    return kube


async def test_the_first_time_everything_is_made_and_the_ca_is_published_before_anything_is_of_it() -> None:
    kube = Memory()
    assert await reconcile(kube, SETTINGS, NOW) == NOW + RECHECK_AFTER
    assert kube.calls == [
        ("create", "pullpass-server-ca"),
        ("create", "pullpass-server-trust"),
        ("create", "tokens-tls"),
        ("create", "registry-tls"),
    ]
    ca = pair_of(kube, CA)
    check_ca(ca, NOW)
    assert kube.objects[TRUST]["data"] == {"ca.crt": ca.certificate_pem.decode()}
    for key, wanted in ((TOKENS, SETTINGS.server_certificates[0]), (REGISTRY, SETTINGS.server_certificates[1])):
        pair = pair_of(kube, key)
        assert issued_by(pair.certificate, ca.certificate)
        assert subject_names(pair.certificate) == list(wanted.hosts)
        assert pair.not_after == NOW + SERVER_LIFETIME
        assert content(kube, key, "ca.crt") == ca.certificate_pem
        assert kube.objects[key]["type"] == "kubernetes.io/tls"
        usage = pair.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert [one.dotted_string for one in usage] == ["1.3.6.1.5.5.7.3.1"]


async def test_the_second_time_nothing_is_written() -> None:
    kube = await settled()
    await reconcile(kube, SETTINGS, NOW + 200 * DAY)
    assert kube.calls == []


async def test_a_certificate_is_renewed_with_a_third_of_its_life_left() -> None:
    kube = await settled()
    before = pair_of(kube, TOKENS)
    day = NOW + 244 * DAY
    await reconcile(kube, SETTINGS, day)
    assert kube.calls == [("replace", "tokens-tls"), ("replace", "registry-tls")]
    after = pair_of(kube, TOKENS)
    assert (after.not_after, after.key != before.key) == (day + SERVER_LIFETIME, True)
    assert issued_by(after.certificate, pair_of(kube, CA).certificate)


async def test_the_time_of_the_next_renewal_is_returned() -> None:
    kube = await settled()
    due = NOW + timedelta(days=365) - (timedelta(days=365) + timedelta(hours=1)) / 3
    just_before = due - timedelta(minutes=1)
    assert abs(await reconcile(kube, SETTINGS, just_before) - due) < timedelta(seconds=1)


async def test_other_names_make_another_certificate() -> None:
    kube = await settled()
    wanted = ServerCertificate("tokens-tls", ("tokens.release.svc", "login.example"))
    await reconcile(kube, replace(SETTINGS, server_certificates=(wanted,)), NOW)
    assert kube.calls == [("replace", "tokens-tls")]
    assert subject_names(pair_of(kube, TOKENS).certificate) == list(wanted.hosts)


async def test_a_replaced_ca_is_published_and_signs_anew() -> None:
    kube = await settled()
    brought = given_ca(NOW, new_key(), cert_sign=True)
    kube.put(CA, secret(files(brought)))
    await reconcile(kube, SETTINGS, NOW)
    assert kube.calls == [
        ("replace", "pullpass-server-trust"),
        ("replace", "tokens-tls"),
        ("replace", "registry-tls"),
    ]
    assert kube.objects[TRUST]["data"]["ca.crt"] == brought.certificate_pem.decode()
    assert issued_by(pair_of(kube, TOKENS).certificate, brought.certificate)
    assert content(kube, TOKENS, "ca.crt") == brought.certificate_pem


async def test_a_ca_renewed_over_its_key_is_handed_on() -> None:
    kube, key = Memory(), new_key()
    kube.put(CA, secret(files(given_ca(NOW, key, cert_sign=True))))
    await reconcile(kube, SETTINGS, NOW)
    renewed = given_ca(NOW, key, cert_sign=True, ends=NOW + 900 * DAY)
    kube.put(CA, secret(files(renewed)))
    await reconcile(kube, SETTINGS, NOW)
    assert content(kube, TOKENS, "ca.crt") == renewed.certificate_pem


async def test_an_intermediate_ca_is_sent_along() -> None:
    kube = Memory()
    root = given_ca(NOW, new_key(), cert_sign=True)
    middle = given_ca(NOW, new_key(), issuer=root, cert_sign=True, name="middle")
    chain = middle.certificate_pem + root.certificate_pem
    kube.put(CA, secret({"tls.crt": chain, "tls.key": middle.key_pem}))
    await reconcile(kube, SETTINGS, NOW)
    assert kube.objects[TRUST]["data"]["ca.crt"].encode() == chain
    assert content(kube, TOKENS, "tls.crt") == pair_of(kube, TOKENS).certificate_pem + chain
    kube.calls.clear()
    await reconcile(kube, SETTINGS, NOW)
    assert kube.calls == []


@pytest.mark.parametrize(
    "broken",
    [{}, {"tls.crt": b"garbage", "tls.key": b"garbage", "ca.crt": b"garbage"}],
)
async def test_what_cannot_be_read_is_made_anew_where_it_is_ours(broken: dict[str, bytes]) -> None:
    kube = await settled()
    kube.put(TOKENS, secret(broken, kube.objects[TOKENS]["metadata"]["labels"]))
    await reconcile(kube, SETTINGS, NOW)
    assert kube.calls == [("replace", "tokens-tls")]
    pair_of(kube, TOKENS)


@pytest.mark.parametrize("key", [TOKENS, TRUST])
async def test_what_is_somebody_elses_is_left_as_it_is(key: Key) -> None:
    kube = await settled()
    other = new_server_certificate(new_server_ca(NOW), ("tokens.release.svc",), NOW)
    theirs = secret(files(other)) if key is TOKENS else {"kind": "ConfigMap", "metadata": {}, "data": {"a": "b"}}
    kube.put(key, theirs)
    with pytest.raises(KeySecretError, match=f"{key[1]}/{key[2]} was not created by pullpass"):
        await reconcile(kube, SETTINGS, NOW)
    assert kube.calls == []


async def test_one_server_does_not_hold_up_another() -> None:
    kube = Memory()
    kube.put(TOKENS, secret({"tls.crt": b"theirs"}))
    with pytest.raises(KeySecretError, match="release/tokens-tls was not created by pullpass"):
        await reconcile(kube, SETTINGS, NOW)
    assert issued_by(pair_of(kube, REGISTRY).certificate, pair_of(kube, CA).certificate)


async def test_a_certificate_that_cannot_be_written_does_not_hold_up_another() -> None:
    kube = Memory()
    kube.fail_on = "tokens-tls"
    with pytest.raises(Unavailable):
        await reconcile(kube, SETTINGS, NOW)
    assert issued_by(pair_of(kube, REGISTRY).certificate, pair_of(kube, CA).certificate)


async def test_a_ca_that_cannot_sign_is_said() -> None:
    kube = Memory()
    kube.put(CA, secret(files(given_ca(NOW, new_key(), ca=False))))
    with pytest.raises(KeySecretError, match=r"release/pullpass-server-ca cannot be used as a CA: .* lacks CA:TRUE"):
        await reconcile(kube, SETTINGS, NOW)
    assert kube.calls == []


async def test_a_name_that_no_certificate_can_have_is_said() -> None:
    wanted = ServerCertificate("tokens-tls", ("bücher.example",))
    with pytest.raises(KeySecretError, match="cannot issue the certificate for Secret release/tokens-tls"):
        await reconcile(Memory(), replace(SETTINGS, server_certificates=(wanted,)), NOW)


async def test_a_change_meanwhile_is_judged_anew() -> None:
    kube = await settled()
    kube.meanwhile[TOKENS] = secret({})
    with pytest.raises(Conflict):
        await reconcile(kube, SETTINGS, NOW + 300 * DAY)


async def test_cut_off_anywhere_it_goes_on() -> None:
    kube = Memory()
    for name in ("pullpass-server-ca", "pullpass-server-trust", "tokens-tls"):
        kube.fail_on = name
        with pytest.raises(Unavailable):
            await reconcile(kube, SETTINGS, NOW)
    kube.fail_on = None
    await reconcile(kube, SETTINGS, NOW)
    assert [name for _, name in kube.calls] == [
        "pullpass-server-ca",
        "pullpass-server-trust",
        "registry-tls",
        "tokens-tls",
    ]


def test_neither_ca_is_taken_for_the_other() -> None:
    """The two have other names, so that people can tell them apart, and other keys."""
    signing, server = new_ca(NOW), new_server_ca(NOW)
    assert signing.certificate.subject != server.certificate.subject
    assert signing.key != server.key
