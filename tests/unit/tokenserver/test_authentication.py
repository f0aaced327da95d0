"""Who is let in, and how much hashing it costs."""

import asyncio
from datetime import timedelta

import pytest

from pullpass.credentials import hashing
from pullpass.tokenserver.authentication import Authenticator
from pullpass.tokenserver.bcrypt_pool import Checks
from pullpass.tokenserver.errors import BusyError, UnauthenticatedError
from tests.unit.tokenserver.world import COST, START, World, password


class Gate:
    """Authentication over a world, with its count of bcrypt checks."""

    def __init__(self, **sizes: int) -> None:
        self.world = World()
        self.checks = Checks(hashing.dummy_hash(COST), threads=2)
        self.authenticator = Authenticator(self.world.cache, self.checks, None, **sizes)

    async def login(self, text: str, user: str = "web.reader") -> str:
        """`ok`, or the reason of the refusal."""
        try:
            identity = await self.authenticator.authenticate(user, text)
        except UnauthenticatedError as error:
            return error.reason
        assert identity.token.uid == "uid-1"
        return "ok"


GOOD = password().text


async def test_a_published_password_is_accepted_with_one_check() -> None:
    gate = Gate()
    assert [await gate.login(GOOD) for _ in range(5)] == ["ok"] * 5
    assert gate.checks.count == 1
    assert gate.authenticator.hits == 4


@pytest.mark.parametrize(
    ("user", "text", "reason"),
    [
        ("web.reader", password("uid-2", "aaaaaa").text, "wrong password"),
        ("web.reader", password(id_="bbbbbb").text, "no such password"),
        ("web.other", GOOD, "unknown user"),
        ("nobody", GOOD, "unknown user"),
        ("", GOOD, "unknown user"),
        ("web.reader\0", GOOD, "unknown user"),
        ("wéb.reader\ud800", GOOD, "unknown user"),
    ],
)
async def test_whatever_fails_costs_one_check_and_then_none(user: str, text: str, reason: str) -> None:
    gate = Gate()
    assert await gate.login(text, user) == reason
    assert gate.checks.count == 1
    assert await gate.login(text, user) == reason
    assert gate.checks.count == 1


@pytest.mark.parametrize("text", ["", "secret", GOOD[:-1], GOOD + "a", GOOD.upper(), "x" * 100, "pullpass_ä"])
async def test_malformed_passwords_are_refused_before_any_hashing(text: str) -> None:
    gate = Gate()
    assert await gate.login(text) == "malformed password"
    assert gate.checks.count == 0


async def test_a_typing_error_is_caught_by_the_checksum() -> None:
    gate = Gate()
    wrong = GOOD[:20] + ("a" if GOOD[20] != "a" else "b") + GOOD[21:]
    assert await gate.login(wrong) == "malformed password"
    assert gate.checks.count == 0


async def test_both_slots_are_accepted() -> None:
    gate = Gate()
    gate.world.record(ids=("aaaaaa", "bbbbbb"))
    assert await gate.login(GOOD) == "ok"
    assert await gate.login(password(id_="bbbbbb").text) == "ok"
    assert gate.checks.count == 2


async def test_concurrent_logins_of_one_credential_share_a_check() -> None:
    gate = Gate()
    assert set(await asyncio.gather(*(gate.login(GOOD) for _ in range(50)))) == {"ok"}
    assert gate.checks.count == 1


async def test_a_login_that_is_given_up_does_not_break_those_that_share_its_check() -> None:
    gate = Gate()
    first = asyncio.create_task(gate.login(GOOD))
    second = asyncio.create_task(gate.login(GOOD))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "ok"
    assert gate.checks.count == 1


async def test_a_new_version_of_the_record_is_checked_anew() -> None:
    gate = Gate()
    await gate.login(GOOD)
    gate.world.record()
    assert await gate.login(GOOD) == "ok"
    assert gate.checks.count == 2


async def test_a_password_removed_from_the_record_is_refused_although_it_was_verified() -> None:
    gate = Gate()
    assert await gate.login(GOOD) == "ok"
    gate.world.record(ids=("bbbbbb",))
    assert await gate.login(GOOD) == "no such password"


async def test_a_refusal_is_forgotten_once_the_record_has_the_password() -> None:
    gate = Gate()
    new = password(id_="bbbbbb").text
    assert await gate.login(new) == "no such password"
    gate.world.record(ids=("aaaaaa", "bbbbbb"))
    assert await gate.login(new) == "ok"


async def test_a_refusal_is_forgotten_once_the_user_exists() -> None:
    gate = Gate()
    gate.world.cache.on_token("DELETED", {"metadata": {"name": "reader", "namespace": "web", "uid": "uid-1"}})
    assert await gate.login(GOOD) == "unknown user"
    gate.world.token()
    assert await gate.login(GOOD) == "ok"


async def test_a_token_made_anew_under_the_same_name_does_not_accept_the_old_password() -> None:
    gate = Gate()
    assert await gate.login(GOOD) == "ok"
    gate.world.token(uid="uid-2")
    assert await gate.login(GOOD) == "no such password"
    gate.world.record(uid="uid-2")
    assert await gate.login(GOOD) == "wrong password"


async def test_a_record_rewritten_during_the_check_still_lets_its_password_in() -> None:
    gate = Gate()
    login = asyncio.create_task(gate.login(GOOD))
    await asyncio.sleep(0)
    gate.world.record(ids=("bbbbbb", "aaaaaa"))
    assert await login == "ok"


async def test_a_password_removed_during_the_check_is_refused() -> None:
    gate = Gate()
    login = asyncio.create_task(gate.login(GOOD))
    await asyncio.sleep(0)
    gate.world.record(ids=("bbbbbb",))
    assert await login == "no such password"


async def test_what_is_remembered_is_bounded() -> None:
    gate = Gate(good=1, bad=2)
    for n in range(4):
        await gate.login(password(id_=f"00000{n}").text)
    assert gate.checks.count == 4
    await gate.login(password(id_="000003").text)
    assert gate.checks.count == 4
    await gate.login(password(id_="000000").text)
    assert gate.checks.count == 5


async def test_refusals_do_not_push_out_what_was_verified() -> None:
    gate = Gate(good=1, bad=1)
    await gate.login(GOOD)
    for n in range(4):
        await gate.login(password(id_=f"00000{n}").text)
    before = gate.checks.count
    assert await gate.login(GOOD) == "ok"
    assert gate.checks.count == before


async def test_a_flood_of_guesses_is_told_to_wait_and_a_good_first_login_is_not() -> None:
    gate = Gate()
    flood = [asyncio.create_task(gate.login(password(id_=f"{n:06x}").text)) for n in range(500)]
    await asyncio.sleep(0)
    assert await gate.login(GOOD) == "ok"
    outcomes = await asyncio.gather(*flood, return_exceptions=True)
    assert any(isinstance(outcome, BusyError) for outcome in outcomes)
    assert {outcome for outcome in outcomes if isinstance(outcome, str)} == {"no such password"}


async def test_a_flood_on_one_known_password_id_leaves_room_for_the_other_tokens() -> None:
    gate = Gate()
    gate.world.record(ids=("aaaaaa", "bbbbbb"))
    guesses = [password(f"other-{n}", "aaaaaa").text for n in range(500)]
    flood = [asyncio.create_task(gate.login(guess)) for guess in guesses]
    await asyncio.sleep(0)
    assert await gate.login(password(id_="bbbbbb").text) == "ok"
    outcomes = await asyncio.gather(*flood, return_exceptions=True)
    assert any(isinstance(outcome, BusyError) for outcome in outcomes)


async def test_authentication_asks_no_clock() -> None:
    gate = Gate()
    gate.world.record(expires_at=START - timedelta(days=1))
    assert await gate.login(GOOD) == "ok"
