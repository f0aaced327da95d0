"""The replacement of a CA, cut off between any two calls and with the operator at work at the same time.

After every single write, whoever made it, the leaf in use and all whose access tokens may be about are accepted by
every registry that did what its people were told, and by one that starts at this moment.
"""

import base64
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from pullpass.controller.keys import replacement
from pullpass.controller.keys.storage import KeySecretError, encoded, files, pair_of
from pullpass.kube.client import Conflict
from pullpass.kube.resources import CONFIG_MAPS, SECRETS
from pullpass.signing.certificates import KeyPair, issued_by, new_ca, new_key
from pullpass.signing.replacement import GRACE, PROPAGATION_DELAY
from tests.unit.controller.fake_api import Body
from tests.unit.controller.keys.scene import NOW, Doing, Line, Scene, begin, run
from tests.unit.signing.authorities import given_ca

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
CALLS = 10
"""No command makes more calls than this."""

Disturbance = Callable[[Scene, Callable[[], Doing[Any]]], None]
"""Does a command on the scene to its end, with something in its way."""


def cut_off(after: int) -> Disturbance:
    """The command dies after so many calls, the operator looks, and people give the command again."""

    def do(scene: Scene, command: Callable[[], Doing[Any]]) -> None:
        first = command()
        if begin(first, after):
            return
        first.close()
        scene.operator()
        # It may have been done already.
        with suppress(KeySecretError):
            run(command())

    return do


def raced(before: int, meanwhile: int) -> Disturbance:
    """After some calls of the command the operator begins, and goes on when the command has ended."""

    def do(scene: Scene, command: Callable[[], Doing[Any]]) -> None:
        first, operator = command(), scene.operator_pass(Line(scene.api))
        ended = begin(first, before)
        passed = begin(operator, meanwhile)
        if not ended:
            run(first)
        if not passed:
            run(operator)

    return do


DISTURBANCES = [
    *(pytest.param(cut_off(after), id=f"cut-{after}") for after in range(CALLS)),
    *(
        pytest.param(raced(before, meanwhile), id=f"race-{before}-{meanwhile}")
        for before in range(CALLS)
        for meanwhile in range(1, 6)
    ),
]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacement, "PAUSE", 0)


@pytest.mark.parametrize("disturbance", DISTURBANCES)
def test_a_planned_replacement_in_order_never_stops_pulls(disturbance: Disturbance) -> None:
    scene = Scene()
    old = scene.ca
    disturbance(scene, scene.replace)
    assert scene.ca.certificate == old.certificate
    assert issued_by(scene.leaf.certificate, old.certificate)
    scene.pass_time(PROPAGATION_DELAY)
    scene.restart_replicas()
    disturbance(scene, scene.switch)
    new = scene.ca
    assert new.certificate != old.certificate
    assert issued_by(scene.leaf.certificate, new.certificate)
    assert set(scene.ca_secret["data"]) == {"tls.crt", "tls.key"}
    scene.restart_replicas()
    for _ in range(8):
        scene.pass_time(10 * MINUTE)
    assert scene.bundle == [new.certificate]
    scene.restart_replicas()
    assert "step none" in scene.lines()


@pytest.mark.parametrize("disturbance", DISTURBANCES)
def test_a_ca_that_people_put_there_is_switched_to_on_a_word(disturbance: Disturbance) -> None:
    scene = Scene()
    given = new_ca(NOW)
    scene.put_ca(given)
    disturbance(scene, lambda: scene.operator_pass(Line(scene.api)))
    scene.pass_time(PROPAGATION_DELAY)
    scene.restart_replicas()
    disturbance(scene, scene.switch)
    assert issued_by(scene.leaf.certificate, given.certificate)
    for _ in range(8):
        scene.pass_time(10 * MINUTE)
    assert scene.bundle == [given.certificate]


@pytest.mark.parametrize("disturbance", DISTURBANCES)
def test_a_leaked_ca_is_out_at_once(disturbance: Disturbance) -> None:
    scene = Scene()
    old = scene.ca
    scene.distrusting = True
    said = []

    async def replace() -> None:
        said.extend(await scene.replace(at_once=True))

    disturbance(scene, replace)
    assert "Pulls fail at every registry until it has loaded ConfigMap release/pullpass-trust" in said[-1]
    assert old.certificate not in scene.bundle
    assert scene.bundle == [scene.ca.certificate]
    assert issued_by(scene.leaf.certificate, scene.ca.certificate)
    before = scene.api.version
    scene.operator()
    assert scene.api.version == before


def test_at_once_drops_what_was_prepared() -> None:
    scene = Scene()
    run(scene.replace())
    _, prepared = scene.bundle
    scene.distrusting = True
    run(scene.replace(at_once=True))
    assert scene.bundle == [scene.ca.certificate]
    assert prepared != scene.ca.certificate
    assert set(scene.ca_secret["data"]) == {"tls.crt", "tls.key"}


def test_at_once_for_a_ca_that_people_put_there() -> None:
    scene = Scene()
    given = new_ca(NOW)
    scene.put_ca(given)
    scene.distrusting = True
    run(scene.switch(at_once=True))
    assert scene.bundle == [given.certificate]
    leaf = scene.leaf
    assert issued_by(leaf.certificate, given.certificate)
    run(scene.switch(at_once=True))
    assert scene.bundle == [given.certificate]
    assert scene.leaf.certificate == leaf.certificate


def test_without_a_word_a_ca_that_people_put_there_signs_after_its_time() -> None:
    scene = Scene()
    given = given_ca(NOW, new_key())
    scene.put_ca(given)
    scene.operator()
    scene.restart_replicas()
    scene.pass_time(GRACE - MINUTE)
    assert not issued_by(scene.leaf.certificate, given.certificate)
    scene.pass_time(MINUTE)
    assert issued_by(scene.leaf.certificate, given.certificate)


@pytest.mark.parametrize("early", [timedelta(0), PROPAGATION_DELAY - timedelta(seconds=1)])
def test_nothing_is_switched_before_registries_can_have_the_new_ca(early: timedelta) -> None:
    scene = Scene()
    run(scene.replace())
    scene.now += early
    version = scene.api.version
    with pytest.raises(KeySecretError, match=r"was published at 2027-03-01T12:00:00Z") as caught:
        run(scene.switch())
    assert "120 seconds after that" in str(caught.value)
    assert scene.api.version == version


def test_nothing_is_switched_to_that_is_not_published() -> None:
    scene = Scene()
    scene.put_ca(new_ca(NOW))
    version = scene.api.version
    with pytest.raises(KeySecretError, match="is not published yet; the operator publishes it within ten minutes"):
        run(scene.switch())
    assert scene.api.version == version


@pytest.mark.parametrize("turns", range(CALLS))
def test_no_other_ca_than_the_one_that_was_looked_at_is_switched_to(turns: int) -> None:
    scene = Scene()
    scene.put_ca(new_ca(NOW))
    scene.operator()
    scene.pass_time(PROPAGATION_DELAY)
    scene.restart_replicas()
    switching = scene.switch()
    if begin(switching, turns):
        return
    unknown = new_ca(NOW)
    scene.put_ca(unknown)
    with suppress(KeySecretError):
        run(switching)
    assert not issued_by(scene.leaf.certificate, unknown.certificate)


def with_a_prepared_ca(ends: timedelta = timedelta(days=40)) -> Scene:
    """Every registry has loaded the next CA; the one that signs is ours and ends soon."""
    scene = Scene()
    short = given_ca(NOW, new_key(), ends=NOW + ends)
    scene.api.edit(SECRETS, "release", "pullpass-ca", lambda body: body.update(data=encoded(files(short))))
    scene.operator()
    scene.pass_time(PROPAGATION_DELAY)
    scene.restart_replicas()
    run(scene.switch())
    scene.pass_time(2 * HOUR)
    run(scene.replace())
    scene.restart_replicas()
    scene.pass_time(PROPAGATION_DELAY)
    return scene


def next_of(scene: Scene) -> KeyPair:
    return pair_of(scene.ca_secret, "next.crt", "next.key")


def test_a_prepared_ca_takes_over_when_the_old_one_has_ended() -> None:
    scene = with_a_prepared_ca()
    coming = next_of(scene)
    scene.now = NOW + timedelta(days=40)
    scene.operator()
    assert issued_by(scene.leaf.certificate, coming.certificate)
    scene.look()
    before = scene.leaf
    run(scene.switch())
    assert scene.leaf.certificate == before.certificate
    assert scene.ca.certificate == coming.certificate
    assert set(scene.ca_secret["data"]) == {"tls.crt", "tls.key"}


def test_people_may_switch_to_a_prepared_ca_after_the_old_one_has_ended() -> None:
    scene = with_a_prepared_ca()
    coming = next_of(scene)
    scene.now = NOW + timedelta(days=40)
    run(scene.switch())
    assert scene.ca.certificate == coming.certificate
    assert issued_by(scene.leaf.certificate, coming.certificate)


def test_a_prepared_ca_waits_its_time_where_the_old_one_is_spoilt(caplog: pytest.LogCaptureFixture) -> None:
    scene = with_a_prepared_ca(timedelta(days=300))
    coming, before = next_of(scene), scene.leaf

    def spoil(body: Body) -> None:
        del body["data"]["tls.crt"]

    scene.api.edit(SECRETS, "release", "pullpass-ca", spoil)
    scene.operator()
    assert scene.leaf.certificate == before.certificate
    assert "the prepared one takes its place. To make that permanent: pullpass keys switch-ca" in caplog.text
    assert "step replaced" in scene.lines()
    scene.pass_time(GRACE)
    assert issued_by(scene.leaf.certificate, coming.certificate)
    # Preparing another writes it down as well.
    run(scene.replace())
    assert scene.ca.certificate == coming.certificate
    assert next_of(scene).certificate != coming.certificate


def test_there_must_be_something_to_switch_to() -> None:
    scene = Scene()
    version = scene.api.version
    with pytest.raises(KeySecretError, match="pullpass keys replace-ca --registry default"):
        run(scene.switch())
    assert scene.api.version == version


def test_preparing_again_prepares_nothing_else() -> None:
    scene = Scene()
    run(scene.replace())
    before = scene.api.version
    said = "\n".join(run(scene.replace()))
    assert scene.api.version == before
    assert "step prepared" in said


def test_a_prepared_ca_that_cannot_be_used_is_made_anew() -> None:
    scene = Scene()
    run(scene.replace())

    def spoil(body: Body) -> None:
        body["data"]["next.key"] = base64.b64encode(b"nothing").decode()

    scene.api.edit(SECRETS, "release", "pullpass-ca", spoil)
    assert "step leaving" in scene.lines() or "step none" in scene.lines()
    run(scene.replace())
    assert "step prepared" in scene.lines()
    assert "next.key" in scene.ca_secret["data"]


def test_nothing_is_prepared_while_another_replacement_is_under_way() -> None:
    scene = Scene()
    run(scene.replace())
    scene.now += PROPAGATION_DELAY
    switching = scene.switch()
    begin(switching, 4)
    switching.close()
    with pytest.raises(KeySecretError, match="run: pullpass keys switch-ca"):
        run(scene.replace())


@pytest.mark.parametrize("at_once", [False, True])
def test_a_ca_that_is_not_ours_is_never_written(at_once: bool) -> None:
    scene = Scene()
    scene.put_ca(new_ca(NOW))
    before = scene.api.version
    with pytest.raises(KeySecretError, match="Put the new CA there yourself"):
        run(scene.replace(at_once=at_once))
    assert scene.api.version == before


def test_a_leaf_is_renewed_while_the_next_ca_waits_for_months() -> None:
    scene = Scene()
    run(scene.replace())
    old, leaf = scene.ca, scene.leaf
    for _ in range(4):
        scene.pass_time(timedelta(days=31))
    assert scene.leaf.certificate != leaf.certificate
    assert issued_by(scene.leaf.certificate, old.certificate)
    assert len(scene.bundle) == 2
    scene.restart_replicas()
    run(scene.switch())
    assert not issued_by(scene.leaf.certificate, old.certificate)


def test_switching_before_registries_have_loaded_the_new_ca_is_what_stops_pulls() -> None:
    scene = Scene()
    run(scene.replace())
    scene.now += PROPAGATION_DELAY
    with pytest.raises(AssertionError, match="a registry refuses what is signed"):
        run(scene.switch())


def test_who_keeps_losing_against_the_operator_says_so_in_the_end() -> None:
    scene = Scene()
    place = ("secrets", "release", "pullpass-ca")
    scene.api.refusing["replace", place] = Conflict("changed", 409)
    with pytest.raises(Conflict):
        run(scene.replace())


def test_the_status_says_every_certificate_and_what_to_do() -> None:
    scene = Scene()
    said = scene.lines().splitlines()
    assert said[0] == "registry default"
    assert "signs, ends 2037-02-26, published since 2027-03-01T12:00:00Z" in said[1]
    assert said[2] == "  leaf  ends 2027-05-30, the next one is issued at 2027-04-30T11:40:00Z"
    assert said[3] == "  step none: one CA, which signs; nothing to do"
    run(scene.replace())
    said = scene.lines().splitlines()
    assert ["signs, " in said[1], "next, " in said[2]] == [True, True]
    assert said[4] == (
        "  step prepared: the next CA is published beside the one that signs. Have every registry load ConfigMap "
        "release/pullpass-trust (restart it), then run: pullpass keys switch-ca --registry default"
    )
    scene.restart_replicas()
    scene.now += PROPAGATION_DELAY
    run(scene.switch())
    said = scene.lines().splitlines()
    assert "signs, " in said[1]
    assert "leaving, " in said[2]
    assert "leaves at 2027-03-01T13:02:00Z" in said[2]
    assert "one CA signs; the last of the others leaves the bundle at 2027-03-01T13:02:00Z by itself" in said[4]
    scene.put_ca(new_ca(NOW))
    said = scene.lines().splitlines()
    assert "signs, " in said[1]
    assert "signs next, " in said[2]
    assert "not published yet" in said[2]
    assert "step replaced: " in said[-1]


def test_no_line_and_no_error_shows_a_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    scene = Scene()
    said = [*run(scene.replace()), scene.lines()]
    scene.restart_replicas()
    scene.now += PROPAGATION_DELAY
    secret = [text for key, text in scene.ca_secret["data"].items() if key.endswith(".key")]
    said += [*run(scene.switch()), scene.lines(), caplog.text]
    configmap = scene.api.objects[CONFIG_MAPS.plural, "release", "pullpass-trust"]
    for key in secret:
        assert key not in str(said) + str(configmap)
        body = base64.b64decode(key).decode().splitlines()[1]
        assert body not in str(said) + str(configmap)
