"""What the pods may do, what they are told, and how many there are."""

import pytest

from pullpass.api.acceptance import PORT_NAME
from tests.contract.chart.rendering import (
    CASES,
    CREDENTIALS,
    NAMESPACE,
    Helm,
    arguments_of,
    environment_of,
    of_kind,
    one,
    pods,
)


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_restricted(helm: Helm, case: str) -> None:
    for pod in pods(helm.render(case=case)):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} <= {
            "configMap",
            "emptyDir",
            "persistentVolumeClaim",
            "secret",
        }
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert container["resources"]["limits"].keys() == {"memory"}


def test_user_can_be_left_to_the_platform(helm: Helm) -> None:
    fixed = {"runAsUser", "runAsGroup", "fsGroup"}
    for pod in pods(helm.render(case="trial-values.yaml")):
        assert {key: pod["spec"]["securityContext"][key] for key in fixed} == dict.fromkeys(fixed, 65532)
    for pod in pods(helm.render(case="full-values.yaml")):
        assert not fixed & pod["spec"]["securityContext"].keys()


@pytest.mark.parametrize("name", ["pullpass-operator", "pullpass-token-server"])
def test_who_starts_slowly_is_not_restarted(helm: Helm, name: str) -> None:
    (container,) = one(helm.render(), "Deployment", name)["spec"]["template"]["spec"]["containers"]
    probe = container["startupProbe"]
    assert probe["httpGet"] == container["livenessProbe"]["httpGet"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 300


def test_only_what_uses_the_api_has_a_token_for_it(helm: Helm) -> None:
    manifests = helm.render(case="trial-values.yaml")
    assert not any(account["automountServiceAccountToken"] for account in of_kind(manifests, "ServiceAccount"))
    mounts = {
        deployment["metadata"]["name"]: deployment["spec"]["template"]["spec"]["automountServiceAccountToken"]
        for deployment in of_kind(manifests, "Deployment")
    }
    assert mounts == {"pullpass-operator": True, "pullpass-token-server": True, "pullpass-registry": False}


def test_operator_is_told_where_things_are(helm: Helm) -> None:
    manifests = helm.render("--set=registryHosts={one.example.com,localhost:30500}")
    assert arguments_of(manifests, "pullpass-operator") == [
        "operator",
        "--token-server-service=pullpass-token-server-management",
        "--seed-secret=pullpass-seed",
        "--bcrypt-cost=6",
        "--writes-per-second=100",
        "--log-level=info",
        "--log-format=json",
    ]
    # For `kubectl exec … pullpass keys` as well.
    assert environment_of(manifests, "pullpass-operator") == {
        "PULLPASS_NAMESPACE": NAMESPACE,
        "PULLPASS_CREDENTIALS_NAMESPACE": CREDENTIALS,
        "PULLPASS_REGISTRIES": "/etc/pullpass/registries.json",
    }
    (container,) = one(manifests, "Deployment", "pullpass-operator")["spec"]["template"]["spec"]["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts["/etc/pullpass"] == "registries"


def test_token_server_is_told_what_to_issue(helm: Helm) -> None:
    assert arguments_of(helm.render(), "pullpass-token-server") == [
        "token-server",
        f"--credentials-namespace={CREDENTIALS}",
        "--registries=/etc/pullpass/registries.json",
        "--port=8080",
        "--management-port=8081",
        "--max-staleness=0",
        "--drain-seconds=5",
        "--bcrypt-cost=6",
        "--log-level=info",
        "--log-format=json",
    ]


def test_token_servers_are_never_fewer(helm: Helm) -> None:
    manifests = helm.render()
    deployment = one(manifests, "Deployment", "pullpass-token-server")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert spread["matchLabelKeys"] == ["pod-template-hash"]
    (budget,) = of_kind(manifests, "PodDisruptionBudget")
    assert (budget["spec"]["maxUnavailable"], budget["spec"].get("minAvailable")) == (1, None)


def test_operators_stand_by_on_other_nodes(helm: Helm) -> None:
    manifests = helm.render("--set=operator.replicas=2")
    deployment = one(manifests, "Deployment", "pullpass-operator")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    assert one(manifests, "PodDisruptionBudget", "pullpass-operator")["spec"]["maxUnavailable"] == 1
    # A budget for a single one would say nothing.
    (alone,) = of_kind(helm.render(), "PodDisruptionBudget")
    assert alone["metadata"]["name"] == "pullpass-token-server"


@pytest.mark.parametrize("value", [0, "50%"])
def test_budget_is_what_was_asked_for(helm: Helm, value: int | str) -> None:
    path = "tokenServer.podDisruptionBudget"
    (lower,) = of_kind(helm.render(f"--set={path}.minAvailable={value}"), "PodDisruptionBudget")
    assert (lower["spec"]["minAvailable"], lower["spec"].get("maxUnavailable")) == (value, None)
    (upper,) = of_kind(helm.render(f"--set={path}.maxUnavailable={value}"), "PodDisruptionBudget")
    assert (upper["spec"]["maxUnavailable"], upper["spec"].get("minAvailable")) == (value, None)
    assert not of_kind(helm.render(f"--set={path}.enabled=false"), "PodDisruptionBudget")


@pytest.mark.parametrize("case", CASES)
def test_ports_that_others_name_exist(helm: Helm, case: str) -> None:
    manifests = helm.render(case=case)
    for deployment in of_kind(manifests, "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        names = {port["name"] for port in container["ports"]}
        probes = [
            container[probe] for probe in ("startupProbe", "livenessProbe", "readinessProbe") if probe in container
        ]
        assert {probe["httpGet"]["port"] for probe in probes} <= names
        labels = deployment["spec"]["template"]["metadata"]["labels"].items()
        services = [s for s in of_kind(manifests, "Service") if s["spec"]["selector"].items() <= labels]
        assert services
        assert {port["targetPort"] for service in services for port in service["spec"]["ports"]} <= names


@pytest.mark.parametrize("arguments", [(), ("--set=tokenServer.tls.enabled=true",)])
def test_management_port_is_found_by_the_operator_and_not_by_clients(helm: Helm, arguments: tuple[str, ...]) -> None:
    manifests = helm.render("--set=tokenServer.service.type=LoadBalancer", *arguments)
    (flag,) = [a for a in arguments_of(manifests, "pullpass-operator") if a.startswith("--token-server-service=")]
    found = one(manifests, "Service", flag.partition("=")[2])["spec"]
    # Each replica by its own address, and said to be ready by its probe alone.
    assert (found["type"], found["clusterIP"], "publishNotReadyAddresses" in found) == ("ClusterIP", "None", False)
    management = {"name": PORT_NAME, "port": 8081, "targetPort": "management", "appProtocol": "http"}
    assert found["ports"] == [management]
    assert "--management-port=8081" in arguments_of(manifests, "pullpass-token-server")
    (client,) = one(manifests, "Service", "pullpass-token-server")["spec"]["ports"]
    assert client["targetPort"] in {"http", "https"}


def test_shortened_names_of_both_services_differ(helm: Helm) -> None:
    manifests = helm.render("--set=fullnameOverride=" + "x" * 63)
    names = [service["metadata"]["name"] for service in of_kind(manifests, "Service")]
    assert len(names) == len(set(names)) == 3
    assert f"--token-server-service={'x' * 39}-token-server-management" in arguments_of(
        manifests, f"{'x' * 48}-operator"
    )
