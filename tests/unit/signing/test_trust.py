"""What registries are given, and for how long a replaced key stays in it."""

import json
from datetime import UTC, datetime, timedelta

from pullpass.signing import jwks, trust
from pullpass.signing.certificates import KeyPair, new_ca, new_leaf

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CA = new_ca(NOW)
OLD = new_leaf(CA, NOW)
RENEWED_AT = NOW + 60 * DAY
NEW = new_leaf(CA, RENEWED_AT)


def leaves(data: dict[str, str]) -> list[object]:
    return list(jwks.certificates(data[trust.JWKS_KEY]))


def certificates_of(*pairs: KeyPair) -> list[object]:
    return [pair.certificate for pair in pairs]


def test_the_first_publication_is_the_ca_and_one_key() -> None:
    data = trust.contents(CA, OLD, {}, NOW)
    assert data["ca.crt"].encode() == CA.certificate_pem
    assert leaves(data) == certificates_of(OLD)
    assert len(json.loads(data["jwks.json"])["keys"]) == 1


def test_publishing_again_changes_nothing() -> None:
    data = trust.contents(CA, OLD, {}, NOW)
    assert trust.contents(CA, OLD, data, NOW + DAY) == data


def test_a_replaced_key_stays_until_its_certificate_ends() -> None:
    before = trust.contents(CA, OLD, {}, NOW)
    renewed = trust.contents(CA, NEW, before, RENEWED_AT)
    assert leaves(renewed) == certificates_of(NEW, OLD)
    last = trust.contents(CA, NEW, renewed, OLD.not_after - timedelta(seconds=1))
    assert leaves(last) == certificates_of(NEW, OLD)
    assert leaves(trust.contents(CA, NEW, renewed, OLD.not_after)) == certificates_of(NEW)


def test_keys_of_another_ca_go_at_once() -> None:
    before = trust.contents(CA, OLD, {}, NOW)
    ca = new_ca(NOW)
    leaf = new_leaf(ca, NOW)
    data = trust.contents(ca, leaf, before, NOW)
    assert leaves(data) == certificates_of(leaf)
    assert data["ca.crt"].encode() == ca.certificate_pem


def test_the_key_set_cannot_grow_without_end() -> None:
    data: dict[str, str] = {}
    made = [new_leaf(CA, NOW + timedelta(hours=n)) for n in range(8)]
    for leaf in made:
        data = trust.contents(CA, leaf, data, NOW + timedelta(hours=8))
    assert leaves(data) == certificates_of(*reversed(made[-1 - trust.REPLACED_KEYS :]))
