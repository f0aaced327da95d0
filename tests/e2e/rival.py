"""Another controller: it watches one object, and undoes what the operator does to it as soon as it sees it."""

import json
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from tests.cluster import toolchain
from tests.e2e.tenant import Tenant

BACKOFF = (0, 0, 10, 30, 70, 150, 310, 630, 1230)
"""Seconds after which the operator has done a thing once more at the earliest: the first time, the first repair,
and then a pause that doubles."""


class Rival:
    """`undo` gets each version of the object, or None where it was deleted; true if there was something to undo.

    `undone` counts that: what the operator did, as nobody else does it.
    """

    def __init__(self, tenant: Tenant, plural: str, name: str, undo: Callable[[dict[str, Any] | None], bool]) -> None:
        self._undo = undo
        self._over = threading.Event()
        path = f"/api/v1/namespaces/{tenant.namespace}/{plural}?fieldSelector=metadata.name%3D{name}"
        self._before = json.loads(tenant.release.cluster.kubectl("get", "--raw", path).stdout)
        watch = f"{path}&watch=true&resourceVersion={self._before['metadata']['resourceVersion']}"
        kubectl = [str(toolchain.tool("kubectl")), f"--kubeconfig={tenant.release.cluster.kubeconfig}"]
        command = [*kubectl, "get", "--raw", watch]
        self._watch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.undone = 0
        self.error: BaseException | None = None

    def __enter__(self) -> "Rival":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.terminate()
        self._thread.join(timeout=30)
        self._watch.wait(timeout=10)
        if self._watch.stdout:
            self._watch.stdout.close()

    def assert_few(self, seconds: float) -> None:
        """The operator has done it no more often than its back-off allows in that time, which has to be all of it."""
        assert self.error is None
        assert self.undone <= sum(pause <= seconds for pause in BACKOFF), f"{self.undone} times in {seconds:.0f} s"

    def _follow(self) -> None:
        try:
            for item in self._before["items"]:
                self.undone += self._undo(item)
            for line in self._watch.stdout or ():
                if self._over.is_set():
                    return
                event = json.loads(line)
                self.undone += self._undo(None if event["type"] == "DELETED" else event["object"])
        except BaseException as error:
            self.error = error
