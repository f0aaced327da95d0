"""The chart's alerts, as Prometheus itself reads and evaluates them."""

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from pullpass.controller.metrics import NOT_OF_SPECS
from tests.cluster import toolchain
from tests.cluster.places import ROOT
from tests.contract.chart.rendering import NAMESPACE, Helm, of_kind

HERE = f'namespace="{NAMESPACE}"'
ELSEWHERE = 'namespace="elsewhere"'
OPERATOR, SERVER = "pullpass_operator", "pullpass_token_server"
BEGIN = "server_certificate_not_before_seconds"
MONTH = 30 * 86400


@dataclass(frozen=True)
class Case:
    """What has to fire an alert, and what must not. Values are in promtool's notation, one a minute."""

    fires: dict[str, str]
    silent: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    """Those of the alert, its name, severity and namespace apart."""
    after: int = 15
    """Minutes."""


CASES = {
    "PullpassNoOperator": Case(
        fires={f"{OPERATOR}_leader{{{HERE}}}": "0x20", f"{OPERATOR}_leader{{{ELSEWHERE}}}": "1x20"},
        silent={f'{OPERATOR}_leader{{{HERE},pod="a"}}': "0x20", f'{OPERATOR}_leader{{{HERE},pod="b"}}': "1x20"},
    ),
    "PullpassOperatorDefect": Case(
        fires={f'{OPERATOR}_reconciles_total{{{HERE},pod="a",kind="token",outcome="defect"}}': "0x10 1x10"},
        silent={f'{OPERATOR}_reconciles_total{{{HERE},pod="a",kind="token",outcome="failed"}}': "0+1x20"},
        labels={"pod": "a", "kind": "token", "outcome": "defect"},
    ),
    "PullpassTokensCannotSettle": Case(
        fires={f'{OPERATOR}_unsettled_tokens{{{HERE},pod="a",reason="WriteFailed"}}': "0x3 2x30"},
        silent={
            f'{OPERATOR}_unsettled_tokens{{{HERE},pod="a",reason="WriteFailed"}}': "0x4 2x10 0x30",
            f'{OPERATOR}_unsettled_tokens{{{ELSEWHERE},pod="a",reason="WriteFailed"}}': "2x30",
            # Whoever wrote that spec sees it in the conditions.
            f'{OPERATOR}_unsettled_tokens{{{HERE},pod="a",reason="ScopeMapNotFound"}}': "2x30",
        },
        labels={"reason": "WriteFailed"},
        after=25,
    ),
    "PullpassKeysFail": Case(
        fires={f'{OPERATOR}_reconciles_total{{{HERE},pod="a",kind="signing-keys",outcome="failed"}}': "0x4 0+1x30"},
        silent={
            # Once, and then after a while again: a Conflict, or an API server that restarts.
            f'{OPERATOR}_reconciles_total{{{HERE},pod="a",kind="signing-keys",outcome="failed"}}': "0x4 1x15 2x30",
            f'{OPERATOR}_reconciles_total{{{HERE},pod="a",kind="token",outcome="failed"}}': "0+1x35",
            f'{OPERATOR}_reconciles_total{{{HERE},pod="a",kind="signing-keys",outcome="done"}}': "0+1x35",
        },
        labels={"kind": "signing-keys"},
        after=25,
    ),
    "PullpassTokenServerStale": Case(
        fires={f'{SERVER}_cache_age_seconds{{{HERE},pod="a"}}': "0+60x20"},
        silent={f'{SERVER}_cache_age_seconds{{{HERE},pod="a"}}': "70x20"},
        labels={"pod": "a"},
    ),
    "PullpassSigningCertificateEnds": Case(
        fires={f'{SERVER}_signing_certificate_not_after_seconds{{{HERE},pod="a"}}': f"{MONTH // 3}x20"},
        silent={f'{SERVER}_signing_certificate_not_after_seconds{{{HERE},pod="a"}}': f"{MONTH}x20"},
        labels={"pod": "a"},
    ),
    "PullpassServerCertificateEnds": Case(
        fires={f'{SERVER}_tls_certificate_not_after_seconds{{{HERE},pod="a"}}': f"{MONTH // 3}x20"},
        silent={f'{SERVER}_tls_certificate_not_after_seconds{{{HERE},pod="a"}}': f"{MONTH}x20"},
        labels={"pod": "a"},
    ),
    "PullpassRegistryCertificateRenewed": Case(
        # The operator is another pod by then, and the one before may be about.
        fires={
            f'{OPERATOR}_{BEGIN}{{{HERE},pod="a",secret="pullpass-registry-tls"}}': "1x1460",
            f'{OPERATOR}_{BEGIN}{{{HERE},pod="b",secret="pullpass-registry-tls"}}': "_x1430 2x30",
        },
        silent={
            f'{OPERATOR}_{BEGIN}{{{HERE},pod="a",secret="pullpass-registry-tls"}}': "1x1430",
            f'{OPERATOR}_{BEGIN}{{{HERE},pod="b",secret="pullpass-registry-tls"}}': "_x1430 1x30",
            f'{OPERATOR}_{BEGIN}{{{HERE},pod="a",secret="pullpass-token-server-tls"}}': "1x1430 2x30",
        },
        labels={"secret": "pullpass-registry-tls"},
        after=1450,
    ),
    "PullpassCAEnds": Case(
        fires={f'{OPERATOR}_ca_not_after_seconds{{{HERE},pod="a",registry="edge"}}': f"{MONTH // 2}x20"},
        silent={f'{OPERATOR}_ca_not_after_seconds{{{HERE},pod="a",registry="edge"}}': f"{MONTH}x20"},
        labels={"pod": "a", "registry": "edge"},
    ),
    "PullpassCAReplaced": Case(
        fires={f'{OPERATOR}_ca_replacement{{{HERE},pod="a",registry="edge",step="replaced"}}': "1x20"},
        silent={
            f'{OPERATOR}_ca_replacement{{{HERE},pod="a",registry="edge",step="replaced"}}': "0x20",
            f'{OPERATOR}_ca_replacement{{{HERE},pod="a",registry="edge",step="prepared"}}': "1x20",
        },
        labels={"pod": "a", "registry": "edge", "step": "replaced"},
    ),
    "PullpassPullsFail": Case(
        fires={f'{SERVER}_requests_total{{{HERE},pod="a",method="GET",outcome="unavailable"}}': "0+1x20"},
        silent={
            f'{SERVER}_requests_total{{{HERE},pod="a",method="GET",outcome="unauthorized"}}': "0+1x20",
            f'{SERVER}_requests_total{{{HERE},pod="a",method="GET",outcome="granted"}}': "0+1x20",
            # The operator asks token servers that are not ready, too.
            f'{SERVER}_requests_total{{{HERE},pod="a",method="GET",outcome="busy"}}': "0x12 30x8",
        },
        labels={"outcome": "unavailable"},
    ),
    "PullpassGuesses": Case(
        fires={f'{SERVER}_requests_total{{{HERE},pod="a",method="GET",outcome="limited"}}': "0+120x20"},
        silent={f'{SERVER}_requests_total{{{HERE},pod="a",method="GET",outcome="limited"}}': "0+6x20"},
    ),
    "PullpassConnectionsRefused": Case(
        fires={f'{SERVER}_connections_refused_total{{{HERE},pod="a"}}': "0+1x20"},
        silent={f'{SERVER}_connections_refused_total{{{HERE},pod="a"}}': "7x20"},
        labels={"pod": "a"},
    ),
}
WITH_NAMESPACE = {name for name in CASES if name not in ("PullpassNoOperator", "PullpassPullsFail", "PullpassGuesses")}
"""The others are sums, or about something that is not there."""


@pytest.fixture(scope="module")
def rules(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules as a file of Prometheus."""
    (resource,) = of_kind(helm.render("--set=prometheusRule.enabled=true"), "PrometheusRule")
    file = tmp_path_factory.mktemp("rules") / "rules.yaml"
    file.write_text(yaml.safe_dump(resource["spec"]))
    return file


def alerts(rules: Path) -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load(rules.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def promtool(*arguments: str | Path) -> None:
    command = [toolchain.tool("promtool"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_none_unless_asked_for(helm: Helm) -> None:
    assert not of_kind(helm.render(), "PrometheusRule")


def test_prometheus_can_read_them(rules: Path) -> None:
    promtool("check", "rules", rules)


def test_each_is_tried_here_and_in_the_documentation(rules: Path) -> None:
    documented = re.findall(r"^\| `(Pullpass\w+)` \|", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert list(alerts(rules)) == list(CASES) == documented


def test_one_is_about_every_reason_that_is_no_mistake_in_a_spec(rules: Path) -> None:
    (reasons,) = re.findall('reason=~"(.*?)"', alerts(rules)["PullpassTokensCannotSettle"]["expr"])
    assert set(reasons.split("|")) == {str(reason) for reason in NOT_OF_SPECS}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fires", [True, False], ids=["fires", "is silent"])
def test_alert(rules: Path, name: str, fires: bool, tmp_path: Path) -> None:
    case = CASES[name]
    labels = {"alertname": name, "alertstate": "firing", **case.labels, **alerts(rules)[name]["labels"]}
    if name in WITH_NAMESPACE:
        labels["namespace"] = NAMESPACE
    series = case.fires if fires else case.silent
    matchers = ",".join(f'{key}="{value}"' for key, value in labels.items())
    sample = {"labels": f"ALERTS{{{matchers}}}", "value": 1}
    file = tmp_path / "test.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(rules)],
                "evaluation_interval": "1m",
                "tests": [
                    {
                        "interval": "1m",
                        "input_series": [{"series": key, "values": values} for key, values in series.items()],
                        "promql_expr_test": [
                            {
                                "expr": f'ALERTS{{alertname="{name}",alertstate="firing"}}',
                                "eval_time": f"{case.after}m",
                                "exp_samples": [sample] if fires else [],
                            }
                        ],
                    }
                ],
            }
        )
    )
    promtool("test", "rules", file)
