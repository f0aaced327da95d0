"""The constraints of a RegistryToken's status."""

from collections.abc import Iterator
from typing import Any

from .case import (
    DUPLICATE,
    REQUIRED,
    TOO_MANY,
    WHEN,
    Case,
    names,
    unsupported,
)


def status_cases() -> Iterator[Case]:
    """Every constraint of what the operator writes into a RegistryToken."""

    def case(constraint: str, at: str, good: Any, bad: Any, sentence: str, **more: Any) -> Case:
        return Case("RegistryToken", f"status.{constraint}", f"status.{at}", good, bad, sentence, **more)

    slot = {"slot": "password1", "id": "4f9c1e", "createdAt": WHEN, "state": "Active"}
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "",
        "lastTransitionTime": WHEN,
    }
    base = {"status": {"passwords": [slot], "conditions": [condition]}}
    date_time = 'must be of type date-time: "soon"'
    yield case("username maxLength", "username", "a" * 317, "a" * 318, "Too long: may not be more than 317")
    for name in ("lastHandledRotateRequest", "lastHandledRegenerateRequest"):
        yield case(f"{name} maxLength", name, "ä" * 64, "a" * 65, "Too long: may not be more than 64")
    for name in ("accessEndsAt", "nextTransitionTime"):
        yield case(f"{name} format", name, WHEN, "soon", date_time)
        yield case(f"{name} maxLength", name, WHEN, "2" * 41, "Too long: may not be more than 40")
    yield case("observedGeneration format", "observedGeneration", 2**40, 2**80, "int64")
    values = ("Rotate", "Retire", "Expire")
    for value in values:
        sentence = unsupported("Stop", *values)
        yield case("nextTransition enum", "nextTransition", value, "Stop", sentence)

    both = [slot, {**slot, "slot": "password2"}]
    yield case("passwords maxItems", "passwords", both, [*both, slot], TOO_MANY.format(3, 2))
    same = DUPLICATE.format("").removesuffix('""')
    yield case("passwords map", "passwords", both, [slot, slot], same, field="status.passwords.1")
    for name, value in slot.items():
        at = f"passwords.0.{name}"
        yield case(f"passwords[] required {name}", at, value, None, REQUIRED, base=base)
    for name, choices in (
        ("slot", ["password1", "password2"]),
        ("state", ["Pending", "Active", "Retiring", "Expired", "Revoked"]),
    ):
        for value in choices:
            sentence = unsupported("x", *choices)
            yield case(f"passwords[].{name} enum", f"passwords.0.{name}", value, "x", sentence, base=base)
    limit = "Too long: may not be more than {}"
    yield case("passwords[].id maxLength", "passwords.0.id", "a" * 16, "a" * 17, limit.format(16), base=base)
    for name in ("createdAt", "expiresAt", "validUntil"):
        at = f"passwords.0.{name}"
        yield case(f"passwords[].{name} format", at, WHEN, "soon", date_time, base=base)
        yield case(f"passwords[].{name} maxLength", at, WHEN, "2" * 41, limit.format(40), base=base)

    many = [{**condition, "type": name} for name in names(17)]
    yield case("conditions maxItems", "conditions", many[:16], many, TOO_MANY.format(17, 16))
    yield case("conditions map", "conditions", many[:2], [many[0]] * 2, same, field="status.conditions.1")
    for name, value in condition.items():
        at = f"conditions.0.{name}"
        yield case(f"conditions[] required {name}", at, value, None, REQUIRED, base=base)
    for name, least, most in (("type", 0, 316), ("reason", 1, 1024), ("message", 0, 32768)):
        at = f"conditions.0.{name}"
        too_long = limit.format(most)
        yield case(f"conditions[].{name} maxLength", at, "a" * most, "a" * (most + 1), too_long, base=base)
        if least:
            yield case(f"conditions[].{name} minLength", at, "a", "", "should be at least 1 chars long", base=base)
    for value in ("True", "False", "Unknown"):
        sentence = unsupported("yes", "True", "False", "Unknown")
        yield case("conditions[].status enum", "conditions.0.status", value, "yes", sentence, base=base)
    at = "conditions.0.lastTransitionTime"
    yield case("conditions[].lastTransitionTime format", at, WHEN, "soon", date_time, base=base)
    yield case("conditions[].lastTransitionTime maxLength", at, WHEN, "2" * 41, limit.format(40), base=base)
    at = "conditions.0.observedGeneration"
    yield case("conditions[].observedGeneration format", at, 2**40, 2**80, "int64", base=base)
