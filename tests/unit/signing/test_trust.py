"""What registries are given, and for how long a replaced key or CA stays in it."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from pullpass.signing import jwks, trust
from pullpass.signing.certificates import KeyPair, new_ca, new_key, new_leaf
from tests.unit.signing.authorities import given_ca, of_no_version

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
CA = new_ca(NOW)
OTHER = new_ca(NOW)
OLD = new_leaf(CA, NOW)
RENEWED_AT = NOW + 60 * DAY
NEW = new_leaf(CA, RENEWED_AT)

Data = dict[str, str]


def published(
    wanted: list[KeyPair], leaves: list[KeyPair], before: Data, now: datetime, *, distrust: bool = False
) -> Data:
    """What one pass makes of what is published."""
    bundle = trust.trusted(trust.authorities(before, now), certificates_of(*wanted), now, distrust=distrust)
    return trust.contents(bundle, certificates_of(*leaves), before, now)


def leaves_of(data: Data) -> list[x509.Certificate]:
    return jwks.certificates(data["jwks.json"])


def bundle_of(data: Data) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(data["ca.crt"].encode())


def certificates_of(*pairs: KeyPair) -> list[x509.Certificate]:
    return [pair.certificate for pair in pairs]


def test_the_first_publication_is_the_ca_and_one_key() -> None:
    data = published([CA], [OLD], {}, NOW)
    assert data["ca.crt"].encode() == CA.certificate_pem
    assert leaves_of(data) == certificates_of(OLD)
    assert len(json.loads(data["jwks.json"])["keys"]) == 1
    assert json.loads(data["authorities.json"]) == [
        {
            "sha256": trust.fingerprint(CA.certificate),
            "subject": "CN=pullpass signing CA",
            "notAfter": CA.not_after.isoformat(),
            "since": NOW.isoformat(),
        }
    ]


def test_publishing_again_changes_nothing() -> None:
    data = published([CA, OTHER], [OLD], {}, NOW)
    assert published([CA, OTHER], [OLD], data, NOW + DAY) == data
    leaving = published([OTHER], [OLD], data, NOW + DAY)
    assert published([OTHER], [OLD], leaving, NOW + DAY + 59 * MINUTE) == leaving


def test_a_replaced_key_stays_until_its_certificate_ends() -> None:
    before = published([CA], [OLD], {}, NOW)
    renewed = published([CA], [NEW], before, RENEWED_AT)
    assert leaves_of(renewed) == certificates_of(NEW, OLD)
    last = published([CA], [NEW], renewed, OLD.not_after - timedelta(seconds=1))
    assert leaves_of(last) == certificates_of(NEW, OLD)
    assert leaves_of(published([CA], [NEW], renewed, OLD.not_after)) == certificates_of(NEW)


def test_the_key_set_cannot_grow_without_end_and_keeps_what_is_in_use() -> None:
    data: Data = {}
    made = [new_leaf(CA, NOW + timedelta(hours=n)) for n in range(8)]
    for leaf in made[1:]:
        data = published([CA], [leaf, made[0]], data, NOW + timedelta(hours=8))
    expected = [made[-1], made[0], *reversed(made[-1 - trust.MAX_REPLACED_KEYS : -1])]
    assert leaves_of(data) == certificates_of(*expected)


def test_both_cas_are_trusted_while_both_are_wanted_each_since_its_own_time() -> None:
    data = published([CA], [OLD], {}, NOW)
    data = published([CA, OTHER], [OLD], data, NOW + DAY)
    assert bundle_of(data) == certificates_of(CA, OTHER)
    assert [one.since for one in trust.authorities(data, NOW + 2 * DAY)] == [NOW, NOW + DAY]


def test_a_ca_that_signs_no_more_leaves_an_hour_later_with_its_keys() -> None:
    leaf = new_leaf(OTHER, NOW + DAY)
    before = published([CA, OTHER], [OLD], {}, NOW)
    data = published([OTHER], [leaf], before, NOW + DAY)
    assert bundle_of(data) == certificates_of(OTHER, CA)
    assert leaves_of(data) == certificates_of(leaf, OLD)
    assert [one.until for one in trust.authorities(data, NOW)] == [None, NOW + DAY + 60 * MINUTE]
    late = published([OTHER], [leaf], data, NOW + DAY + 59 * MINUTE)
    assert late == data
    over = published([OTHER], [leaf], late, NOW + DAY + 60 * MINUTE)
    assert bundle_of(over) == certificates_of(OTHER)
    assert leaves_of(over) == certificates_of(leaf)


def test_a_ca_that_is_wanted_again_stays() -> None:
    data = published([CA], [OLD], {}, NOW)
    data = published([OTHER], [OLD], data, NOW + DAY)
    data = published([CA, OTHER], [OLD], data, NOW + DAY + MINUTE)
    assert [(one.since, one.until) for one in trust.authorities(data, NOW + 2 * DAY)] == [
        (NOW, None),
        (NOW + DAY, None),
    ]


def test_what_is_distrusted_goes_at_once_with_its_keys() -> None:
    leaf = new_leaf(OTHER, NOW)
    before = published([CA, OTHER], [OLD], {}, NOW)
    data = published([OTHER], [leaf], before, NOW, distrust=True)
    assert bundle_of(data) == certificates_of(OTHER)
    assert leaves_of(data) == certificates_of(leaf)


def test_a_ca_renewed_over_its_key_is_trusted_beside_its_old_certificate_for_a_while() -> None:
    old = given_ca(NOW, new_key())
    leaf = new_leaf(old, NOW)
    renewed = given_ca(NOW, old.key, ends=NOW + 200 * DAY)
    data = published([renewed], [leaf], published([old], [leaf], {}, NOW), NOW + DAY)
    assert bundle_of(data) == certificates_of(renewed, old)
    over = published([renewed], [leaf], data, NOW + DAY + trust.RETIRED_CA_GRACE)
    assert bundle_of(over) == certificates_of(renewed)
    assert leaves_of(over) == certificates_of(leaf)


def test_a_ca_that_has_ended_does_not_stay() -> None:
    old = given_ca(NOW, new_key(), ends=NOW + 10 * MINUTE)
    data = published([CA], [OLD], published([old], [new_leaf(old, NOW)], {}, NOW), NOW)
    assert bundle_of(data) == certificates_of(CA, old)
    assert bundle_of(published([CA], [OLD], data, NOW + 10 * MINUTE)) == certificates_of(CA)


@pytest.mark.parametrize(
    "told",
    ["", "[", "{}", "null", "[1]", '[{"sha256": 1}]', '[{"sha256": "x", "since": "soon"}]', "naive", "until"],
)
def test_a_ca_without_readable_dates_counts_as_published_just_now(told: str) -> None:
    one = trust.fingerprint(CA.certificate)
    if told == "naive":
        told = json.dumps([{"sha256": one, "since": "2027-03-01T12:00:00"}])
    elif told == "until":
        told = json.dumps([{"sha256": one, "since": NOW.isoformat(), "until": 7}])
    data = {"ca.crt": CA.certificate_pem.decode(), "authorities.json": told}
    assert trust.authorities(data, NOW + DAY) == (trust.Authority(CA.certificate, NOW + DAY),)


def test_whatever_is_written_there_a_ca_that_nothing_wants_stays_no_longer() -> None:
    data = published([CA], [OLD], {}, NOW)
    told = {"sha256": trust.fingerprint(OTHER.certificate), "since": NOW.isoformat(), "until": "2036-01-01T00:00:00Z"}
    data["ca.crt"] += OTHER.certificate_pem.decode()
    data["authorities.json"] = json.dumps([*json.loads(data["authorities.json"]), told])
    seen = published([CA], [OLD], data, NOW)
    assert [one.until for one in trust.authorities(seen, NOW)] == [None, NOW + trust.RETIRED_CA_GRACE]
    assert bundle_of(published([CA], [OLD], seen, NOW + trust.RETIRED_CA_GRACE)) == certificates_of(CA)


def test_a_ca_is_not_published_in_the_future() -> None:
    data = published([CA], [OLD], {}, NOW + 20 * DAY)
    data = published([CA], [OLD], data, NOW)
    assert [one.since for one in trust.authorities(data, NOW + DAY)] == [NOW]


@pytest.mark.parametrize(
    "text",
    ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", of_no_version(NOW).decode()],
)
def test_a_bundle_that_cannot_be_read_is_none(text: str) -> None:
    assert trust.authorities({"ca.crt": text}, NOW) == ()


def test_an_old_ca_stays_longer_than_any_access_token_lives() -> None:
    assert trust.retired_ca_grace(timedelta(seconds=300)) == trust.RETIRED_CA_GRACE
    assert trust.retired_ca_grace(timedelta(hours=2)) > timedelta(hours=2)
