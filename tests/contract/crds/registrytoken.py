"""The constraints of a RegistryToken's spec."""

from collections.abc import Iterator
from typing import Any

from pullpass.api.registrytoken import OVERLAP_TOO_LONG

from .case import (
    DAY,
    DUPLICATE,
    DURATION,
    NAME,
    NAMESPACE,
    PASSWORD_ID,
    REQUIRED,
    RFC3339,
    TOKEN,
    TOO_MANY,
    WHEN,
    Case,
    Object,
    names,
    string_cases,
    unsupported,
)


def token_cases() -> Iterator[Case]:
    """Every constraint of what people write in a RegistryToken."""
    sentence = "the name of a RegistryToken is at most 63 characters: it is part of the login name"
    yield Case("RegistryToken", " rule", "metadata.name", "a" * 63, "a" * 64, sentence, field="<nil>")
    yield Case("RegistryToken", "required spec", "spec", TOKEN["spec"], None, REQUIRED)
    yield case("spec required scopeMapRef", "scopeMapRef", {"name": "a"}, None, REQUIRED)
    yield case("spec.scopeMapRef required name", "scopeMapRef.name", "a", None, REQUIRED)
    for good, bad in (("a.b-c", "A"), ("a", "a..b"), ("0", "-a"), ("a.b", "a.-b"), ("a-b", "a/b")):
        where = ("spec.scopeMapRef.name", "spec.scopeMapRef.name")
        yield from string_cases("RegistryToken", *where, 253, good, bad, NAME)

    for good, bad in (
        ("2027-03-31T22:00:00Z", "2027-03-31"),
        ("2027-03-31T22:00:00.5+02:00", "2027-03-31T22:00Z"),
        ("2027-03-31T22:00:00-23:59", "2027-03-31T22:00:00+24:00"),
        ("2027-03-31T22:00:00Z", "2027-03-31T22:00:00"),
        ("2027-03-31T22:00:00Z", "tomorrow"),
    ):
        yield case("spec.expiresAt rule", "expiresAt", good, bad, RFC3339)
    for good, bad in (
        ("2028-02-29T00:00:00Z", "2027-02-29T00:00:00Z"),
        ("2000-01-01T00:00:00Z", "1999-12-31T23:59:59Z"),
        ("2999-12-31T23:59:59Z", "3000-01-01T00:00:00Z"),
    ):
        yield case("spec.expiresAt rule", "expiresAt", good, bad, DAY)
    yield case("spec.expiresAt maxLength", "expiresAt", WHEN, "2" * 41, "Too long: may not be more than 40")
    yield from _passwords()
    yield from _pull_secret()


def case(constraint: str, at: str, good: Any, bad: Any, sentence: str, **more: Any) -> Case:
    return Case("RegistryToken", constraint, f"spec.{at}", good, bad, sentence, **more)


def _passwords() -> Iterator[Case]:
    passwords = "spec.passwords"
    for name, base in (
        ("lifetime", {}),
        ("renewBefore", {"passwords": {"lifetime": "999999h"}}),
        ("overlap", {}),
    ):
        more = {"base": {f"spec.{key}": value for key, value in base.items()}}
        for good, bad in (("1h", "1d"), ("1h1m1s", "1m1h"), ("99999999s", "1.5h"), ("999999m", "h"), ("10m", "")):
            yield case(f"{passwords}.{name} rule", f"passwords.{name}", good, bad, DURATION, **more)
        limit = "Too long: may not be more than 16"
        longest_of = ("9999h999m999999s", "99999h999m999999s")
        yield case(f"{passwords}.{name} maxLength", f"passwords.{name}", *longest_of, limit, **more)
    for value in ("Rotate", "Revoke"):
        sentence = unsupported("Keep", "Rotate", "Revoke")
        yield case(f"{passwords}.onExpiry enum", "passwords.onExpiry", value, "Keep", sentence)

    revoked, at = f"{passwords}.revoked", "passwords.revoked"
    ids = [f"{number:06x}" for number in range(33)]
    yield case(f"{revoked} maxItems", at, ids[:32], ids, TOO_MANY.format(33, 32))
    yield case(f"{revoked} set", at, ids[:2], ids[:1] * 2, DUPLICATE.format(ids[0]), field=f"spec.{at}.1")
    listed = {"base": {f"spec.{at}": ids[:1]}}
    for good, bad in (
        ("4f9c1e", "4F9C1E"),
        ("000000", "00000"),
        ("999999", "9999999"),
        ("abcdef", "abcdeg"),
        ("012345", ""),
        ("678901", " 67890"),
    ):
        yield case(f"{revoked}[] rule", f"{at}.0", good, bad, PASSWORD_ID, **listed)
    # A whole password is not quoted in the refusal.
    too_long = "Too long: may not be more than 16"
    yield case(f"{revoked}[] maxLength", f"{at}.0", ids[0], f"pullpass_{ids[0]}aa", too_long, **listed)

    def together(good: Object, bad: Object, sentence: str) -> Case:
        return case(f"{passwords} rule", "passwords", good, bad, sentence)

    yield together({"lifetime": "1m"}, {"lifetime": "59s"}, "lifetime is at least one minute")
    yield together({"lifetime": "60s"}, {"lifetime": "0s"}, "lifetime is at least one minute")
    yield together(
        {"lifetime": "2h", "renewBefore": "1h"},
        {"renewBefore": "1h"},
        "renewBefore needs a lifetime: a password without one never expires",
    )
    yield together(
        {"lifetime": "2h", "renewBefore": "1h", "onExpiry": "Rotate"},
        {"lifetime": "2h", "renewBefore": "1h", "onExpiry": "Revoke"},
        "renewBefore goes with 'onExpiry: Rotate', and only with it",
    )
    yield together(
        {"lifetime": "1h", "renewBefore": "59m59s"},
        {"lifetime": "1h", "renewBefore": "60m"},
        "renewBefore must be shorter than lifetime",
    )
    yield together(
        {"lifetime": "1h", "renewBefore": "10s"},
        {"lifetime": "1h", "renewBefore": "9s"},
        "renewBefore is at least ten seconds: the new password must be in place before the old one ends",
    )
    yield together({"lifetime": "3h", "overlap": "2h"}, {"lifetime": "3h", "overlap": "2h1s"}, OVERLAP_TOO_LONG)
    yield together(
        {"lifetime": "3h", "renewBefore": "30m", "overlap": "150m"},
        {"lifetime": "3h", "renewBefore": "30m", "overlap": "151m"},
        OVERLAP_TOO_LONG,
    )
    # Without rotation nothing needs the other slot.
    yield together(
        {"lifetime": "3h", "overlap": "4h", "onExpiry": "Revoke"},
        {"lifetime": "3h", "overlap": "4h", "onExpiry": "Rotate"},
        OVERLAP_TOO_LONG,
    )


def _pull_secret() -> Iterator[Case]:
    secret = "spec.pullSecret"
    yield from string_cases("RegistryToken", f"{secret}.name", f"{secret}.name", 253, "a.b", "a_b", NAME)
    base = {secret: {"serviceAccounts": ["a"], "namespaces": ["a"]}}
    accounts = "a ServiceAccount is named by lower-case letters, digits, dashes and dots; * alone stands for all"
    for good, bad in (("*", "**"), ("a.b", "A"), ("default", "a*")):
        where = (f"{secret}.serviceAccounts[]", f"{secret}.serviceAccounts.0")
        yield from string_cases("RegistryToken", *where, 253, good, bad, accounts, base)
    where = (f"{secret}.namespaces[]", f"{secret}.namespaces.0")
    yield from string_cases("RegistryToken", *where, 63, "a-b", "a.b", NAMESPACE, base)
    for name in ("serviceAccounts", "namespaces"):
        at = f"pullSecret.{name}"
        yield case(f"{secret}.{name} maxItems", at, names(64), names(65), TOO_MANY.format(65, 64))
        same = DUPLICATE.format("a")
        yield case(f"{secret}.{name} set", at, ["a", "b"], ["a", "a"], same, field=f"spec.{at}.1")
    alone = "* stands for all ServiceAccounts of the namespace and must be the only entry"
    yield case(f"{secret}.serviceAccounts rule", "pullSecret.serviceAccounts", ["*"], ["*", "a"], alone)
    for name, values in (("whenRevoked", ("Keep", "Remove")), ("deletionPolicy", ("Delete", "Retain"))):
        for value in values:
            sentence = unsupported("Forget", *values)
            yield case(f"{secret}.{name} enum", f"pullSecret.{name}", value, "Forget", sentence)
