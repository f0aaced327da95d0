"""One audit line for each decision, also under a flood, and none that a client has written."""

import json
from datetime import timedelta
from typing import Any

import pytest

from pullpass.tokenserver import audit
from tests.contract.wearing.served import GOOD, USER, Served, get, stray


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """All audit lines so far."""
    return [json.loads(record.getMessage()) for record in caplog.records if record.name == "pullpass.audit"]


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pullpass.audit")


async def test_a_line_says_who_what_from_where_and_why(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    await served.ask(get(USER, GOOD, "scope=repository:demo/nginx:pull,push", User_Agent="containerd/2.1"))
    await served.ask(get(USER, stray(11), "scope=repository:demo/nginx:pull", User_Agent="containerd/2.1"))
    granted, refused = lines(caplog)
    assert granted.pop("jti")
    common = {"user": USER, "remote": "127.0.0.1", "client": "containerd/2.1"}
    common |= {"registry": "default", "service": "registry"}
    assert granted == common | {
        "decision": "reduced",
        "asked": "repository:demo/nginx:pull,push",
        "granted": "repository:demo/nginx:pull",
        "password": "aaaaaa",
    }
    assert refused == common | {
        "decision": "refused",
        "asked": "repository:demo/nginx:pull",
        "password": "00000b",
        "outcome": "unauthorized",
        "reason": "no such password",
    }


async def test_a_repeated_answer_is_counted_in_a_line_of_its_own(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        assert await served.login() == 200
    [first] = lines(caplog)
    served.server.audit.flush()
    assert lines(caplog) == [first, first | {"repeated": 4}]
    served.server.audit.flush()
    assert len(lines(caplog)) == 2


async def test_what_was_put_together_is_written_when_the_server_ends(caplog: pytest.LogCaptureFixture) -> None:
    async with Served.serving() as served:
        for _ in range(3):
            await served.login()
    assert lines(caplog)[-1]["repeated"] == 2


async def test_another_client_has_a_line_of_its_own(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("crane/1", "skopeo/1"):
        await served.login(User_Agent=name)
    assert [line["client"] for line in lines(caplog)] == ["crane/1", "skopeo/1"]


async def test_a_flood_of_refusals_is_counted_and_others_keep_their_lines(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "SECONDS", 3600)
    for number in range(100):
        await served.login(stray(number), source="127.0.0.2")
    await served.login(stray(1), source="127.0.0.3")
    await served.login()
    served.server.audit.flush()
    shown = lines(caplog)
    of_flood = [line for line in shown if line["remote"] == "127.0.0.2"]
    assert len(of_flood) == audit.REFUSALS_OF_SENDER + 1
    assert of_flood[-1] == {"decision": "refused", "remote": "127.0.0.2", "not_shown": 100 - audit.REFUSALS_OF_SENDER}
    assert [line["decision"] for line in shown if line["remote"] == "127.0.0.3"] == ["refused"]
    assert [line["remote"] for line in shown if line["decision"] == "granted"] == ["127.0.0.1"]
    assert f"audit_refusals_not_shown_total {100.0 - audit.REFUSALS_OF_SENDER}" in await served.metrics()


async def test_a_flood_from_everywhere_is_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "SECONDS", 3600)
    monkeypatch.setattr(audit, "REFUSALS", 10)
    async with Served.serving("127.0.0.1/32") as served:
        for number in range(60):
            await served.login("malformed", f"u{number}", X_Forwarded_For=f"192.0.2.{number}")
        served.server.audit.flush()
        counted = [line for line in lines(caplog) if "not_shown" in line]
        assert len(lines(caplog)) - len(counted) == 10
        assert len(counted) <= 11
        assert sum(line["not_shown"] for line in counted) == 50


async def test_limits_leave_lines_too(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(100):
        await served.login(stray(number))
        served.server.audit.flush()
    last = lines(caplog)[-1]
    assert (last["decision"], last["outcome"], last["user"]) == ("refused", "limited", USER)
    assert last["reason"]


async def test_a_client_cannot_write_lines_or_long_ones(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    hostile = '"}\t{"decision": "granted", "user": "web.admin"}\u2028' + "x" * 4000
    await served.login(User_Agent=hostile)
    await served.ask(get("web.reader\n{}", GOOD, "scope=" + "%0A{}" * 100))
    served.world.now += timedelta(seconds=1)
    for line in lines(caplog):
        assert len(json.dumps(line)) < 1000
        assert line["user"] in (USER, None)
    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert len(lines(caplog)) == 2


async def test_what_was_asked_for_is_cut_short(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    asked = "scope=" + "+".join(f"repository:{'a' * 200}/{n}:pull" for n in range(32))
    assert (await served.ask(get(USER, GOOD, asked))).status == 200
    assert (await served.ask(get(USER, stray(1), asked))).status == 401
    granted, refused = lines(caplog)
    for line, most in ((granted, audit.GRANTED_SCOPES_LENGTH), (refused, audit.REFUSED_SCOPES_LENGTH)):
        assert len(line["asked"]) == most + 1
        assert line["asked"].startswith("repository:aaa")
        assert line["asked"].endswith("…")
