"""What the API server makes of the chart: its objects, its pods under Pod Security, and what its roles grant."""

import asyncio
import json
from typing import Any

import pytest

from tests.chaos.places import TEAM
from tests.chaos.programs import CREDENTIALS, SYSTEM
from tests.chaos.stage import Stage
from tests.chaos.waiting import eventually
from tests.cluster import install, toolchain
from tests.contract.chart.rendering import CASES, Helm

pytestmark = [pytest.mark.controlplane, pytest.mark.asyncio(loop_scope="package")]

PROMETHEUS = ("ServiceMonitor", "PrometheusRule")
"""Kinds of others, which a cluster need not have."""


async def kubectl(stage: Stage, *arguments: str, input: str | None = None, check: bool = True) -> str:
    done = await asyncio.to_thread(stage.cluster.kubectl, *arguments, input=input, check=check)
    return done.stdout + done.stderr


async def test_the_version_is_the_one_that_was_asked_for(stage: Stage) -> None:
    version = json.loads(await kubectl(stage, "get", "--raw", "/version"))
    assert version["gitVersion"] == toolchain.kubernetes_version(stage.cluster.record.kubernetes)


@pytest.mark.parametrize("case", CASES)
async def test_every_object_is_accepted(stage: Stage, case: str) -> None:
    """By server-side apply in place of what Helm has installed, with unknown fields refused."""
    version = toolchain.kubernetes_version(stage.cluster.record.kubernetes)
    manifests = Helm(toolchain.tool("helm")).render("--kube-version", version, case=case)
    ours = [dict(manifest) for manifest in manifests if manifest["kind"] not in PROMETHEUS]
    await kubectl(stage, "create", "namespace", "vault", check=False)  # where the full values have their records
    apply = ["apply", "--server-side", "--field-manager=helm", "--dry-run=server", "--validate=strict", "-f", "-"]
    said = await kubectl(stage, *apply, input=json.dumps({"apiVersion": "v1", "kind": "List", "items": ours}))
    assert len(said.splitlines()) == len(ours), said
    assert "Warning" not in said


async def test_helm_upgrades_what_it_has_installed(stage: Stage) -> None:
    values = ["--reuse-values", "--set=systemScopeMaps.create=true"]
    await asyncio.to_thread(install.helm, stage.cluster, "upgrade", install.NAME, str(install.CHART), *values)
    maps = json.loads(await kubectl(stage, "get", "scopemaps", "-o", "json"))["items"]
    assert {"repositories-pull", "repositories-push", "repositories-admin"} <= {m["metadata"]["name"] for m in maps}


async def test_pods_are_admitted_where_pod_security_is_restricted(stage: Stage) -> None:
    """The controllers make them; there is no node for them to run on."""
    await kubectl(stage, "label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=restricted", "--overwrite")
    refused = await kubectl(stage, "run", "root", "--image=x", "--dry-run=server", f"--namespace={SYSTEM}", check=False)
    assert "violates PodSecurity" in refused
    await kubectl(stage, "delete", "pods", "--all", f"--namespace={SYSTEM}")
    deployments = await items(stage, "deployments")
    wanted = {item["metadata"]["name"]: item["spec"]["replicas"] for item in deployments}

    async def all_there() -> bool:
        found = await items(stage, "deployments")
        return wanted == {item["metadata"]["name"]: item["status"].get("replicas", 0) for item in found}

    await eventually(all_there, f"pods are there: {wanted}")
    assert sum(wanted.values()) == len(await items(stage, "pods"))


async def items(stage: Stage, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(await kubectl(stage, "get", kind, f"--namespace={SYSTEM}", "-o", "json"))[
        "items"
    ]
    return found


@pytest.mark.parametrize(
    ("who", "verb", "what", "namespace", "may"),
    [
        (install.OPERATOR, "patch", "registrytokens/status", TEAM, True),
        (install.OPERATOR, "update", "secrets", TEAM, True),
        (install.OPERATOR, "update", "leases/pullpass-operator", SYSTEM, True),
        (install.OPERATOR, "update", "leases/another", SYSTEM, False),
        (install.OPERATOR, "patch", "registrytokens", TEAM, False),
        (install.TOKEN_SERVER, "watch", "secrets", CREDENTIALS, True),
        (install.TOKEN_SERVER, "get", "secrets", SYSTEM, False),
        (install.TOKEN_SERVER, "get", "secrets", TEAM, False),
        (install.TOKEN_SERVER, "patch", "registrytokens/status", TEAM, False),
    ],
)
async def test_the_roles_of_the_processes(
    stage: Stage, who: str, verb: str, what: str, namespace: str, may: bool
) -> None:
    assert await can(stage, f"system:serviceaccount:{SYSTEM}:{who}", verb, what, namespace) is may


async def test_who_may_edit_may_edit_tokens(stage: Stage) -> None:
    """By aggregation, which is a controller's work."""
    await kubectl(stage, "create", "rolebinding", "editor", "--clusterrole=edit", "--user=jane", f"--namespace={TEAM}")

    async def may() -> bool:
        return await can(stage, "jane", "create", "registrytokens", TEAM)

    await eventually(may, "an editor may create tokens")
    assert not await can(stage, "jane", "create", "registrytokens", "default")
    assert not await can(stage, "jane", "patch", "registrytokens/status", TEAM)
    assert not await can(stage, "jane", "update", "scopemaps", TEAM)


async def can(stage: Stage, who: str, verb: str, what: str, namespace: str) -> bool:
    """What the API server says of somebody's right."""
    resource, _, rest = what.partition("/")
    attributes = {"verb": verb, "resource": resource, "namespace": namespace}
    attributes["group"] = {"secrets": "", "leases": "coordination.k8s.io"}.get(resource, "pullpass.dev")
    if rest:
        attributes["subresource" if rest == "status" else "name"] = rest
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": who, "resourceAttributes": attributes},
    }
    if who.startswith("system:serviceaccount:"):
        review["spec"]["groups"] = ["system:serviceaccounts", "system:authenticated"]  # type: ignore[index]
    answer = await stage.api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    allowed: bool = answer["status"]["allowed"]
    return allowed
