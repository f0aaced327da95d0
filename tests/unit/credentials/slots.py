"""Slots, records and specs for the rotation decision, by their ages and by what is left of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pullpass.api.registrytoken import RegistryTokenSpec
from pullpass.credentials.record import Record, Requests, Slot

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
M, H, S = timedelta(minutes=1), timedelta(hours=1), timedelta(seconds=1)
NEVER = timedelta(days=100_000)


def spec(expires: datetime | None = None, **passwords: Any) -> RegistryTokenSpec:
    body: dict[str, Any] = {"scopeMapRef": {"name": "demo"}, "passwords": passwords}
    return RegistryTokenSpec.model_validate(body | ({"expiresAt": expires} if expires else {}))


def slot(
    age: timedelta,
    left: timedelta | None = None,
    until: timedelta | None = None,
    seed: str = "seed",
    **asked: str,
) -> Slot:
    """A slot by its age, the time left by its dates, the time until its overlap is over, and what was asked for."""
    return Slot(
        id=f"{int(age.total_seconds()):06x}",
        nonce="nonce",
        seed=seed,
        hash="hash",
        created_at=NOW - age,
        expires_at=None if left is None else NOW + left,
        valid_until=None if until is None else NOW + until,
        requests=Requests(**asked),
    )


def record(one: Slot | None = None, two: Slot | None = None, at: Any = "password1") -> Record:
    slots: dict[Any, Slot] = {}
    if one is not None:
        slots["password1"] = one
    if two is not None:
        slots["password2"] = two
    return Record("uid", "web", "reader", slots, at if at in slots else None)


# 3h: replaced after 2h by default, 30m in advance of that at the latest where an overlap holds the other slot.
ROTATE = spec(lifetime="3h")
REVOKE = spec(lifetime="3h", onExpiry="Revoke")
FOREVER = spec()

FRESH = slot(H, 2 * H)
PENDING = slot(M, 179 * M)
