"""An API server in memory, as far as keys need one."""

import copy
from typing import Any

from pullpass.kube.client import Conflict, Kube, NotFound, Unavailable
from pullpass.kube.resources import Resource

Key = tuple[Resource, str, str]
"""Kind, namespace and name."""


class Memory(Kube):
    """Objects in a dict, with versions; `calls` are the writes, `meanwhile` what others write just before."""

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.meanwhile: dict[Key, dict[str, Any]] = {}
        self.fail_on: str | None = None

    def put(self, key: Key, body: dict[str, Any]) -> dict[str, Any]:
        version = str(int(self.objects.get(key, {}).get("metadata", {}).get("resourceVersion", "0")) + 1)
        stored = copy.deepcopy(body)
        stored["metadata"] |= {"name": key[2], "namespace": key[1], "resourceVersion": version}
        self.objects[key] = stored
        return copy.deepcopy(stored)

    def _write(self, verb: str, key: Key) -> None:
        if self.fail_on == key[2]:
            raise Unavailable("no answer from the API server")
        if key in self.meanwhile:
            self.put(key, self.meanwhile.pop(key))
        self.calls.append((verb, key[2]))

    async def get(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any]:
        try:
            return copy.deepcopy(self.objects[resource, str(namespace), name])
        except KeyError:
            raise NotFound(f"{name} not found", 404) from None

    async def create(self, resource: Resource, namespace: str | None, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        key = (resource, str(namespace), body["metadata"]["name"])
        self._write("create", key)
        if key in self.objects:
            raise Conflict("exists", 409)
        return self.put(key, body)

    async def replace(
        self, resource: Resource, namespace: str | None, name: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        key = (resource, str(namespace), name)
        self._write("replace", key)
        assert "resourceVersion" in body["metadata"]
        if self.objects[key]["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise Conflict("changed", 409)
        return self.put(key, body)
