"""One audit line for each decision, and no secret in any line."""

import json

import pytest

from tests.contract.protocol.client import GOOD, USER, WRONG, Client, basic, refused


async def test_each_decision_leaves_one_line_without_a_secret(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        await client.get("scope=repository:demo/nginx:pull,push")
        await client.post(password=WRONG)
        await client.get("", basic('x"\n', GOOD))
        await client.get("", basic(GOOD, "x"))
        await client.get("scope=nonsense")
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "pullpass.audit"]
    assert [line["decision"] for line in lines] == ["reduced", *["refused"] * 4]
    first = lines[0]
    assert (first["user"], first["password"], first["granted"]) == (USER, "aaaaaa", "repository:demo/nginx:pull")
    assert first["asked"] == "repository:demo/nginx:pull,push"
    assert first["remote"] == "127.0.0.1"
    assert (lines[1]["reason"], lines[1]["password"]) == ("no such password", "bbbbbb")
    assert GOOD not in caplog.text
    assert WRONG not in caplog.text


async def test_the_line_tells_apart_what_the_answer_does_not(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    wrong = await client.get("", basic(USER, WRONG))
    client.world.token(passwords={"revoked": ["aaaaaa"]})
    with caplog.at_level("INFO", "pullpass.audit"):
        for answer in (await client.get(), await client.post()):
            refused(answer, 401, "UNAUTHORIZED")
    assert (await client.get()).body == wrong.body
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "pullpass.audit"]
    assert {(line["decision"], line["password"], line["reason"]) for line in lines} == {
        ("refused", "aaaaaa", "password is revoked")
    }


@pytest.mark.parametrize(
    ("asked", "decision"),
    [
        ("", "granted"),
        ("scope=repository:demo/nginx:pull", "granted"),
        ("scope=repository:demo/nginx:*", "granted"),
        ("scope=repository:demo/nginx:pull,push", "reduced"),
        ("scope=repository:demo/nginx:pull+repository:other:pull", "reduced"),
        ("scope=repository:demo/nginx:push", "denied"),
        ("scope=repository:other:*", "denied"),
        ("scope=registry:catalog:*", "denied"),
    ],
)
async def test_the_line_and_the_metric_say_how_much_is_granted(
    client: Client, caplog: pytest.LogCaptureFixture, asked: str, decision: str
) -> None:
    with caplog.at_level("INFO", "pullpass.audit"):
        assert (await client.get(asked)).status == 200
    [line] = [json.loads(record.getMessage()) for record in caplog.records if record.name == "pullpass.audit"]
    assert line["decision"] == decision
    metrics = (await client.manage("/metrics")).body.decode()
    assert f'requests_total{{method="GET",outcome="{decision}",registry="default"}} 1.0' in metrics


async def test_the_access_token_itself_is_in_no_line(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Its id is: by that a registry's log and ours are read together."""
    with caplog.at_level("DEBUG"):
        answer = await client.get()
    [line] = [json.loads(record.getMessage()) for record in caplog.records if record.name == "pullpass.audit"]
    assert line["jti"] == answer.claims["jti"]
    assert answer.json["token"].rpartition(".")[2] not in caplog.text
