"""Several registries in one release, as the chart renders them."""

import json
from pathlib import Path
from typing import Any

import pytest

from pullpass.api.registries import Registries, load
from tests.contract.chart.rendering import (
    NAMESPACE,
    Helm,
    Manifest,
    arguments_of,
    environment_of,
    grants,
    notes,
    one,
    pods,
)

CASE = "registries-values.yaml"
SECOND = ("--set=registries[0].name=b", "--set=registries[0].hosts={b.example.com}", "--set=registries[0].service=b")


def file_of(manifests: tuple[Manifest, ...], name: str = "pullpass-registries") -> str:
    text: str = one(manifests, "ConfigMap", name)["data"]["registries.json"]
    return text


def test_both_processes_are_given_a_file_that_they_can_read(helm: Helm, tmp_path: Path) -> None:
    manifests = helm.render(case=CASE)
    # `pullpass keys` is told by the environment too.
    assert environment_of(manifests, "pullpass-operator")["PULLPASS_REGISTRIES"] == "/etc/pullpass/registries.json"
    assert "--registries=/etc/pullpass/registries.json" in arguments_of(manifests, "pullpass-token-server")
    for name in ("pullpass-operator", "pullpass-token-server"):
        spec = one(manifests, "Deployment", name)["spec"]["template"]["spec"]
        (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["mountPath"] == "/etc/pullpass"]
        (volume,) = [v for v in spec["volumes"] if v["name"] == mount["name"]]
        assert volume["configMap"] == {"name": "pullpass-registries"}
    file = tmp_path / "registries.json"
    file.write_text(file_of(manifests))
    registries = load(file)
    assert registries == Registries.model_validate(
        {
            "registries": [
                {
                    "name": "default",
                    "service": "registry",
                    "issuer": "pullpass",
                    "hosts": ["registry.example.com"],
                },
                {"name": "team-b", "service": "team-b", "issuer": "pullpass", "hosts": ["b.example.com"]},
                {
                    "name": "edge",
                    "service": "Edge registry",
                    "issuer": "edge",
                    "hosts": ["edge.example.com", "edge.example.com:5000"],
                    "accessTokenLifetimeSeconds": 60,
                    "caSecret": "edge-ca",
                    "trustConfigMap": "edge-trust",
                },
            ]
        }
    )


def test_the_default_registry_is_made_of_the_values_that_were_there_before(helm: Helm) -> None:
    (only,) = json.loads(file_of(helm.render(case="full-values.yaml")))["registries"]
    assert only == {
        "name": "default",
        "service": "example",
        "issuer": "example",
        "hosts": ["registry.example.com", "registry.example.com:5000"],
        "accessTokenLifetimeSeconds": 120,
        "caSecret": "company-ca",
        "trustConfigMap": "trust",
    }


def test_no_list_is_an_empty_one(helm: Helm) -> None:
    assert file_of(helm.render("--set=registries=null")) == file_of(helm.render())


def test_what_a_registry_leaves_out_is_that_of_the_release(helm: Helm) -> None:
    more = ("--set=accessTokens.issuer=company", "--set=accessTokens.lifetimeSeconds=90", "--set=keys.caSecret=mine")
    registry = json.loads(file_of(helm.render(*SECOND, *more, release="other"), "other-pullpass-registries"))
    second: dict[str, Any] = registry["registries"][1]
    assert (second["issuer"], second["accessTokenLifetimeSeconds"]) == ("company", 90)
    assert (second["caSecret"], second["trustConfigMap"]) == ("other-pullpass-ca-b", "other-pullpass-trust-b")


def test_pods_start_anew_when_a_registry_changes(helm: Helm) -> None:
    def checksums(*arguments: str) -> list[str]:
        return [pod["metadata"]["annotations"]["checksum/registries"] for pod in pods(helm.render(*arguments))]

    before, after = checksums(), checksums(*SECOND)
    assert len(set(before)) == 1
    assert len(before) == 2
    assert not set(before) & set(after)
    assert before == checksums("--set=tokenServer.service.port=80")


def test_the_operator_may_publish_each_trust_bundle_and_no_other_configmap(helm: Helm) -> None:
    rules = [
        rule
        for namespace, rule in grants(helm.render(case=CASE), "pullpass-operator")
        if namespace == NAMESPACE and rule["resources"] == ["configmaps"] and rule["verbs"] != ["create"]
    ]
    assert [rule["resourceNames"] for rule in rules] == [["pullpass-trust", "pullpass-trust-team-b", "edge-trust"]]


def test_the_notes_say_what_to_configure_at_each(helm: Helm, tmp_path: Path) -> None:
    said = notes(helm, tmp_path, CASE)
    for trust, service, issuer in (
        ("pullpass-trust", "registry", "pullpass"),
        ("pullpass-trust-team-b", "team-b", "pullpass"),
        ("edge-trust", "Edge registry", "edge"),
    ):
        block = said.partition(f"ConfigMap {trust}, key ca.crt")[2]
        assert f"service: {service}\n      issuer: {issuer}\n" in block.partition("rootcertbundle")[0]
    assert "Tell registry edge (edge.example.com, edge.example.com:5000)" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("name=default", "the name default is taken"),
        ("service=registry", "b has the service registry, and so has default"),
        ("hosts={registry.example.com}", "b has the host registry.example.com, and so has default"),
        ("hosts={https://b.example.com}", 'hosts of b: "https://b.example.com" is not a host'),
        ("hosts={}", "hosts"),
        ("caSecret=pullpass-ca", "b has the caSecret pullpass-ca, and so has default"),
        ("trustConfigMap=pullpass-trust", "b has the trustConfigMap pullpass-trust, and so has default"),
        ("lifetimeSeconds=59", "lifetimeSeconds of b is 59"),
        ("caSecret=pullpass-server-ca", "b has the caSecret pullpass-server-ca, and that is keys.serverCASecret"),
        ("caSecret=pullpass-seed", "b has the caSecret pullpass-seed, and that is keys.seedSecret"),
        (
            "trustConfigMap=pullpass-server-trust",
            "b has the trustConfigMap pullpass-server-trust, and that is keys.serverTrustConfigMap",
        ),
        ("name=B", "name"),
        (f"name={'b' * 31}", "name"),
        ("service=", "service"),
        ("realm=https://b.example.com/token", "realm"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(helm: Helm, change: str, said: str) -> None:
    assert said in helm.refusal(*SECOND, f"--set=registries[0].{change}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("caSecret=one", "serverCASecret=one"), "default has the caSecret one, and that is keys.serverCASecret"),
        (("caSecret=one", "seedSecret=one"), "default has the caSecret one, and that is keys.seedSecret"),
        (("serverCASecret=one", "seedSecret=one"), "keys.serverCASecret and keys.seedSecret are both one"),
        (
            ("trustConfigMap=one", "serverTrustConfigMap=one"),
            "default has the trustConfigMap one, and that is keys.serverTrustConfigMap",
        ),
    ],
)
def test_no_two_keys_are_in_one_place(helm: Helm, changes: tuple[str, ...], said: str) -> None:
    assert said in helm.refusal(*(f"--set=keys.{change}" for change in changes))


def test_two_further_registries_need_names_of_their_own(helm: Helm) -> None:
    third = ("--set=registries[1].name=b", "--set=registries[1].hosts={c.example.com}", "--set=registries[1].service=c")
    assert "b has the name b, and so has b" in helm.refusal(*SECOND, *third)
