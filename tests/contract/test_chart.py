"""What the chart renders, under Helm 3 and Helm 4."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import toolchain
from tests.contract.charts import (
    CASES,
    CHART,
    CRDS_KNOWN,
    CREDENTIALS,
    NAMESPACE,
    Helm,
    Manifest,
    arguments_of,
    environment_of,
    grants,
    notes,
    of_kind,
    one,
    pods,
)

# The chart as a whole


@pytest.mark.parametrize("case", CASES)
def test_lint_finds_nothing(helm: Helm, case: str) -> None:
    version = ("--kube-version", "1.36.0")
    done = helm.run("lint", "--strict", CHART, "--values", CHART / "ci" / case, *version)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@pytest.mark.parametrize("case", CASES)
def test_render_is_the_same_every_time(helm: Helm, case: str) -> None:
    values = ("--values", CHART / "ci" / case)
    first, second = (helm.template(*values) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout


@pytest.mark.parametrize("case", CASES)
def test_both_helms_render_the_same(case: str) -> None:
    three, four = (Helm(toolchain.tool(name)).render(case=case) for name in ("helm3", "helm"))

    def key(manifest: Manifest) -> str:
        return json.dumps(manifest, sort_keys=True)

    assert sorted(three, key=key) == sorted(four, key=key)


def test_nothing_is_made_up_or_looked_up_by_a_template() -> None:
    text = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    assert not re.findall(r"\b(lookup|genCA|genSignedCert|rand\w+|uuidv4|now)\b(?=[^}\n]*}})", text)


@pytest.mark.parametrize("case", CASES)
def test_every_object_has_the_standard_labels(helm: Helm, case: str) -> None:
    for manifest in helm.render(case=case):
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "pullpass", manifest["metadata"]
        assert labels["app.kubernetes.io/instance"] == "pullpass"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["helm.sh/chart"].startswith("pullpass-")


@pytest.mark.parametrize("case", CASES)
def test_selectors_select_their_own_pods_only(helm: Helm, case: str) -> None:
    manifests = helm.render(case=case)
    labels = {
        deployment["metadata"]["name"]: deployment["spec"]["template"]["metadata"]["labels"]
        for deployment in of_kind(manifests, "Deployment")
    }
    for manifest in of_kind(manifests, "Deployment", "Service", "PodDisruptionBudget"):
        selector = manifest["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        selected = [name for name, pod in labels.items() if wanted.items() <= pod.items()]
        assert selected == [manifest["metadata"]["name"]], manifest["kind"]


@pytest.mark.parametrize("argument", ["--set=fullnameOverride=" + "x" * 63, "--set=nameOverride=" + "y" * 70, ""])
def test_names_stay_names(helm: Helm, argument: str) -> None:
    release = "a-release-with-a-name-that-is-as-long-as-helm-allows"
    extra = (argument,) if argument else ()
    for manifest in helm.render(*extra, case="trial-values.yaml", release=release):
        if manifest["kind"] not in ("CustomResourceDefinition", "ScopeMap"):
            assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", manifest["metadata"]["name"])
        for value in manifest["metadata"]["labels"].values():
            assert len(value) <= 63


def test_notes_give_the_next_command(helm: Helm, tmp_path: Path) -> None:
    said = notes(helm, tmp_path, "trial-values.yaml")
    _, _, rest = said.partition("<<EOF\n")
    scope_map, token = yaml.safe_load_all(rest.partition("\nEOF\n")[0])
    assert (scope_map["kind"], token["kind"]) == ("ScopeMap", "RegistryToken")
    assert token["spec"]["scopeMapRef"]["name"] == scope_map["metadata"]["name"]
    assert token["metadata"]["namespace"] in scope_map["spec"]["allowedNamespaces"]["names"]
    assert "localhost:30500/samples/" in said


def test_notes_warn(helm: Helm, tmp_path: Path) -> None:
    trial = notes(helm, tmp_path, "trial-values.yaml", "--set=tokenServer.replicas=1")
    for warning in ("one token server replica", "plain http", "emptyDir", "keeps the CRDs", "helm upgrade"):
        assert warning in trial
    calm = notes(helm, tmp_path, "full-values.yaml", *CRDS_KNOWN)
    assert "WARNING" not in calm
    assert "helm upgrade" not in calm
    assert "deletes every scope map and token" in notes(helm, tmp_path, "full-values.yaml", "--set=crds.keep=false")


# Values


def test_schema_is_a_schema_and_knows_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def check(value: Mapping[str, Any], schema_of_it: Mapping[str, Any], path: str) -> None:
        if "$ref" in schema_of_it:
            schema_of_it = schema["definitions"][schema_of_it["$ref"].rpartition("/")[2]]
        if "properties" not in schema_of_it:
            return
        for key, below in value.items():
            assert key in schema_of_it["properties"], f"{path}.{key} is not in the schema"
            if isinstance(below, dict):
                check(below, schema_of_it["properties"][key], f"{path}.{key}")

    check(values, schema, "")
    unused = set(schema["properties"]) - set(values) - {"enabled"}
    assert not unused


def test_readme_lists_every_value_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([A-Za-z.]+)` \| (.+?) \|", (CHART / "README.md").read_text(), re.MULTILINE))
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def leaves(value: object, path: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict) and value and rows.get(path) != "see `values.yaml`":
            for key, below in value.items():
                yield from leaves(below, f"{path}.{key}" if path else key)
        else:
            listed = rows.get(path) == "see `values.yaml`"
            yield path, "see `values.yaml`" if listed else f"`{json.dumps(value)}`"

    assert rows == dict(leaves(values, ""))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["registryHosts={https://registry.example.com}"], "is not a host"),
        (["registryHosts={registry.example.com/team}"], "is not a host"),
        (["accessTokens.lifetimeSeconds=59"], "Use at least 60"),
        (["accessTokens.realm=tokens.example.com"], "is not the URL of a token server"),
        (["registry.enabled=true"], "registry.enabled needs accessTokens.realm"),
        ([f"credentials.namespace={NAMESPACE}"], "Choose another"),
        (
            [
                "tokenServer.podDisruptionBudget.minAvailable=1",
                "tokenServer.podDisruptionBudget.maxUnavailable=0",
            ],
            "a budget takes one of them",
        ),
        (["tokenServer.drainSeconds=26"], "drainSeconds is over 25"),
        (["tokenServer.maxStalenessSeconds=119"], "Use 0, for no limit, or at least 120"),
        (
            ["tokenServer.service.externalTrafficPolicy=Local"],
            "externalTrafficPolicy is set, but",
        ),
        (["systemScopeMaps.allowedNamespaces.from=Selector"], "from is Selector without a selector"),
        (
            ["systemScopeMaps.allowedNamespaces.from=All", "systemScopeMaps.allowedNamespaces.names={web}"],
            "they would be ignored",
        ),
        (["tokenServer.service.nodePort=30501"], "set tokenServer.service.type to NodePort"),
        (["registry.service.nodePort=30500"], "set registry.service.type to NodePort"),
        (["registry.persistence.existingClaim=images"], "the claim would not be used"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_words(helm: Helm, arguments: list[str], sentence: str) -> None:
    assert sentence in helm.refusal(*(f"--set={argument}" for argument in arguments))


def test_hosts_have_to_be_given(helm: Helm) -> None:
    assert "registryHosts is empty: name the host that images are pulled from" in helm.refusal(host=False)


@pytest.mark.parametrize(
    ("argument", "where"),
    [
        ("oprator.replicas=2", "oprator"),
        ("operator.replica=2", "replica"),
        ("tokenServer.replicas=two", "tokenServer"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.digest=sha256:short", "digest"),
        ("credentials.bcryptCost=13", "bcryptCost"),
        ("operator.writesPerSecond=0", "writesPerSecond"),
        ("logging.level=loud", "level"),
        ("tokenServer.service.nodePort=70000", "nodePort"),
        ("systemScopeMaps.allowedNamespaces.from=Some", "from"),
    ],
)
def test_values_of_a_wrong_form_are_refused_by_the_schema(helm: Helm, argument: str, where: str) -> None:
    said = helm.refusal("--set", argument)
    assert "values don't meet the specifications of the schema" in said
    assert where in said


def test_umbrella_chart_may_hand_down_its_globals(helm: Helm, tmp_path: Path) -> None:
    parent = tmp_path / "umbrella"
    shutil.copytree(CHART, parent / "charts/pullpass")
    dependency = {"name": "pullpass", "version": "0.1.0", "condition": "pullpass.enabled"}
    chart = {"apiVersion": "v2", "name": "umbrella", "version": "0.1.0", "dependencies": [dependency]}
    values = {
        "global": {"imageRegistry": "mirror.example.com", "somethingElse": {"of": "another chart"}},
        "pullpass": {"enabled": True, "registryHosts": ["registry.example.com"]},
    }
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))
    (parent / "values.yaml").write_text(yaml.safe_dump(values))
    done = helm.template(chart=parent)
    assert done.returncode == 0, done.stderr
    assert 'image: "mirror.example.com/pullpass:' in done.stdout


def test_images_by_tag_digest_and_mirror(helm: Helm) -> None:
    def images(*arguments: str, case: str = "default-values.yaml") -> list[str]:
        return [pod["spec"]["containers"][0]["image"] for pod in pods(helm.render(*arguments, case=case))]

    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert images() == [f"pullpass:{version}"] * 2
    assert images("--set-string=image.tag=7") == ["pullpass:7"] * 2
    digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    full = images(case="full-values.yaml")
    assert full.count(f"mirror.example.com/pullpass@{digest}") == 2
    assert full.count("mirror.example.com/registry:3.1.2") == 1


def test_settings_of_pods_reach_them(helm: Helm) -> None:
    manifests = helm.render(case="full-values.yaml")
    pod = one(manifests, "Deployment", "pullpass-operator")["spec"]["template"]
    assert pod["metadata"]["labels"]["tier"] == "control"
    assert pod["metadata"]["labels"]["team"] == "platform"
    assert pod["metadata"]["annotations"]["example.com/note"] == "operator"
    spec = pod["spec"]
    assert spec["imagePullSecrets"] == [{"name": "own"}, {"name": "mirror"}]
    assert spec["priorityClassName"] == "system-cluster-critical"
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["affinity"] == {"nodeAffinity": {}}
    assert spec["serviceAccountName"] == "my-operator"
    (container,) = spec["containers"]
    assert [variable["name"] for variable in container["env"]][-2:] == ["POD_NAME", "HTTPS_PROXY"]
    assert container["args"][-1] == "--metrics-port=8082"


# Pods


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
        "--token-server-service=pullpass-token-server",
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
    assert one(manifests, "Service", "pullpass-token-server")


def test_token_server_is_told_what_to_issue(helm: Helm) -> None:
    assert arguments_of(helm.render(), "pullpass-token-server") == [
        "token-server",
        f"--credentials-namespace={CREDENTIALS}",
        "--registries=/etc/pullpass/registries.json",
        "--port=8080",
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
        probes = [container[probe] for probe in ("livenessProbe", "readinessProbe") if probe in container]
        assert {probe["httpGet"]["port"] for probe in probes} <= names
        service = one(manifests, "Service", deployment["metadata"]["name"])
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


# Rights


@pytest.mark.parametrize("case", CASES)
def test_no_role_says_everything(helm: Helm, case: str) -> None:
    for role in of_kind(helm.render(case=case), "Role", "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_token_server_reads_secrets_of_one_namespace(helm: Helm) -> None:
    rules = list(grants(helm.render(), "pullpass-token-server"))
    assert {verb for _, rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert [namespace for namespace, rule in rules if "secrets" in rule["resources"]] == [CREDENTIALS]
    everywhere = {name for namespace, rule in rules if namespace is None for name in rule["resources"]}
    assert everywhere == {"scopemaps", "registrytokens", "namespaces"}


def test_token_server_follows_the_credentials_namespace(helm: Helm) -> None:
    manifests = helm.render(case="full-values.yaml")
    rules = list(grants(manifests, "my-token-server"))
    assert [namespace for namespace, rule in rules if "secrets" in rule["resources"]] == ["vault"]
    assert environment_of(manifests, "pullpass-operator")["PULLPASS_CREDENTIALS_NAMESPACE"] == "vault"
    assert not of_kind(manifests, "Namespace")


def test_operator_has_no_more_than_this(helm: Helm) -> None:
    rights = {
        (namespace, resource, tuple(rule.get("resourceNames", ()))): set(rule["verbs"])
        for namespace, rule in grants(helm.render(), "pullpass-operator")
        for resource in rule["resources"]
    }
    read = {"get", "list", "watch"}
    assert rights == {
        (None, "scopemaps", ()): read,
        (None, "registrytokens", ()): read,
        (None, "registrytokens/status", ()): {"patch"},
        (None, "namespaces", ()): read,
        (None, "serviceaccounts", ()): read | {"patch"},
        (None, "secrets", ()): read | {"create", "update", "patch", "delete"},
        (None, "events", ()): {"create"},
        (NAMESPACE, "leases", ()): {"create"},
        (NAMESPACE, "leases", ("pullpass-operator",)): {"get", "update"},
        (NAMESPACE, "configmaps", ()): {"create"},
        (NAMESPACE, "configmaps", ("pullpass-trust",)): {"get", "update"},
        (NAMESPACE, "endpointslices", ()): {"list"},
    }


def test_people_change_tokens_but_no_scope_map(helm: Helm) -> None:
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    changing = {"create", "update", "patch", "delete", "deletecollection"}
    for role in of_kind(helm.render(), "ClusterRole"):
        labels = {label for label in role["metadata"]["labels"] if label.startswith(prefix)}
        if not labels:
            continue
        changed = {name for rule in role["rules"] if changing & set(rule["verbs"]) for name in rule["resources"]}
        assert changed == (set() if f"{prefix}view" in labels else {"registrytokens"})
    roles = of_kind(helm.render("--set=rbac.aggregate=false"), "ClusterRole")
    assert {role["metadata"]["name"] for role in roles} == {"pullpass-operator", "pullpass-token-server"}


def test_roles_can_be_left_to_others(helm: Helm) -> None:
    kinds = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    assert not of_kind(helm.render("--set=rbac.create=false"), *kinds)


# The kinds and their objects


def test_crds_are_kept_and_whole(helm: Helm) -> None:
    files = {file.name: yaml.safe_load(file.read_text()) for file in (CHART / "files/crds").glob("*.yaml")}
    assert files.keys() == {"pullpass.dev_scopemaps.yaml", "pullpass.dev_registrytokens.yaml"}
    rendered = {m["metadata"]["name"]: m for m in of_kind(helm.render(), "CustomResourceDefinition")}
    assert rendered.keys() == {file["metadata"]["name"] for file in files.values()}
    for file in files.values():
        crd = rendered[file["metadata"]["name"]]
        assert crd["spec"] == file["spec"]
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert file["metadata"].get("annotations", {}).items() <= crd["metadata"]["annotations"].items()


def test_crds_can_go_with_the_release_or_be_left_out(helm: Helm) -> None:
    for crd in of_kind(helm.render("--set=crds.keep=false"), "CustomResourceDefinition"):
        assert "helm.sh/resource-policy" not in crd["metadata"].get("annotations", {})
    assert not of_kind(helm.render("--set=crds.install=false"), "CustomResourceDefinition")


def test_credentials_namespace_outlives_the_release(helm: Helm) -> None:
    (namespace,) = of_kind(helm.render(), "Namespace")
    assert namespace["metadata"]["name"] == CREDENTIALS
    assert namespace["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not of_kind(helm.render("--set=credentials.createNamespace=false"), "Namespace")


def test_system_scope_maps_are_usable_by_none_until_allowed(helm: Helm) -> None:
    maps = {m["metadata"]["name"]: m["spec"] for m in of_kind(helm.render(), "ScopeMap")}
    actions = {name: spec["rules"][0]["actions"] for name, spec in maps.items()}
    assert actions == {
        "repositories-pull": ["content/read"],
        "repositories-push": ["content/read", "content/write"],
        "repositories-admin": [
            "content/read",
            "content/write",
            "content/delete",
            "metadata/read",
            "metadata/write",
        ],
    }
    for spec in maps.values():
        assert [rule["repositories"] for rule in spec["rules"]] == [["*"]]
        assert spec["allowedNamespaces"] == {"from": "Names", "names": []}
    assert not of_kind(helm.render("--set=systemScopeMaps.create=false"), "ScopeMap")


def test_system_scope_maps_are_allowed_as_the_values_say(helm: Helm) -> None:
    path = "--set=systemScopeMaps.allowedNamespaces"
    for scope_map in of_kind(helm.render(f"{path}.from=All"), "ScopeMap"):
        assert scope_map["spec"]["allowedNamespaces"] == {"from": "All"}
    for scope_map in of_kind(helm.render(case="full-values.yaml"), "ScopeMap"):
        selector = {"matchLabels": {"registry": "yes"}}
        assert scope_map["spec"]["allowedNamespaces"] == {"from": "Selector", "selector": selector}


def test_scope_maps_wait_for_their_kind(helm: Helm) -> None:
    done = helm.template("--values", CHART / "ci/default-values.yaml")
    assert done.returncode == 0
    assert "kind: ScopeMap\nmetadata" not in done.stdout


# What is off until asked for


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

    assert ports("pullpass-operator", "egress") == {53, 443, 6443, 8080}
    assert ports("pullpass-operator", "ingress") == {8081, 8082}
    assert ports("pullpass-token-server", "egress") == {53, 443, 6443}
    (ingress,) = policies["pullpass-token-server"]["ingress"]
    callers = [
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for peer in ingress["from"]
        if "podSelector" in peer
    ]
    assert callers == ["operator"]


def test_monitors_find_the_services(helm: Helm) -> None:
    assert not of_kind(helm.render(), "ServiceMonitor")
    manifests = helm.render(case="full-values.yaml")
    for monitor in of_kind(manifests, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        services = [s for s in of_kind(manifests, "Service") if wanted <= s["metadata"]["labels"].items()]
        assert [service["metadata"]["name"] for service in services] == [monitor["metadata"]["name"]]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in [port["name"] for port in services[0]["spec"]["ports"]]
