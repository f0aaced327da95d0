"""Times and durations as the Kubernetes API writes them. All times are UTC, in whole seconds."""

import re
from datetime import UTC, datetime, timedelta

DURATION_PATTERN = "^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$"
"""Hours, minutes, seconds; so few digits that no sum of them overflows the nanoseconds in which others count."""
TIME_PATTERN = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
_DURATION = re.compile(DURATION_PATTERN)
_TIME = re.compile(TIME_PATTERN)


def utcnow() -> datetime:
    """The wall clock: the one clock of everything that has a date."""
    return datetime.now(UTC)


def parse_duration(text: object) -> timedelta:
    """`720h`, `1h30m`, `45s` as a timedelta. Raises ValueError for anything else."""
    if isinstance(text, timedelta):
        return text
    match = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 720h, 1h30m or 45s")
    hours, minutes, seconds = (int(part[:-1]) if part else 0 for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """The inverse of parse_duration, in hours, minutes and seconds."""
    seconds = int(duration.total_seconds())
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if n]
    return "".join(parts) or "0s"


def parse_time(text: object) -> datetime:
    """An RFC 3339 time as UTC, fractions dropped. Raises ValueError for anything else."""
    if isinstance(text, datetime) and text.tzinfo is not None:
        return text.astimezone(UTC).replace(microsecond=0)
    if not isinstance(text, str) or _TIME.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time such as 2027-03-31T22:00:00Z")
    try:
        return datetime.fromisoformat(re.sub(r"\.[0-9]+", "", text)).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is out of range: years are 1 to 9999, in UTC") from None


def format_time(time: datetime) -> str:
    """RFC 3339 in UTC with seconds, the form of metav1.Time."""
    return time.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
