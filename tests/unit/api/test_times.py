from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.api.times import format_duration, format_time, parse_duration, parse_time, utcnow

SECONDS = st.integers(0, 999_999 * 3600).map(lambda seconds: timedelta(seconds=seconds))
ZONES = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(SECONDS)
def test_a_duration_survives_being_written(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))
def test_a_time_survives_being_written_in_whole_seconds(time: datetime) -> None:
    time = time.replace(tzinfo=UTC)
    assert parse_time(format_time(time)) == time.replace(microsecond=0)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2999, 12, 31)), ZONES)
def test_a_zone_changes_how_a_time_is_written_and_not_when_it_is(time: datetime, zone: timezone) -> None:
    local = time.replace(tzinfo=zone, microsecond=0)
    assert parse_time(local.isoformat()) == local
    assert parse_time(local) == local
    assert parse_time(local.isoformat()).tzinfo is UTC
    assert parse_time(format_time(local)) == local


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("720h", 2_592_000), ("1h30m", 5400), ("45s", 45), ("90m", 5400), ("0s", 0), ("1h1m1s", 3661), ("1h1s", 3601)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "h", "1", "1d", "1.5h", "-1h", "+1h", "1h 1m", "1m1h", "1h1h", "1H", "1h\n", "１h", "1000000h", 3600, None],  # noqa: RUF001
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-03-31T22:00:00Z", "2027-03-31T22:00:00Z"),
        ("2027-03-31T22:00:00.999999999Z", "2027-03-31T22:00:00Z"),
        ("2027-03-31T22:00:00+02:00", "2027-03-31T20:00:00Z"),
        ("2027-12-31T23:30:00-01:00", "2028-01-01T00:30:00Z"),
        ("2028-02-29T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
    ],
)
def test_times(text: str, expected: str) -> None:
    assert format_time(parse_time(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2027-03-31",
        "2027-03-31T22:00Z",
        "2027-03-31T22:00:00",
        "2027-03-31 22:00:00Z",
        "2027-03-31t22:00:00z",
        "2027-03-31T22:00:00Z\n",
        "2027-03-31T22:00:00,5Z",
        "2027-03-31T22:00:00.Z",
        "2027-03-31T22:00:00+24:00",
        "2027-03-31T22:00:00+0200",
        "2027-03-31T24:00:00Z",
        "2027-03-31T23:59:60Z",
        "2027-02-29T00:00:00Z",
        "2027-13-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        datetime(2027, 3, 31),
        1_800_000_000,
        None,
    ],
)
def test_what_is_no_time(text: object) -> None:
    with pytest.raises(ValueError):
        parse_time(text)


def test_the_clock_is_that_of_the_machine_in_utc() -> None:
    before, now, after = datetime.now(UTC), utcnow(), datetime.now(UTC)
    assert before <= now <= after
    assert now.utcoffset() == timedelta(0)
