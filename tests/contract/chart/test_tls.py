"""What the chart renders where its servers are to speak TLS."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pullpass.cli.main import _parser
from tests.contract.chart.rendering import NAMESPACE, Helm, Manifest, arguments_of, environment_of, grants, notes, one

OWN = ("--set=tokenServer.tls.enabled=true", "--set=accessTokens.realm=https://tokens.example.com:30501/token")
BROUGHT = (*OWN, "--set=tokenServer.tls.secretName=brought")
REGISTRY = (*OWN, "--set=registry.enabled=true", "--set=registry.tls.enabled=true")
SERVICE_NAMES = "{0}.pullpass-system.svc,{0}.pullpass-system.svc.cluster.local,{0}.pullpass-system,{0}"


def container(manifests: tuple[Manifest, ...], name: str) -> Any:
    (found,) = one(manifests, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    return found


def volume(manifests: tuple[Manifest, ...], name: str, of: str) -> Any:
    volumes = one(manifests, "Deployment", name)["spec"]["template"]["spec"]["volumes"]
    return {volume["name"]: volume for volume in volumes}.get(of)


def told(manifests: tuple[Manifest, ...], flag: str) -> list[str]:
    """What the operator is told by a flag."""
    return [
        argument.removeprefix(f"{flag}=")
        for argument in arguments_of(manifests, "pullpass-operator")
        if argument.startswith(f"{flag}=")
    ]


def test_by_default_nothing_is_of_tls(helm: Helm) -> None:
    manifests = helm.render()
    assert "tls" not in yaml.safe_dump_all([m for m in manifests if m["kind"] != "CustomResourceDefinition"])
    assert container(manifests, "pullpass-token-server")["ports"][0] == {"name": "http", "containerPort": 8080}


@pytest.mark.parametrize(
    ("arguments", "secret"), [(OWN, "pullpass-token-server-tls"), (BROUGHT, "brought")], ids=["own", "brought"]
)
def test_token_server_serves_with_the_secret_and_is_probed_without(
    helm: Helm, arguments: tuple[str, ...], secret: str
) -> None:
    manifests = helm.render(*arguments)
    served = container(manifests, "pullpass-token-server")
    assert "--tls-directory=/etc/pullpass-tls" in served["args"]
    mounts = {mount["name"]: mount for mount in served["volumeMounts"]}
    # With a subPath the kubelet would never bring a new certificate.
    assert mounts["tls"] == {"name": "tls", "mountPath": "/etc/pullpass-tls", "readOnly": True}
    mounted = volume(manifests, "pullpass-token-server", "tls")["secret"]
    assert (mounted["secretName"], {item["key"] for item in mounted["items"]}) == (secret, {"tls.crt", "tls.key"})
    assert served["ports"] == [
        {"name": "https", "containerPort": 8080},
        {"name": "management", "containerPort": 8081},
    ]
    for probe, path in (
        ("startupProbe", "/healthz"),
        ("livenessProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
    ):
        assert served[probe]["httpGet"] == {"path": path, "port": "management"}
    (port,) = one(manifests, "Service", "pullpass-token-server")["spec"]["ports"]
    assert (port["name"], port["targetPort"]) == ("https", "https")


def test_operator_makes_a_certificate_for_the_service_the_realm_and_the_given_hosts(helm: Helm) -> None:
    manifests = helm.render(*OWN, "--set=tokenServer.tls.hosts={tokens.internal,10.0.0.1}")
    names = SERVICE_NAMES.format("pullpass-token-server")
    assert told(manifests, "--server-certificate") == [
        f"pullpass-token-server-tls={names},tokens.example.com,tokens.internal,10.0.0.1"
    ]
    assert told(manifests, "--server-ca-secret") == ["pullpass-server-ca"]
    assert told(manifests, "--server-trust-configmap") == ["pullpass-server-trust"]


def test_operator_makes_none_where_one_is_brought(helm: Helm) -> None:
    manifests = helm.render(*BROUGHT)
    assert told(manifests, "--server-certificate") == []
    assert told(manifests, "--server-trust-configmap") == []


def test_operator_may_publish_the_server_ca_where_it_has_one(helm: Helm) -> None:
    def names(*arguments: str) -> list[str]:
        rules = [rule for _, rule in grants(helm.render(*arguments), "pullpass-operator")]
        return [name for rule in rules if rule["resources"] == ["configmaps"] for name in rule.get("resourceNames", ())]

    assert names() == ["pullpass-trust"]
    assert names(*BROUGHT) == ["pullpass-trust"]
    assert names(*OWN) == ["pullpass-trust", "pullpass-server-trust"]


def test_token_server_is_given_no_right_to_read_certificates(helm: Helm) -> None:
    rules = list(grants(helm.render(*OWN), "pullpass-token-server"))
    assert [namespace for namespace, rule in rules if "secrets" in rule["resources"]] == [f"{NAMESPACE}-credentials"]


def test_the_ci_case_names_everything_otherwise(helm: Helm) -> None:
    manifests = helm.render(case="tls-values.yaml")
    names = SERVICE_NAMES.format("pullpass-registry")
    assert told(manifests, "--server-certificate") == [
        f"pullpass-registry-tls={names},registry.example.com,2001:db8::1,registry.internal,10.0.0.1"
    ]
    assert told(manifests, "--server-ca-secret") == ["web-ca"]
    assert told(manifests, "--server-trust-configmap") == ["web-trust"]


@pytest.mark.parametrize("case", ["tls-values.yaml", "trial-values.yaml"])
def test_both_programs_understand_what_they_are_told(helm: Helm, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = helm.render(case=case)
    for name, value in environment_of(manifests, "pullpass-operator").items():
        monkeypatch.setenv(name, value)
    for name in ("pullpass-operator", "pullpass-token-server"):
        _parser().parse_args(arguments_of(manifests, name))


# The trial registry


def test_registry_serves_with_the_secret_and_is_probed_over_it(helm: Helm) -> None:
    manifests = helm.render(*REGISTRY)
    served = container(manifests, "pullpass-registry")
    config = yaml.safe_load(one(manifests, "ConfigMap", "pullpass-registry")["data"]["config.yml"])
    assert config["http"]["tls"] == {
        "certificate": "/etc/pullpass-tls/tls.crt",
        "key": "/etc/pullpass-tls/tls.key",
        "minimumtls": "tls1.2",
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in served["volumeMounts"]}
    assert mounts["tls"] == "/etc/pullpass-tls"
    assert volume(manifests, "pullpass-registry", "tls")["secret"]["secretName"] == "pullpass-registry-tls"
    for probe in ("livenessProbe", "readinessProbe"):
        assert (served[probe]["httpGet"]["port"], served[probe]["httpGet"]["scheme"]) == ("https", "HTTPS")
    names = SERVICE_NAMES.format("pullpass-registry")
    assert told(manifests, "--server-certificate")[1:] == [f"pullpass-registry-tls={names},registry.example.com"]


def test_registry_may_bring_its_certificate(helm: Helm) -> None:
    manifests = helm.render(*REGISTRY, "--set=registry.tls.secretName=brought")
    assert volume(manifests, "pullpass-registry", "tls")["secret"]["secretName"] == "brought"
    assert [wanted.split("=")[0] for wanted in told(manifests, "--server-certificate")] == ["pullpass-token-server-tls"]


def test_registry_that_is_not_there_has_no_certificate(helm: Helm) -> None:
    manifests = helm.render("--set=registry.tls.enabled=true")
    assert told(manifests, "--server-certificate") == []


# Monitoring, notes, and what makes no sense


@pytest.mark.parametrize("name", ["pullpass-operator", "pullpass-token-server"])
def test_metrics_stay_plain(helm: Helm, name: str) -> None:
    monitor = one(helm.render(*OWN, "--set=serviceMonitor.enabled=true"), "ServiceMonitor", name)
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint.keys() == {"port", "path", "interval"}


@pytest.mark.parametrize(("arguments", "said"), [(OWN, True), (BROUGHT, False)], ids=["own", "brought"])
def test_notes_say_whom_to_trust(helm: Helm, tmp_path: Path, arguments: tuple[str, ...], said: bool) -> None:
    shown = notes(helm, tmp_path, "default-values.yaml", *arguments)
    command = "kubectl get configmap pullpass-server-trust --namespace pullpass-system"
    assert (command in shown) is said
    assert ("{.data.ca\\.crt}" in shown) is said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tokenServer.tls.secretName=a"], "tokenServer.tls has a secretName or hosts, but is not enabled"),
        (["registry.tls.hosts={a.example}"], "registry.tls has a secretName or hosts, but is not enabled"),
        (
            ["tokenServer.tls.enabled=true", "tokenServer.tls.secretName=a", "tokenServer.tls.hosts={b}"],
            "the certificate comes from Secret a",
        ),
        (
            ["tokenServer.tls.enabled=true", "accessTokens.realm=http://tokens.example.com/token"],
            "Use an https:// URL",
        ),
        (["keys.caSecret=one", "keys.serverCASecret=one"], "Use two"),
        (["tokenServer.tls.hosts={https://a.example}"], "values don't meet the specifications of the schema"),
        (["tokenServer.tls.mode=own"], "values don't meet the specifications of the schema"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_words(helm: Helm, arguments: list[str], sentence: str) -> None:
    assert sentence in helm.refusal(*(f"--set={argument}" for argument in arguments))
