"""Keys that must not be shared: those of several registries, and the server CA."""

import copy
import json
from dataclasses import replace

import pytest

from pullpass.api.registries import Registry
from pullpass.controller.keys import serving as serverkeys
from pullpass.controller.keys.signing import reconcile
from pullpass.controller.keys.storage import KeySecretError
from pullpass.controller.settings import ServerCertificate
from pullpass.kube.resources import CONFIG_MAPS, SECRETS
from pullpass.signing.certificates import new_ca
from pullpass.signing.replacement import GRACE
from tests.registries import DEFAULT, OTHER
from tests.unit.controller.keys.stored_keys import (
    CA,
    DAY,
    LEAF,
    NOW,
    OTHER_CA,
    OTHER_TRUST,
    SETTINGS,
    TRUST,
    files,
    kid,
    pair_of,
    secret,
    settled,
)
from tests.unit.signing.authorities import given_ca
from tests.unit.signing.memory import Memory


async def test_each_registry_has_keys_of_its_own() -> None:
    kube = await settled()
    before = copy.deepcopy(kube.objects)
    await reconcile(kube, SETTINGS, OTHER, NOW)
    assert kube.calls == [
        ("create", "pullpass-ca-other"),
        ("create", "pullpass-trust-other"),
        ("create", "pullpass-signing-other"),
    ]
    assert {key: kube.objects[key] for key in before} == before
    ca = pair_of(kube, (SECRETS, "release", "pullpass-ca-other"))
    leaf = pair_of(kube, (SECRETS, "credentials", "pullpass-signing-other"))
    leaf.certificate.verify_directly_issued_by(ca.certificate)
    trusted = kube.objects[CONFIG_MAPS, "release", "pullpass-trust-other"]["data"]
    assert trusted["ca.crt"].encode() == ca.certificate_pem
    assert ca.certificate_pem != pair_of(kube, CA).certificate_pem
    assert [key["kid"] for key in json.loads(trusted["jwks.json"])["keys"]] == [kid(leaf)]


async def test_two_registries_do_not_share_a_ca() -> None:
    kube = await settled()
    ca = pair_of(kube, CA)
    kube.put((SECRETS, "release", "pullpass-ca-other"), secret(files(given_ca(NOW, ca.key))))
    with pytest.raises(KeySecretError, match="has a key that registry default has, too"):
        await reconcile(kube, SETTINGS, OTHER, NOW)
    assert kube.calls == []
    await reconcile(kube, SETTINGS, DEFAULT, NOW)  # it was there first


async def test_of_two_new_registries_with_one_key_the_later_gets_no_leaf() -> None:
    kube, ca = Memory(), new_ca(NOW)
    for key in (CA, OTHER_CA):
        kube.put(key, secret(files(ca)))
    with pytest.raises(KeySecretError, match="of registry other has a key that registry default has, too"):
        await reconcile(kube, SETTINGS, OTHER, NOW)
    await reconcile(kube, SETTINGS, DEFAULT, NOW)
    assert OTHER_TRUST not in kube.objects


async def test_a_registry_that_is_given_the_ca_of_a_later_one_keeps_off_and_that_one_goes_on() -> None:
    kube = await settled()
    await reconcile(kube, SETTINGS, OTHER, NOW)
    before = copy.deepcopy(kube.objects[TRUST]), copy.deepcopy(kube.objects[LEAF])
    theirs = pair_of(kube, OTHER_CA)
    kube.put(CA, secret(files(theirs)))
    for later in (DAY, GRACE + DAY, 61 * DAY):
        with pytest.raises(KeySecretError, match="of registry default has a key that registry other has, too"):
            await reconcile(kube, SETTINGS, DEFAULT, NOW + later)
        await reconcile(kube, SETTINGS, OTHER, NOW + later)
    assert (kube.objects[TRUST], kube.objects[LEAF]) == before
    renewed = pair_of(kube, (SECRETS, "credentials", "pullpass-signing-other"))
    assert renewed.not_before > NOW + 60 * DAY
    renewed.certificate.verify_directly_issued_by(theirs.certificate)


@pytest.mark.parametrize("registry", [DEFAULT, OTHER], ids=["earlier", "later"])
async def test_a_ca_that_another_registry_had_is_not_taken_while_that_one_trusts_it(registry: Registry) -> None:
    kube = await settled()
    await reconcile(kube, SETTINGS, OTHER, NOW)
    (mine, theirs), another = ((CA, OTHER_CA) if registry is DEFAULT else (OTHER_CA, CA)), new_ca(NOW)
    had = pair_of(kube, theirs)
    kube.put(theirs, secret(files(another)))
    kube.put(mine, secret(files(had)))
    with pytest.raises(KeySecretError, match=f"of registry {registry.name} has a key that registry"):
        await reconcile(kube, SETTINGS, registry, NOW)


SECURE = replace(SETTINGS, server_certificates=(ServerCertificate("tokens-tls", ("tokens.release.svc",)),))
SERVER_CA = (SECRETS, "release", "pullpass-server-ca")


async def test_the_server_ca_signs_no_access_tokens() -> None:
    kube, ca = Memory(), new_ca(NOW)
    for key in (CA, SERVER_CA):
        kube.put(key, secret(files(ca)))
    with pytest.raises(
        KeySecretError, match="registry default has the key of the server CA, Secret release/pullpass-s"
    ):
        await reconcile(kube, SECURE, DEFAULT, NOW)
    assert kube.calls == []
    await reconcile(kube, SETTINGS, DEFAULT, NOW)  # nobody is vouched for with it


async def test_a_ca_that_a_registry_trusts_vouches_for_no_server() -> None:
    kube = Memory()
    await reconcile(kube, SECURE, DEFAULT, NOW)
    kube.calls.clear()
    kube.put(SERVER_CA, secret(files(pair_of(kube, CA))))
    with pytest.raises(KeySecretError, match="pullpass-server-ca has a key that registry default trusts"):
        await serverkeys.reconcile(kube, SECURE, NOW)
    assert kube.calls == []
    await reconcile(kube, SECURE, DEFAULT, NOW + 61 * DAY)
    assert pair_of(kube, LEAF).not_before > NOW + 60 * DAY


async def test_a_broken_ca_of_one_registry_does_not_hold_up_another() -> None:
    kube = await settled()
    kube.objects[CA]["data"] = {}
    await reconcile(kube, SETTINGS, OTHER, NOW)
    assert (SECRETS, "credentials", "pullpass-signing-other") in kube.objects
