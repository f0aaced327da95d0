"""Keys over an API server in memory: what is made, kept, renewed, published, and refused."""

import base64
import copy
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from pullpass.api import names
from pullpass.api.names import SIGNING_SECRET
from pullpass.controller import metrics
from pullpass.controller.keys.signing import RECHECK_AFTER, load, load_seed, reconcile
from pullpass.controller.keys.storage import KeySecretError
from pullpass.kube.client import Conflict, Unavailable
from pullpass.signing import trust
from pullpass.signing.certificates import KeyPair, leaf_due, new_ca, new_key, new_leaf
from pullpass.signing.replacement import GRACE
from tests.registries import DEFAULT
from tests.unit.controller.keys.stored_keys import (
    CA,
    DAY,
    LEAF,
    NOW,
    SEED,
    SETTINGS,
    TRUST,
    bundle,
    files,
    issuer,
    kid,
    kids,
    metric,
    pair_of,
    said,
    secret,
    settled,
)
from tests.unit.signing.authorities import given_ca, of_no_version, with_doubled_extension
from tests.unit.signing.memory import Key, Memory


async def test_the_first_time_everything_is_made() -> None:
    kube = Memory()
    assert await reconcile(kube, SETTINGS, DEFAULT, NOW) == NOW + RECHECK_AFTER
    assert kube.calls == [
        ("create", "pullpass-ca"),
        ("create", "pullpass-trust"),
        ("create", SIGNING_SECRET),
    ]
    ca, leaf = pair_of(kube, CA), pair_of(kube, LEAF)
    assert kube.objects[TRUST]["data"]["ca.crt"].encode() == ca.certificate_pem
    assert kids(kube) == [kid(leaf)]
    assert kube.objects[LEAF]["type"] == kube.objects[CA]["type"] == "kubernetes.io/tls"
    assert kube.objects[LEAF]["metadata"]["labels"] == {
        names.MANAGED_BY_LABEL: names.MANAGED_BY,
        names.COMPONENT_LABEL: names.SIGNING_KEY,
    }


async def test_a_private_key_is_in_its_own_secret_only() -> None:
    kube = await settled()
    assert "PRIVATE" not in json.dumps(kube.objects[TRUST])
    assert set(kube.objects[LEAF]["data"]) == {"tls.crt", "tls.key", "ca.crt"}
    ca_key = kube.objects[CA]["data"]["tls.key"]
    assert [key for key, found in kube.objects.items() if ca_key in json.dumps(found)] == [CA]


@pytest.mark.parametrize("later", [timedelta(0), timedelta(minutes=10), 59 * DAY])
async def test_settled_keys_cost_no_write(later: timedelta) -> None:
    kube = await settled()
    assert await reconcile(kube, SETTINGS, DEFAULT, NOW + later) == NOW + later + RECHECK_AFTER
    assert kube.calls == []


async def test_the_leaf_is_renewed_in_place_and_its_old_key_stays_published_until_it_ends() -> None:
    kube = await settled()
    old = pair_of(kube, LEAF)
    due = await reconcile(kube, SETTINGS, DEFAULT, NOW + 60 * DAY - RECHECK_AFTER)
    assert due <= NOW + 60 * DAY
    await reconcile(kube, SETTINGS, DEFAULT, due)
    assert kube.calls == [("replace", "pullpass-trust"), ("replace", SIGNING_SECRET)]
    new = pair_of(kube, LEAF)
    assert kids(kube) == [kid(new), kid(old)]
    assert kube.objects[LEAF]["metadata"]["labels"][names.COMPONENT_LABEL] == names.SIGNING_KEY
    await reconcile(kube, SETTINGS, DEFAULT, old.not_after)
    assert kids(kube) == [kid(new)]
    assert pair_of(kube, LEAF).certificate == new.certificate


async def test_the_next_look_is_when_the_leaf_is_due_if_that_comes_first() -> None:
    kube = await settled()
    leaf = pair_of(kube, LEAF)
    due = leaf_due(leaf, pair_of(kube, CA).certificate, NOW)
    assert await reconcile(kube, SETTINGS, DEFAULT, due - timedelta(minutes=3)) == due
    assert kube.calls == []


async def test_a_new_key_is_published_before_it_signs_and_a_crash_in_between_loses_none() -> None:
    kube = await settled()
    old = pair_of(kube, LEAF)
    kube.fail_on = SIGNING_SECRET
    with pytest.raises(Unavailable):
        await reconcile(kube, SETTINGS, DEFAULT, NOW + 61 * DAY)
    assert pair_of(kube, LEAF).certificate == old.certificate
    lost, _ = kids(kube)
    kube.fail_on = None
    await reconcile(kube, SETTINGS, DEFAULT, NOW + 61 * DAY)
    assert kids(kube) == [kid(pair_of(kube, LEAF)), lost, kid(old)]


@pytest.mark.parametrize(
    "given",
    [new_ca(NOW), given_ca(NOW, rsa.generate_private_key(65537, 2048), cert_sign=True)],
    ids=["ec", "rsa"],
)
async def test_a_given_ca_is_used_and_never_written(given: KeyPair) -> None:
    kube = Memory()
    body = secret({**files(given), "ca.crt": given.certificate_pem})
    kube.put(CA, body)
    before = copy.deepcopy(kube.objects[CA])
    await reconcile(kube, SETTINGS, DEFAULT, NOW)
    assert kube.objects[CA] == before
    assert kube.objects[TRUST]["data"]["ca.crt"].encode() == given.certificate_pem
    pair_of(kube, LEAF).certificate.verify_directly_issued_by(given.certificate)


async def test_a_ca_put_in_the_place_of_another_is_trusted_first_and_signs_two_weeks_later() -> None:
    kube = await settled()
    old, leaf = pair_of(kube, CA), pair_of(kube, LEAF)
    other = new_ca(NOW)
    kube.put(CA, secret(files(other)))
    await reconcile(kube, SETTINGS, DEFAULT, NOW + DAY)
    assert kube.calls == [("replace", "pullpass-trust")]
    assert bundle(kube) == [old.certificate, other.certificate]
    assert pair_of(kube, LEAF).certificate == leaf.certificate
    # The old CA is nowhere but in the leaf's Secret, and that is enough.
    del kube.objects[TRUST]
    await reconcile(kube, SETTINGS, DEFAULT, NOW + DAY)
    assert bundle(kube) == [old.certificate, other.certificate]
    kube.calls.clear()
    due = await reconcile(kube, SETTINGS, DEFAULT, NOW + DAY + GRACE - timedelta(minutes=1))
    assert due == NOW + DAY + GRACE
    assert kube.calls == []
    assert await reconcile(kube, SETTINGS, DEFAULT, due) == due + RECHECK_AFTER
    assert kube.calls == [("replace", "pullpass-trust"), ("replace", SIGNING_SECRET), ("replace", "pullpass-trust")]
    pair_of(kube, LEAF).certificate.verify_directly_issued_by(other.certificate)
    assert bundle(kube) == [other.certificate, old.certificate]
    last = due + trust.RETIRED_CA_GRACE
    assert await reconcile(kube, SETTINGS, DEFAULT, last - timedelta(minutes=1)) == last
    assert bundle(kube) == [other.certificate, old.certificate]
    await reconcile(kube, SETTINGS, DEFAULT, last)
    assert bundle(kube) == [other.certificate]
    assert kids(kube) == [kid(pair_of(kube, LEAF))]


async def test_a_ca_renewed_over_the_same_key_keeps_the_leaf() -> None:
    kube = Memory()
    given = given_ca(NOW, new_key())
    kube.put(CA, secret(files(given)))
    await reconcile(kube, SETTINGS, DEFAULT, NOW)
    leaf = pair_of(kube, LEAF)
    kube.calls.clear()
    renewed = given_ca(NOW, given.key, ends=NOW + 200 * DAY)
    kube.put(CA, secret(files(renewed)))
    await reconcile(kube, SETTINGS, DEFAULT, NOW + DAY)
    assert kube.calls == [("replace", "pullpass-trust"), ("replace", SIGNING_SECRET)]
    assert bundle(kube) == [renewed.certificate, given.certificate]
    assert pair_of(kube, LEAF).certificate == leaf.certificate
    assert issuer(kube) == renewed.certificate
    kube.calls.clear()
    await reconcile(kube, SETTINGS, DEFAULT, NOW + DAY + trust.RETIRED_CA_GRACE)
    assert kube.calls == [("replace", "pullpass-trust")]
    assert bundle(kube) == [renewed.certificate]


async def test_what_an_older_version_made_is_completed() -> None:
    kube = await settled()
    before = copy.deepcopy(kube.objects)
    del kube.objects[LEAF]["data"]["ca.crt"]
    del kube.objects[TRUST]["data"]["authorities.json"]
    await reconcile(kube, SETTINGS, DEFAULT, NOW)
    assert kube.calls == [("replace", "pullpass-trust"), ("replace", SIGNING_SECRET)]
    assert [kube.objects[key]["data"] for key in (LEAF, TRUST)] == [before[key]["data"] for key in (LEAF, TRUST)]


async def test_an_older_version_s_leaf_whose_ca_was_replaced_meanwhile_goes_on() -> None:
    kube = await settled()
    leaf = pair_of(kube, LEAF)
    del kube.objects[LEAF]["data"]["ca.crt"]
    kube.put(CA, secret(files(new_ca(NOW))))
    old = bundle(kube)
    await reconcile(kube, SETTINGS, DEFAULT, NOW)
    assert pair_of(kube, LEAF).certificate == leaf.certificate
    assert [issuer(kube)] == old
    assert old[0] in bundle(kube)


async def test_the_end_of_the_ca_and_the_step_are_metrics() -> None:
    kube = await settled()
    assert metric("ca_not_after_seconds") == pair_of(kube, CA).not_after.timestamp()
    assert (metric("ca_replacement", step="none"), metric("ca_replacement", step="replaced")) == (1, 0)
    kube.put(CA, secret(files(given_ca(NOW, new_key()))))
    await reconcile(kube, SETTINGS, DEFAULT, NOW)
    assert metric("ca_not_after_seconds") == pair_of(kube, CA).not_after.timestamp()
    assert (metric("ca_replacement", step="none"), metric("ca_replacement", step="replaced")) == (0, 1)


async def test_each_step_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    kube = await settled()
    assert "registry default: one CA, which signs" in said(caplog)
    kube.put(CA, secret(files(new_ca(NOW))))
    for _ in range(2):
        await reconcile(kube, SETTINGS, DEFAULT, NOW)
    assert said(caplog).count("run: pullpass keys switch-ca --registry default") == 1
    await reconcile(kube, SETTINGS, DEFAULT, NOW + GRACE)
    assert "the last of the others leaves the bundle at 2027-03-15T13:00:00Z" in said(caplog)


async def test_a_ca_that_ends_soon_is_said_whenever_a_leaf_is_renewed(caplog: pytest.LogCaptureFixture) -> None:
    kube = await settled()
    assert "replace it" not in said(caplog)
    await reconcile(kube, SETTINGS, DEFAULT, NOW + 3400 * DAY)
    assert "Secret release/pullpass-ca expires at 2037-02-26T12:00:00+00:00. Replace it in steps" in said(caplog)


async def test_another_that_made_the_ca_first_wins() -> None:
    kube = Memory()
    given = new_ca(NOW)
    kube.meanwhile[CA] = secret(files(given))
    await reconcile(kube, SETTINGS, DEFAULT, NOW)
    assert pair_of(kube, CA).certificate == given.certificate
    pair_of(kube, LEAF).certificate.verify_directly_issued_by(given.certificate)


async def test_a_leaf_that_changed_meanwhile_is_not_overwritten() -> None:
    kube = await settled()
    renewed = new_leaf(pair_of(kube, CA), NOW + 70 * DAY)
    labels = kube.objects[LEAF]["metadata"]["labels"]
    kube.meanwhile[LEAF] = secret(files(renewed), labels)
    with pytest.raises(Conflict):
        await reconcile(kube, SETTINGS, DEFAULT, NOW + 70 * DAY)
    await reconcile(kube, SETTINGS, DEFAULT, NOW + 70 * DAY)
    assert pair_of(kube, LEAF).certificate == renewed.certificate


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"tls.crt": "%", "tls.key": "%"},
        {"tls.crt": "AAAA", "tls.key": "AAAA"},
    ],
)
async def test_a_broken_leaf_of_ours_is_made_again(data: dict[str, str] | None) -> None:
    kube = await settled()
    kube.objects[LEAF]["data"] = data
    await reconcile(kube, SETTINGS, DEFAULT, NOW)
    pair_of(kube, LEAF).certificate.verify_directly_issued_by(pair_of(kube, CA).certificate)


@pytest.mark.parametrize("key", [LEAF, TRUST], ids=["leaf", "trust"])
async def test_what_is_not_ours_is_left_as_it_is(key: Key) -> None:
    kube = await settled()
    foreign = kube.objects[key]
    foreign["metadata"]["labels"] = {names.MANAGED_BY_LABEL: "somebody"}
    foreign["data"] = {"theirs": "YQ=="}
    with pytest.raises(KeySecretError, match=f"{key[1]}/{key[2]} was not created by pullpass") as caught:
        await reconcile(kube, SETTINGS, DEFAULT, NOW)
    assert "Delete it" in str(caught.value)
    assert kube.calls == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "has no tls.crt"),
        ({"tls.crt": b"hush", "tls.key": b"hush"}, "cannot parse the certificate as PEM"),
        (files(new_leaf(new_ca(NOW), NOW)), "basicConstraints"),
        (files(given_ca(NOW, new_key(), ends=NOW)), "expired at"),
        ({"tls.crt": of_no_version(NOW), "tls.key": new_ca(NOW).key_pem}, "cannot parse the certificate as PEM"),
        (files(with_doubled_extension(NOW)), "extensions cannot be read"),
        ({**files(new_ca(NOW)), "tls.key": new_ca(NOW).key_pem}, "another certificate"),
    ],
)
async def test_a_ca_that_cannot_sign_is_said_and_kept(data: dict[str, bytes], said: str) -> None:
    kube = Memory()
    kube.put(CA, secret(data))
    before = copy.deepcopy(kube.objects)
    with pytest.raises(KeySecretError, match=said) as caught:
        await reconcile(kube, SETTINGS, DEFAULT, NOW)
    assert "Secret release/pullpass-ca" in str(caught.value)
    assert "or delete the Secret and pullpass makes one" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert kube.objects == before


async def test_a_ca_that_is_not_base64_is_said() -> None:
    kube = Memory()
    kube.put(CA, secret({}) | {"data": {"tls.crt": "%%", "tls.key": ""}})
    with pytest.raises(KeySecretError, match=r"tls\.crt is not base64"):
        await reconcile(kube, SETTINGS, DEFAULT, NOW)


async def test_what_is_held_of_keys_does_not_show_them() -> None:
    kube = await settled()
    shown = repr(await load(kube, SETTINGS, DEFAULT, NOW))
    assert kube.objects[CA]["data"]["tls.key"] not in shown
    assert kube.objects[LEAF]["data"]["tls.key"] not in shown


async def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    kube = await settled()
    await load_seed(kube, SETTINGS)
    await reconcile(kube, SETTINGS, DEFAULT, NOW + 70 * DAY)
    assert "created Secret release/pullpass-ca" in caplog.text
    held = {text for key in (CA, LEAF, SEED) for text in kube.objects[key]["data"].values()}
    assert not any(text in caplog.text or base64.b64decode(text).hex() in caplog.text for text in held)
    assert "PRIVATE" not in caplog.text


async def test_the_seed_is_made_once() -> None:
    kube = Memory()
    seed = await load_seed(kube, SETTINGS)
    assert len(seed) == 32
    assert await load_seed(kube, SETTINGS) == seed
    assert kube.calls == [("create", "pullpass-seed")]
    assert await load_seed(Memory(), SETTINGS) != seed


async def test_the_seed_that_another_made_first_wins() -> None:
    kube = Memory()
    kube.meanwhile[SEED] = secret({"seed": b"s" * 32})
    assert await load_seed(kube, SETTINGS) == b"s" * 32


@pytest.mark.parametrize(
    ("data", "said"),
    [({}, "has no seed"), ({"seed": b"hush"}, "has 4 bytes under seed, but 32 are needed")],
)
async def test_a_seed_that_cannot_be_used_is_said_and_kept(data: dict[str, bytes], said: str) -> None:
    kube = Memory()
    kube.put(SEED, secret(data))
    with pytest.raises(KeySecretError, match=said) as caught:
        await load_seed(kube, SETTINGS)
    assert "release/pullpass-seed" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert kube.calls == []


async def test_the_end_of_a_ca_that_has_ended_is_a_metric_too() -> None:
    kube, ended = Memory(), given_ca(NOW, new_key(), ends=NOW - DAY, begins=NOW - 9 * DAY)
    kube.put(CA, secret(files(ended)))
    metrics.CA_NOT_AFTER.clear()
    with pytest.raises(KeySecretError, match="expired at"):
        await reconcile(kube, SETTINGS, DEFAULT, NOW)
    assert metric("ca_not_after_seconds") == ended.not_after.timestamp()
