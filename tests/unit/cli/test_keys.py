"""`pullpass keys` over an API server in memory: what it prints, which registry it means, and what it returns."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pullpass.api.registries import Registries
from pullpass.cli.main import main
from pullpass.controller.keys.signing import reconcile
from pullpass.controller.keys.storage import pair_of
from pullpass.controller.settings import OperatorSettings
from pullpass.kube.client import Kube, Unavailable
from pullpass.kube.resources import NAMESPACES
from tests.registries import ONE, TWO
from tests.unit.controller.fake_api import FakeApi

pytestmark = pytest.mark.usefixtures("logging_of_its_own")

SETTINGS = OperatorSettings(
    namespace="release",
    credentials_namespace="credentials",
    identity="pod",
    registries=TWO,
    token_server_service="tokens",
)
CA = ("secrets", "release", "pullpass-ca")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """The API server that commands find."""
    made = FakeApi()
    for name in ("release", "credentials"):
        made.put(NAMESPACES, {"metadata": {"name": name}})
    for registry in TWO:
        asyncio.run(reconcile(made, SETTINGS, registry, datetime.now(UTC)))

    @asynccontextmanager
    async def connect(kubeconfig: str | None = None) -> AsyncIterator[Kube]:
        yield made

    monkeypatch.setattr(Kube, "connect", connect)
    return made


@pytest.fixture
def environment(api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As in the operator's pod: no command needs a flag that says where things are."""
    file = tmp_path / "registries.json"
    monkeypatch.setenv("PULLPASS_NAMESPACE", "release")
    monkeypatch.setenv("PULLPASS_CREDENTIALS_NAMESPACE", "credentials")
    monkeypatch.setenv("PULLPASS_REGISTRIES", str(file))
    write(file, ONE)
    return file


def write(file: Path, registries: Registries) -> None:
    file.write_text(json.dumps(registries.model_dump(mode="json", by_alias=True)))


@pytest.mark.usefixtures("environment")
def test_a_ca_is_prepared_and_too_early_to_switch_to(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "replace-ca"]) == 0
    printed = capsys.readouterr().out
    assert "registry default\n  CA " in printed
    assert "  step prepared: " in printed
    before = api.version
    assert main(["keys", "status"]) == 0
    assert capsys.readouterr().out == printed
    assert main(["keys", "switch-ca"]) == 1
    assert capsys.readouterr().err.startswith("pullpass keys switch-ca: registry default: the CA to switch to was ")
    assert api.version == before


@pytest.mark.usefixtures("environment")
def test_a_leaked_ca_is_replaced_at_once(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "replace-ca"]) == 0
    old = pair_of(api.objects[CA])
    assert main(["keys", "switch-ca", "--at-once"]) == 0
    assert main(["keys", "replace-ca", "--at-once", "--registry", "default"]) == 0
    assert pair_of(api.objects[CA]).certificate != old.certificate
    assert (
        "Pulls fail at every registry until it has loaded ConfigMap release/pullpass-trust" in capsys.readouterr().out
    )


def test_of_several_registries_all_are_told_and_one_is_changed(
    api: FakeApi, environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(environment, TWO)
    before = api.version
    assert main(["keys", "replace-ca"]) == 1
    assert "say which registry is meant by --registry; there are default, other" in capsys.readouterr().err
    assert main(["keys", "replace-ca", "--registry", "another"]) == 1
    assert "there is no registry another; there are default, other" in capsys.readouterr().err
    assert api.version == before
    assert main(["keys", "replace-ca", "--registry", "other"]) == 0
    assert "registry default" not in capsys.readouterr().out
    assert main(["keys", "status"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("registry default") < printed.index("step none") < printed.index("registry other")
    assert printed.index("registry other") < printed.index("step prepared")


@pytest.mark.usefixtures("environment")
def test_an_api_server_that_is_away_is_said(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.fault = (api.calls + 1, "before", Unavailable("no answer"))
    assert main(["keys", "status"]) == 1
    assert capsys.readouterr().err == "pullpass keys status: no answer\n"


def test_where_things_are_has_to_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["keys", "status"])
    assert "--namespace, --credentials-namespace, --registries" in capsys.readouterr().err


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("action", ["status", "replace-ca", "switch-ca"])
def test_what_the_operator_has_not_made_yet_is_said(
    api: FakeApi, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    del api.objects[CA]
    before = api.version
    assert main(["keys", action]) == 1
    assert "Secret release/pullpass-ca of registry default does not exist yet." in capsys.readouterr().err
    assert api.version == before
