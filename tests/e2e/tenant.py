"""A namespace of the cluster with what an application team has in it: tokens, pull secrets, pods."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.cluster.install import CREDENTIALS_NAMESPACE, Release

from .tokens import Answer, Credentials, login
from .waiting import until, until_empty

API = "pullpass.dev/v1alpha1"
PULL = ("content/read",)


class Tenant:
    """One namespace, and the scope maps that begin with its name."""

    def __init__(self, release: Release, namespace: str) -> None:
        self.release = release
        self.namespace = namespace

    def create(self) -> None:
        """Make the namespace and wait for the ServiceAccount without which no pod is admitted."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        until(lambda: self.find("serviceaccount", "default"), f"ServiceAccount of {self.namespace}")

    def delete(self, *, wait: bool = False) -> None:
        """Delete the namespace and its scope maps."""
        self.kubectl("delete", "namespace", self.namespace, f"--wait={str(wait).lower()}", "--ignore-not-found")
        names = self.kubectl("get", "scopemaps", "-o", "name").stdout.split()
        for name in names:
            if name.partition("/")[2].startswith(f"{self.namespace}-"):
                self.kubectl("delete", name, "--ignore-not-found")

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> Any:
        return self.release.cluster.kubectl("-n", self.namespace, *arguments, input=input, check=check, timeout=150)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        content = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", input=json.dumps(content))

    def find(self, kind: str, name: str) -> dict[str, Any]:
        """The object, or an empty dict where there is none."""
        done = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found")
        return dict(json.loads(done.stdout or "{}"))

    def patch(self, kind: str, name: str, **spec: Any) -> None:
        """Merge `spec` into the object's spec."""
        body = json.dumps({"spec": spec})
        self.kubectl("patch", kind, name, "--type=merge", "--patch", body)

    # Scope maps

    def map_name(self, name: str) -> str:
        """The cluster-wide name of a scope map of this tenant."""
        return f"{self.namespace}-{name}"

    def scope_map(
        self,
        name: str,
        repositories: Sequence[str],
        actions: Sequence[str] = PULL,
        *,
        allowed: Mapping[str, Any] | None = None,
        registry: str = "default",
    ) -> None:
        """Apply a scope map of one rule, for this namespace unless `allowed` says otherwise."""
        spec = {
            "registry": registry,
            "rules": [{"repositories": list(repositories), "actions": list(actions)}],
            "allowedNamespaces": allowed or {"from": "Names", "names": [self.namespace]},
        }
        meta = {"name": self.map_name(name)}
        self.apply({"apiVersion": API, "kind": "ScopeMap", "metadata": meta, "spec": spec})

    # Tokens

    def token(self, name: str, scope_map: str, **spec: Any) -> None:
        """Apply a RegistryToken; `spec` is its spec but for the scope map."""
        whole = {"scopeMapRef": {"name": self.map_name(scope_map)}, **spec}
        meta = {"name": name, "namespace": self.namespace}
        self.apply({"apiVersion": API, "kind": "RegistryToken", "metadata": meta, "spec": whole})

    def ready(self, *names: str, timeout: float = 60) -> None:
        """Wait until the operator has made these tokens ready, as they are written now."""

        def not_ready() -> dict[str, Any]:
            tokens = {name: self.find("registrytoken", name) for name in names}
            return {name: condition(token, "Ready") for name, token in tokens.items() if not ready(token)}

        until_empty(not_ready, "tokens that are not Ready", timeout=timeout)

    def reasons(self, name: str) -> dict[str, str]:
        """The reasons of the token's conditions that are not True, by type."""
        conditions = self.find("registrytoken", name).get("status", {}).get("conditions", [])
        return {one["type"]: one["reason"] for one in conditions if one["status"] != "True"}

    def password_status(self, name: str, id: str) -> dict[str, Any]:
        """What the status of the token says of one password."""
        passwords = self.find("registrytoken", name).get("status", {}).get("passwords", [])
        return next((dict(entry) for entry in passwords if entry["id"] == id), {})

    def credentials(self, secret: str, host: str | None = None) -> Credentials:
        """The login that a pull secret holds for a host, the release's registry if none is given."""
        found = self.find("secret", secret)
        assert found, f"no Secret {self.namespace}/{secret}"
        return Credentials.read(found, host or self.release.registry)

    def login(self, credentials: Credentials, *scopes: str, service: str = "registry") -> Answer:
        return login(self.release, credentials, *scopes, service=service)

    def refused(self, credentials: Credentials, *, timeout: float = 10) -> None:
        """Wait until the token server refuses this login."""
        until(lambda: self.login(credentials).status == 401, "the login is refused", timeout=timeout)

    def accepted(self, credentials: Credentials, *, timeout: float = 10) -> None:
        """Wait until the token server accepts this login."""
        until(lambda: self.login(credentials).accepted, "the login is accepted", timeout=timeout)

    def records(self) -> list[str]:
        """Names of the credential records of this namespace's tokens."""
        selector = "pullpass.dev/component=credential-record"
        get = ("get", "secrets", "-n", CREDENTIALS_NAMESPACE, "-l", selector, "-o", "json")
        items = json.loads(self.release.cluster.kubectl(*get).stdout)["items"]
        owners = {item["metadata"]["name"]: item["metadata"]["annotations"]["pullpass.dev/token"] for item in items}
        return [name for name, owner in owners.items() if owner.startswith(f"{self.namespace}/")]

    def pull_secret_names(self, service_account: str = "default") -> list[str]:
        """The imagePullSecrets of a ServiceAccount."""
        found = self.find("serviceaccount", service_account)
        return [entry["name"] for entry in found.get("imagePullSecrets", [])]

    # Pods

    def pod(self, name: str, image: str, service_account: str = "default", host: str | None = None) -> None:
        """Make a pod that pulls `repository:tag` every time it starts, from the release's registry if no other host is
        given."""
        place = f"{host or self.release.registry}/{image}"
        container = {"name": "main", "image": place, "imagePullPolicy": "Always"}
        spec = {
            "serviceAccountName": service_account,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [container],
        }
        meta = {"name": name, "namespace": self.namespace}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    def runs(self, *pods: str, timeout: float = 60) -> None:
        """Wait until these pods are ready."""
        names = [f"pod/{name}" for name in pods]
        self.kubectl("wait", "--for=condition=Ready", *names, f"--timeout={timeout:.0f}s")

    def pull_failure(self, pod: str) -> str:
        """Wait for the event that says why the pod's image was not pulled, and return its message."""

        def message() -> str:
            selector = f"involvedObject.name={pod},reason=Failed"
            done = self.kubectl("get", "events", "--field-selector", selector, "-o", "json")
            messages = [str(item["message"]) for item in json.loads(done.stdout)["items"]]
            return next((text for text in messages if text.startswith("Failed to pull")), "")

        return until(message, f"an event about the image of {self.namespace}/{pod}")


def ready(token: Mapping[str, Any]) -> bool:
    """Whether the operator calls the token ready as it is written now."""
    found = condition(token, "Ready")
    generation = token.get("metadata", {}).get("generation")
    return found.get("status") == "True" and found.get("observedGeneration") == generation


def condition(token: Mapping[str, Any], type: str) -> dict[str, Any]:
    """One condition of an object, or an empty dict."""
    conditions = token.get("status", {}).get("conditions", [])
    return next((dict(one) for one in conditions if one["type"] == type), {})


def time_of(text: str) -> datetime:
    """A time of the API."""
    return datetime.fromisoformat(text).astimezone(UTC)
