"""CAs are replaced in every way and order, by commands, by people and by time, cut off anywhere: pulls never stop.

People do as they are told: they switch, and let a date pass at which the operator does, once every registry has loaded
the new CA. Everything else may happen at any time: registries start again, the operator is away for weeks.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pullpass.controller.keys import replacement
from pullpass.controller.keys.storage import KeySecretError
from pullpass.signing.certificates import new_ca, same_authority
from pullpass.signing.replacement import PROPAGATION_DELAY, ReplacementStep
from tests.unit.controller.keys.scene import Doing, Line, Scene, begin, run
from tests.unit.signing.authorities import given_ca

MORE = int(os.environ.get("PULLPASS_FAULTS", "0"))
CALLS = st.one_of(st.none(), st.integers(0, 10))
"""After how many calls something is cut off; None: not at all."""
TIMES = st.sampled_from(
    [PROPAGATION_DELAY, timedelta(minutes=10), timedelta(hours=1), timedelta(days=8), timedelta(days=20)]
)


class Replacements(RuleBasedStateMachine):
    """The machine."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene()

    def do(self, doing: Doing[Any], calls: int | None) -> None:
        with suppress(KeySecretError):
            if calls is None:
                run(doing)
            else:
                begin(doing, calls)
        doing.close()

    @rule(calls=CALLS)
    def operator(self, calls: int | None) -> None:
        self.do(self.scene.operator_pass(Line(self.scene.api)), calls)

    @rule(calls=CALLS)
    def replace(self, calls: int | None) -> None:
        self.do(self.scene.replace(), calls)

    def everybody_has_what_comes(self) -> bool:
        """Whether each registry has loaded the CA that signs next."""
        if ("secrets", "release", "pullpass-ca") not in self.scene.api.objects:
            return True
        state = self.scene.state
        coming = state.ca if state.step is ReplacementStep.REPLACED or not state.next else state.next
        return all(any(same_authority(coming.certificate, ca) for ca in one) for one in self.scene.replicas)

    @precondition(everybody_has_what_comes)
    @rule(calls=CALLS)
    def switch(self, calls: int | None) -> None:
        self.do(self.scene.switch(), calls)

    @rule()
    def somebody_puts_a_ca_there(self) -> None:
        self.scene.put_ca(new_ca(self.scene.now))

    @rule()
    def somebody_renews_the_ca_over_its_key(self) -> None:
        if ("secrets", "release", "pullpass-ca") in self.scene.api.objects:
            now, ca = self.scene.now, self.scene.ca
            (name,) = ca.certificate.subject
            self.scene.put_ca(given_ca(now, ca.key, name=str(name.value), ends=now + timedelta(days=3650)))

    @rule()
    def somebody_deletes_the_ca(self) -> None:
        with suppress(KeyError):
            self.scene.delete_ca()

    @rule(number=st.integers(0, 1))
    def a_registry_starts_again(self, number: int) -> None:
        self.scene.replicas[number] = self.scene.bundle

    @rule(time=TIMES)
    def time_passes(self, time: timedelta) -> None:
        self.scene.operator()
        if self.scene.now + time >= self.scene.state.leaf_due(self.scene.now) and not self.everybody_has_what_comes():
            self.scene.restart_replicas()
        self.scene.pass_time(time)

    @invariant()
    def nobody_is_refused(self) -> None:
        self.scene.look()

    def teardown(self) -> None:
        self.scene.operator()
        self.scene.restart_replicas()
        if self.scene.state.step in (ReplacementStep.PREPARED, ReplacementStep.REPLACED):
            self.scene.pass_time(PROPAGATION_DELAY)
            run(self.scene.switch())
        self.scene.pass_time(timedelta(hours=1))
        assert self.scene.state.step is ReplacementStep.NONE
        assert self.scene.bundle == [self.scene.ca.certificate]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacement, "PAUSE", 0)


TestReplacements: Callable[..., Any] = Replacements.TestCase
TestReplacements.settings = settings(  # type: ignore[attr-defined]
    max_examples=MORE or 60,
    stateful_step_count=30,
    deadline=None,
    derandomize=not MORE,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
