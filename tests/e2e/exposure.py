"""Keep what the whole run makes known, to see at its end that no secret is in it.

Pods and namespaces come and go, and their logs and events with them: so logs are followed from the start, and
tenants hand over their objects before they are deleted.
"""

import base64
import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import toolchain
from tests.cluster.cluster import Cluster
from tests.cluster.install import CREDENTIALS_NAMESPACE, NAMESPACE

_PULL_SECRETS = "/api/v1/secrets?watch=true&labelSelector=pullpass.dev/component%3Dpull-secret"


@dataclass(frozen=True)
class Text:
    """Something that people can read, and where it was."""

    source: str
    content: str


class Exposure:
    """Passwords seen in pull secrets, logs of the product's pods, and texts of objects, from start to end."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self._cluster = cluster
        self._logs = directory / "logs"
        self._logs.mkdir()
        self._followers: dict[str, subprocess.Popen[bytes]] = {}
        self._over = threading.Event()
        self._watch = self._kubectl("get", "--raw", _PULL_SECRETS, stdout=subprocess.PIPE)
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._read, self._follow)]
        self.passwords: dict[str, str] = {}
        """Password and its login name."""
        self.texts: list[Text] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        self._watch.terminate()
        for thread in self._threads:
            thread.join(timeout=10)
        for process in (self._watch, *self._followers.values()):
            process.terminate()
            process.wait(timeout=10)
        if self._watch.stdout:
            self._watch.stdout.close()

    def keep(self, namespace: str) -> None:
        """Keep the objects of a namespace that is about to be deleted."""
        kinds = ("events", "registrytokens", "serviceaccounts", "pods", "secrets")
        for kind, found in self._objects(namespace, kinds):
            self.texts.append(Text(f"{namespace}: {kind}", json.dumps(found)))

    def everything(self) -> Iterator[Text]:
        """What was kept, what the pods have logged, and every object of the cluster; of Secrets not the data."""
        yield from self.texts
        for log in sorted(self._logs.iterdir()):
            yield Text(f"log of {log.name}", log.read_text(errors="replace"))
        for pod in self._pods():
            previous = ("logs", pod, "-n", NAMESPACE, "--all-containers", "--previous")
            done = self._cluster.kubectl(*previous, check=False)
            if done.returncode == 0:
                yield Text(f"previous log of {pod}", done.stdout)
        listing = self._cluster.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()
        for kind, found in self._objects(None, tuple(listing)):
            yield Text(f"all {kind}", json.dumps(found))
        get = ("get", "secrets", "-n", CREDENTIALS_NAMESPACE, "-o", "json")
        for secret in json.loads(self._cluster.kubectl(*get).stdout)["items"]:
            for key, value in secret.get("data", {}).items():
                text = base64.b64decode(value).decode(errors="replace")
                yield Text(f"secrets {secret['metadata']['name']}, {key}", text)

    def logs(self) -> Iterator[Text]:
        """The logs of the product's pods, those that are gone included."""
        for log in sorted(self._logs.iterdir()):
            yield Text(f"log of {log.name}", log.read_text(errors="replace"))

    def forms(self) -> dict[str, str]:
        """Every spelling of every password seen: as it is, and as pull secrets have it; each with its owner."""
        found = {}
        for password, username in self.passwords.items():
            found[password] = username
            # The secret part alone too, should something cut the rest off.
            found[password[15:47]] = username
            found[base64.b64encode(f"{username}:{password}".encode()).decode()] = username
            found[base64.b64encode(password.encode()).decode().rstrip("=")] = username
        return found

    def _read(self) -> None:
        for line in self._watch.stdout or ():
            with contextlib.suppress(KeyError, ValueError):
                data = json.loads(line)["object"]["data"][".dockerconfigjson"]
                for entry in json.loads(base64.b64decode(data))["auths"].values():
                    self.passwords[entry["password"]] = entry["username"]

    def _follow(self) -> None:
        while not self._over.wait(0.5):
            for pod in self._pods():
                running = self._followers.get(pod)
                if running is None or running.poll() is not None:
                    follow = ("logs", "--follow", "--all-containers", "-n", NAMESPACE, pod)
                    with open(self._logs / pod.partition("/")[2], "ab") as log:
                        self._followers[pod] = self._kubectl(*follow, stdout=log)

    def _pods(self) -> list[str]:
        get = ("get", "pods", "-n", NAMESPACE, "--field-selector=status.phase=Running", "-o", "name")
        return self._cluster.kubectl(*get, check=False).stdout.split()

    def _kubectl(self, *arguments: str, stdout: Any) -> subprocess.Popen[bytes]:
        kubeconfig = f"--kubeconfig={self._cluster.kubeconfig}"
        command = [str(toolchain.tool("kubectl")), kubeconfig, *arguments]
        return subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL)

    def _objects(self, namespace: str | None, kinds: tuple[str, ...]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        where = ["--all-namespaces"] if namespace is None else ["-n", namespace]
        for kind in kinds:
            done = self._cluster.kubectl("get", kind, *where, "-o", "json", check=False)
            if done.returncode == 0:
                found = json.loads(done.stdout)["items"]
                if kind == "secrets":
                    found = [{key: secret[key] for key in secret if key != "data"} for secret in found]
                yield kind, found
