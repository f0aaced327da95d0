"""What of the metrics alerts depend on."""

from typing import get_args

import pytest
from prometheus_client import REGISTRY

import pullpass.controller.metrics  # noqa: F401 - makes them
from pullpass.controller.queue import Kind


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("outcome", ["failed", "defect"])
def test_what_goes_wrong_is_counted_from_0_so_that_the_first_time_is_an_increase(kind: str, outcome: str) -> None:
    told = {"kind": kind, "outcome": outcome}
    assert REGISTRY.get_sample_value("pullpass_operator_reconciles_total", told) is not None
