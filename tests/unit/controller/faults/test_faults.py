"""Hypothesis lets everything happen at once, and the promises of the design hold at each moment.

The real operator (cache, work queue, workers, reconciler, sweep, resync, signing keys) and the real cache,
authentication and authorization of the token server run over an API server in memory. Every call to it can fail in
every way, or be the last of its process; watches lag, repeat themselves and are cut; clocks jump; two operators live
at a time; replicas fall behind; and people change their minds. Time is made by the test, so nothing sleeps.

`make test` runs the same examples each time. To look for more, with others in each run:

    PULLPASS_FAULTS=2000 python -m pytest tests/unit/controller/faults

A failure prints the steps that lead to it, and a line `@reproduce_failure(...)` to put over the class.
"""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.unit.controller.faults import people
from tests.unit.controller.faults.line import FAULTS
from tests.unit.controller.faults.operators import KINDS, Operator
from tests.unit.controller.faults.people import People
from tests.unit.controller.faults.scene import Scene
from tests.unit.controller.faults.settled import settle

MORE = int(os.environ.get("PULLPASS_FAULTS", "0"))
numbers = st.integers(0, 7)
kinds = st.sampled_from(KINDS)
Turn = tuple[int, int, bool, str | None]
turns = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 9), st.booleans(), st.sampled_from((None, *sorted(FAULTS)))),
    min_size=1,
    max_size=6,
)
"""Which operator; how many of its calls go on; whether they are those of one worker or of each in turn; and what
becomes of the last of them.
"""


class Faults(RuleBasedStateMachine):
    """The machine. Its steps are small, so that a failure can be read as a story."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene()
        self.people = People(self.scene)
        self.failed = False

    @initialize(first=people.first_tokens, calm=st.sampled_from((True, True, False)))
    def begin(self, first: list[tuple[people.Token, list[tuple[str, Any]]]], calm: bool) -> None:
        for token, changes in [(people.TOKENS[0], []), *first]:
            self.people.make_token(token, changes)
        for _ in range(2):
            self.scene.start_replica()
        self.scene.start_operator()
        if calm:
            self.scene.flow()

    # people

    @rule(act=people.token_acts)
    def token(self, act: tuple[Any, ...]) -> None:
        self.people.do(act)

    @rule(act=people.platform_acts)
    def platform(self, act: tuple[Any, ...]) -> None:
        self.people.do(act)

    @rule(act=people.meddling)
    def meddle(self, act: tuple[Any, ...]) -> None:
        self.people.do(act)

    # clocks

    @rule(seconds=st.sampled_from((1, 20, 700, 3600, 7300)))
    def wait(self, seconds: int) -> None:
        self.scene.forward(seconds)

    @rule(seconds=st.sampled_from((-86400 * 3, -3600, -90, 90, 3600, 86400 * 3)))
    def jump(self, seconds: int) -> None:
        self.scene.jump(seconds)

    # the operator

    @rule(turns=turns)
    def rotate(self, turns: list[Turn]) -> None:
        """A rotation is due, and goes as far as it gets."""
        self.scene.forward(601)
        self.work(turns, True)

    @rule(turns=turns, due=st.booleans())
    def race(self, turns: list[Turn], due: bool) -> None:
        """Two operators that know all begin the same work, and each hears only what it does itself."""
        self._second()
        self.scene.forward(601 if due else 15)
        self.work(turns, False)

    @rule(
        calls=st.integers(0, 16),
        waits=st.lists(st.sampled_from((0, 601, 3601)), min_size=1, max_size=2),
        more=st.integers(0, 8),
    )
    def stall(self, calls: int, waits: list[int], more: int) -> None:
        """An operator stands still in the middle of a rotation, and another does all the work meanwhile. Then the first
        one goes on, with what it knew before.
        """
        second = self._second()
        first = self.scene.operators[0]
        self.scene.forward(601)
        self._go_on(first, calls)
        for seconds in waits:
            self.scene.forward(seconds)
            self.scene.flow(second)
        self._go_on(first, more)

    def _go_on(self, operator: Operator, calls: int) -> None:
        for _ in range(calls):
            if operator.line.waiting:
                operator.answer(0)
        self.scene.restart_ended()

    def _second(self) -> Operator:
        self.scene.end_operators(but=1)
        self.scene.operators[0].hear_all()
        self.scene.start_operator()
        second = self.scene.operators[1]
        while second.line.waiting and not second.begun:
            second.answer(0)
        return second

    @rule(turns=turns, attentive=st.booleans())
    def work(self, turns: list[Turn], attentive: bool) -> None:
        """Operators get answers to so many calls in turn; the last one of each turn may go wrong. Where they are
        attentive, they and the token servers hear of everything at once.
        """
        for which, calls, alone, fault in turns:
            for number in range(calls):
                operator = self.scene.operators[which % len(self.scene.operators)]
                if attentive:
                    self._operator(which, Operator.hear_all)
                    self.scene.catch_up(*self.scene.replicas)
                if operator.line.waiting:
                    # The call that waits longest, or the last one, which is the next of the worker that went on last.
                    operator.answer(
                        -1 if alone and number else 0,
                        FAULTS[fault] if fault is not None and number == calls - 1 else None,
                    )
                    self.scene.restart_ended()

    @rule(which=numbers, calls=st.integers(0, 30), effect=st.booleans())
    def kill(self, which: int, calls: int, effect: bool) -> None:
        """A process ends before or after one of its calls arrives, and another one starts."""
        operators = self.scene.operators
        operator = operators.pop(which % len(operators))
        for _ in range(calls):
            if operator.line.waiting:
                operator.answer(0)
        operator.kill(operator.line.waiting[0] if effect and operator.line.waiting else None)
        self.scene.start_operator()

    @rule(two=st.booleans())
    def lead(self, two: bool) -> None:
        """Another process leads, and the old one has not noticed yet; or it notices, and ends."""
        if not two:
            self.scene.end_operators(but=1)
        elif len(self.scene.operators) < 2:
            self.scene.start_operator()

    @rule(which=numbers, kind=kinds, count=st.integers(1, 5))
    def hear(self, which: int, kind: str, count: int) -> None:
        self._operator(which, lambda operator: operator.watches[kind].hear(count))

    @rule(which=numbers, kind=kinds, back=st.none() | numbers)
    def mishear(self, which: int, kind: str, back: int | None) -> None:
        """Something is heard once more; or the watch is cut, and what was not heard yet is lost."""
        self._operator(
            which,
            lambda operator: operator.watches[kind].list() if back is None else operator.watches[kind].hear_again(back),
        )

    def _operator(self, which: int, act: Callable[[Operator], object]) -> None:
        act(self.scene.operators[which % len(self.scene.operators)])
        self.scene.loop.run()

    # token servers

    @rule(which=numbers, kind=st.none() | kinds, count=st.integers(1, 5))
    def replica_hears(self, which: int, kind: str | None, count: int) -> None:
        """A replica hears the next of one kind, or everything."""
        replica = self.scene.replicas[which % len(self.scene.replicas)]
        if kind is None:
            self.scene.catch_up(replica)
        elif kind in replica.watches:
            for _ in range(count):
                replica.watches[kind].hear(1)
                self.scene.promises.look_at(replica)

    @rule(which=numbers)
    def replica_restarts(self, which: int) -> None:
        self.scene.replicas.pop(which % len(self.scene.replicas))
        self.scene.publish_replicas()
        self.scene.start_replica()

    @rule()
    def collect_garbage(self) -> None:
        self.scene.collect_garbage()

    # calm

    @rule()
    def flow(self) -> None:
        """For once nothing fails or lags."""
        self.scene.flow()

    @rule(policies=st.booleans())
    def settle(self, policies: bool) -> None:
        """Everything is as it should be in the end."""
        settle(self.scene, policies=policies)

    @invariant()
    def promises_hold(self) -> None:
        self.failed = True
        self.scene.promises.look()
        self.failed = False

    def teardown(self) -> None:
        try:
            if not self.failed:
                settle(self.scene)
                if self.scene.texts:
                    self.scene.assert_secret("".join(self.scene.log.lines))
        finally:
            self.scene.close()


TestFaults = Faults.TestCase
TestFaults.settings = settings(
    max_examples=MORE or 60,
    stateful_step_count=50,
    deadline=None,
    derandomize=not MORE,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
