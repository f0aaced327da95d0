"""What is off until asked for: the trial registry, network policies, monitors."""

import yaml

from tests.contract.chart.rendering import (
    Helm,
    of_kind,
    one,
)

OPERATOR = {
    "podSelector": {
        "matchLabels": {
            "app.kubernetes.io/name": "pullpass",
            "app.kubernetes.io/instance": "pullpass",
            "app.kubernetes.io/component": "operator",
        }
    }
}
CLIENTS = {"ipBlock": {"cidr": "10.0.0.0/8"}}
SCRAPERS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
"""Those of full-values.yaml."""
SCRAPED = {
    "pullpass-operator": "pullpass-operator",
    "pullpass-token-server": "pullpass-token-server-management",
}
"""Services by monitor."""


def test_no_registry_unless_asked_for(helm: Helm) -> None:
    assert not [m for m in helm.render() if "registry" in m["metadata"]["name"].split("-")]


def test_trial_registry_trusts_the_token_server(helm: Helm) -> None:
    manifests = helm.render(case="trial-values.yaml")
    config = yaml.safe_load(one(manifests, "ConfigMap", "pullpass-registry")["data"]["config.yml"])
    assert config["auth"]["token"] == {
        "realm": "http://localhost:30501/token",
        "service": "registry",
        "issuer": "pullpass",
        "rootcertbundle": "/etc/pullpass/ca.crt",
        "signingalgorithms": ["ES256"],
    }
    assert config["storage"]["delete"] == {"enabled": True}
    spec = one(manifests, "Deployment", "pullpass-registry")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["trust"]["configMap"]["name"] == "pullpass-trust"
    assert volumes["storage"]["emptyDir"] == {}
    ports = {
        service["metadata"]["name"]: service["spec"]["ports"][0].get("nodePort")
        for service in of_kind(manifests, "Service")
    }
    assert (ports["pullpass-registry"], ports["pullpass-token-server"]) == (30500, 30501)


def test_registry_starts_anew_with_its_configuration(helm: Helm) -> None:
    def checksum(*arguments: str) -> str:
        deployment = one(helm.render(*arguments, case="trial-values.yaml"), "Deployment", "pullpass-registry")
        found: str = deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        return found

    assert checksum() == checksum("--set=registry.service.port=5001")
    assert checksum() != checksum("--set=accessTokens.issuer=other")


def test_registry_keeps_images_on_a_claim(helm: Helm) -> None:
    manifests = helm.render(case="full-values.yaml")
    (claim,) = of_kind(manifests, "PersistentVolumeClaim")
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    existing = helm.render("--set=registry.persistence.existingClaim=images", case="full-values.yaml")
    assert not of_kind(existing, "PersistentVolumeClaim")
    spec = one(existing, "Deployment", "pullpass-registry")["spec"]["template"]["spec"]
    assert {"claimName": "images"} in [volume.get("persistentVolumeClaim") for volume in spec["volumes"]]


def test_network_policies_close_all_but_what_is_needed(helm: Helm) -> None:
    assert not of_kind(helm.render(), "NetworkPolicy")
    policies = {
        policy["metadata"]["name"]: policy["spec"]
        for policy in of_kind(helm.render(case="full-values.yaml"), "NetworkPolicy")
    }
    assert policies.keys() == {"pullpass-operator", "pullpass-token-server", "pullpass-registry"}
    for policy in policies.values():
        assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policies["pullpass-registry"]

    def ports(name: str, direction: str) -> set[int]:
        return {port["port"] for rule in policies[name][direction] for port in rule["ports"]}

    assert ports("pullpass-operator", "egress") == {53, 443, 6443, 8081}
    assert ports("pullpass-operator", "ingress") == {8081, 8082}
    assert ports("pullpass-token-server", "egress") == {53, 443, 6443}
    tokens, management = policies["pullpass-token-server"]["ingress"]
    assert tokens == {"ports": [{"protocol": "TCP", "port": 8080}], "from": [CLIENTS]}
    assert management == {"ports": [{"protocol": "TCP", "port": 8081}], "from": [OPERATOR, SCRAPERS]}


def test_management_port_is_closed_to_whom_nobody_named(helm: Helm) -> None:
    """Also where everybody may be a client."""
    policy = one(helm.render("--set=networkPolicy.enabled=true"), "NetworkPolicy", "pullpass-token-server")
    tokens, management = policy["spec"]["ingress"]
    assert tokens == {"ports": [{"protocol": "TCP", "port": 8080}]}
    assert management == {"ports": [{"protocol": "TCP", "port": 8081}], "from": [OPERATOR]}


def test_monitors_find_the_services(helm: Helm) -> None:
    assert not of_kind(helm.render(), "ServiceMonitor")
    manifests = helm.render(case="full-values.yaml")
    for monitor in of_kind(manifests, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        services = [s for s in of_kind(manifests, "Service") if wanted <= s["metadata"]["labels"].items()]
        assert [service["metadata"]["name"] for service in services] == [SCRAPED[monitor["metadata"]["name"]]]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in [port["name"] for port in services[0]["spec"]["ports"]]
