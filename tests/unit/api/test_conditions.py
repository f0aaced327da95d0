from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.api.conditions import PASSWORDS_VALID, READY, Condition, Finding, Reason, Status, to_conditions
from pullpass.api.times import format_time

NOW = datetime(2027, 1, 1, 12, tzinfo=UTC)
EARLIER = "2026-12-31T00:00:00Z"


def ready(status: Status, reason: Reason = Reason.READY, message: str = "as it should be") -> Finding:
    return Finding(READY, status, reason, message)


def before(status: str, **more: Any) -> dict[str, Any]:
    return {
        "type": READY,
        "status": status,
        "reason": "Ready",
        "message": "",
        "lastTransitionTime": EARLIER,
        **more,
    }


def test_a_condition_has_all_that_a_condition_has_to_have() -> None:
    (condition,) = to_conditions([ready("True")], [], generation=7, now=NOW)
    assert condition == {
        "type": "Ready",
        "status": "True",
        "observedGeneration": 7,
        "lastTransitionTime": "2027-01-01T12:00:00Z",
        "reason": "Ready",
        "message": "as it should be",
    }
    assert Condition.model_validate(condition).last_transition_time == NOW


@pytest.mark.parametrize("old", ["True", "False", "Unknown"])
@pytest.mark.parametrize("new", ["True", "False", "Unknown"])
def test_the_time_moves_with_the_status_and_with_nothing_else(old: str, new: Status) -> None:
    finding = ready(new, Reason.TOKEN_DISABLED, "other words")
    (condition,) = to_conditions([finding], [before(old, observedGeneration=1)], generation=2, now=NOW)
    assert condition["lastTransitionTime"] == (EARLIER if old == new else format_time(NOW))
    assert (condition["reason"], condition["message"]) == ("TokenDisabled", "other words")
    assert condition["observedGeneration"] == 2


def test_a_condition_of_another_type_lends_no_time() -> None:
    (condition,) = to_conditions([ready("True")], [before("True", type=PASSWORDS_VALID)], generation=1, now=NOW)
    assert condition["lastTransitionTime"] == format_time(NOW)


def test_a_time_that_is_missing_is_made_anew() -> None:
    (condition,) = to_conditions([ready("True")], [before("True", lastTransitionTime=None)], generation=1, now=NOW)
    assert condition["lastTransitionTime"] == format_time(NOW)


def test_a_condition_that_no_longer_holds_goes() -> None:
    stalled = before("True", type="Stalled")
    assert [c["type"] for c in to_conditions([ready("True")], [stalled], generation=1, now=NOW)] == ["Ready"]


STATUSES: st.SearchStrategy[Status] = st.sampled_from(["True", "False", "Unknown"])


@given(st.lists(st.tuples(STATUSES, st.sampled_from(Reason)), min_size=1))
def test_over_any_history_the_time_is_that_of_the_last_change(history: list[tuple[Status, Reason]]) -> None:
    conditions: list[dict[str, Any]] = []
    changed, last = NOW, None
    for minute, (status, reason) in enumerate(history):
        now = NOW.replace(hour=minute // 60 % 24, minute=minute % 60)
        if status != last:
            changed, last = now, status
        conditions = to_conditions([ready(status, reason)], conditions, generation=1, now=now)
        assert conditions[0]["lastTransitionTime"] == format_time(changed)


def test_settled_findings_make_the_same_conditions_again() -> None:
    first = to_conditions([ready("True"), Finding(PASSWORDS_VALID, "False", Reason.NO_PASSWORD, "none")], [], 1, NOW)
    later = NOW.replace(year=2028)
    again = [ready("True"), Finding(PASSWORDS_VALID, "False", Reason.NO_PASSWORD, "none")]
    assert to_conditions(again, first, 1, later) == first
