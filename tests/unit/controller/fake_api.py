"""An API server in memory: objects with versions, the answers of the real one, and faults where a test wants them."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pullpass.kube.client import REQUEST_SECONDS, Conflict, Kube, NotFound, Page, Refused
from pullpass.kube.resources import EVENTS, NAMESPACES, REGISTRY_TOKENS, SECRETS, Resource
from tests.unit.controller import server_side_apply as ssa
from tests.unit.controller.jsonpatch import PatchError, apply_patch

Body = dict[str, Any]
Place = tuple[str, str, str]
"""Plural, namespace (empty where there is none), name."""


class Killed(BaseException):
    """The process ends here: nothing catches this."""


class FakeApi(Kube):
    """Objects by place. `calls` counts every request, `writes` lists those that changed something."""

    def __init__(self) -> None:
        self.objects: dict[Place, Body] = {}
        self.version = 100
        self.calls = 0
        self.writes: list[tuple[str, Place]] = []
        self.watched: list[tuple[str, str, Body]] = []
        """What a watch tells, in order: type, plural, object."""
        self.fault: tuple[int, Literal["before", "after"], BaseException] | None = None
        """At which call to raise, before or after it took effect."""
        self.refusing: dict[tuple[str, Place], BaseException] = {}
        """Writes that always fail, by verb and place."""
        self.before_write: Callable[[str, Place], None] = lambda *_: None
        """What others do just before a write."""
        self.after_write: Callable[[], None] = lambda: None
        self.page = 500
        """How many objects a page of a list has at most."""
        self._pages: list[tuple[str, list[Body]]] = []
        """What is still to come of lists that have been begun, as it was at their first page."""
        self._applied: dict[str, ssa.Fields] = {}
        """The fields that the operator applied last, by the UID of the object."""

    # what people and controllers do

    def put(self, resource: Resource, body: Body) -> Body:
        """Creates or changes an object, as somebody else does."""
        metadata = body["metadata"]
        place = (resource.plural, metadata.get("namespace", ""), metadata["name"])
        old = self.objects.get(place)
        new = copy.deepcopy(body)
        if old is not None and resource is REGISTRY_TOKENS:
            new.setdefault("status", old.get("status", {}))
        if resource is SECRETS:
            new.setdefault("type", "Opaque")
        self._store(place, new)
        return copy.deepcopy(self.objects[place])

    def edit(self, resource: Resource, namespace: str, name: str, change: Callable[[Body], None]) -> None:
        """Changes an object in place."""
        body = copy.deepcopy(self.objects[resource.plural, namespace, name])
        change(body)
        self.put(resource, body)

    def remove(self, resource: Resource, namespace: str, name: str) -> None:
        """Deletes an object."""
        body = copy.deepcopy(self.objects.pop((resource.plural, namespace, name)))
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.watched.append(("DELETED", resource.plural, body))

    def of(self, resource: Resource) -> list[Body]:
        """All objects of a kind."""
        return [body for (plural, _, _), body in sorted(self.objects.items()) if plural == resource.plural]

    # requests

    def _arrive(self) -> None:
        self.calls += 1
        if self.fault is not None and self.fault[:2] == (self.calls, "before"):
            raise self.fault[2]

    def _leave(self) -> None:
        if self.fault is not None and self.fault[:2] == (self.calls, "after"):
            raise self.fault[2]

    def _writing(self, verb: str, place: Place) -> None:
        self._arrive()
        if (verb, place) in self.refusing:
            raise self.refusing[verb, place]
        self.before_write(verb, place)

    def _written(self, verb: str, place: Place) -> Body:
        self.writes.append((verb, place))
        self.after_write()
        self._leave()
        return copy.deepcopy(self.objects[place])

    def _found(self, place: Place) -> Body:
        if place not in self.objects:
            raise NotFound(f"{place[0]} {place[2]!r} not found", 404)
        return self.objects[place]

    def _store(self, place: Place, body: Body) -> bool:
        old = self.objects.get(place)
        metadata = body["metadata"]
        if old is not None:
            metadata |= {key: old["metadata"][key] for key in ("uid", "resourceVersion", "generation")}
            if body == old:
                return False
            metadata["generation"] += body.get("spec") != old.get("spec")
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        metadata.setdefault("uid", f"uid-{self.version}")
        metadata.setdefault("generation", 1)
        self.objects[place] = body
        self.watched.append(("ADDED" if old is None else "MODIFIED", place[0], copy.deepcopy(body)))
        return True

    @staticmethod
    def _preconditions(body: Body, old: Body | None) -> None:
        for key in ("uid", "resourceVersion"):
            if key in body["metadata"] and (old is None or old["metadata"][key] != body["metadata"][key]):
                raise Conflict(f"precondition failed: {key}", 409)

    def _room(self, namespace: str) -> None:
        found = self._found((NAMESPACES.plural, "", namespace))
        if "deletionTimestamp" in found["metadata"]:
            raise Refused(f"unable to create new content in namespace {namespace}: it is being terminated", 403)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Body:
        self._arrive()
        body = copy.deepcopy(self._found((resource.plural, namespace or "", name)))
        self._leave()
        return body

    async def list_page(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        limit: int = 500,
        continue_: str | None = None,
    ) -> Page:
        self._arrive()
        if continue_ is None:
            found = [b for b in self.of(resource) if matches(b, namespace, label_selector)]
            version, items = str(self.version), copy.deepcopy(found)
        else:
            version, items = self._pages[int(continue_)]
        size, position = min(limit, self.page), None
        if len(items) > size:
            self._pages.append((version, items[size:]))
            position = str(len(self._pages) - 1)
        self._leave()
        return Page(items[:size], version, position)

    async def create(
        self, resource: Resource, namespace: str | None, body: Body, *, time_limit: float = REQUEST_SECONDS
    ) -> Body:
        place = (resource.plural, namespace or "", body["metadata"]["name"])
        self._writing("create", place)
        if resource is not EVENTS and namespace:
            self._room(namespace)
        if place in self.objects:
            raise Conflict(f"{place[0]} {place[2]!r} already exists", 409)
        self._store(place, copy.deepcopy(body))
        return self._written("create", place)

    async def replace(self, resource: Resource, namespace: str | None, name: str, body: Body) -> Body:
        place = (resource.plural, namespace or "", name)
        self._writing("replace", place)
        self._preconditions(body, self._found(place))
        self._store(place, copy.deepcopy(body))
        return self._written("replace", place)

    async def apply(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Body,
        *,
        subresource: str | None = None,
        force: bool = True,
        time_limit: float = REQUEST_SECONDS,
    ) -> Body:
        place = (resource.plural, namespace or "", name)
        self._writing("apply", place)
        old = self._found(place) if subresource else self.objects.get(place)
        self._preconditions(body, old)
        if subresource == "status":
            new = copy.deepcopy(old) or {}
            new["status"] = copy.deepcopy(body["status"])
        else:
            new = self._merged(place, old, body, force)
        self._store(place, new)
        if subresource is None:
            self._applied[self.objects[place]["metadata"]["uid"]] = ssa.fields(body)
        return self._written("apply", place)

    def _merged(self, place: Place, old: Body | None, body: Body, force: bool) -> Body:
        if old is None:
            if place[1]:
                self._room(place[1])
            return copy.deepcopy(body)
        before = self._applied.get(old["metadata"]["uid"], {})
        if not force and ssa.conflicts(old, before, body):
            raise Conflict("another manager holds a field", 409)
        if old.get("type") != body.get("type"):
            raise Refused("type: field is immutable", 422)
        if old.get("immutable") and old.get("data") != body.get("data"):
            raise Refused("data: field is immutable when `immutable` is set", 422)
        return ssa.merge(old, before, body)

    async def json_patch(
        self, resource: Resource, namespace: str | None, name: str, operations: Sequence[Body]
    ) -> Body:
        place = (resource.plural, namespace or "", name)
        self._writing("patch", place)
        try:
            new = apply_patch(self._found(place), operations)
        except PatchError:
            raise Refused("the patch does not fit", 422) from None
        self._store(place, new)
        return self._written("patch", place)

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str, resource_version: str | None = None
    ) -> None:
        place = (resource.plural, namespace or "", name)
        self._writing("delete", place)
        old = self.objects.get(place)
        if old is not None and old["metadata"]["uid"] == uid:
            if resource_version not in (None, old["metadata"]["resourceVersion"]):
                raise Conflict("precondition failed: resourceVersion", 409)
            self.remove(resource, place[1], name)
            self.writes.append(("delete", place))
            self.after_write()
        self._leave()


def matches(body: Body, namespace: str | None, selector: str | None) -> bool:
    if namespace is not None and body["metadata"].get("namespace") != namespace:
        return False
    key, _, value = (selector or "").partition("=")
    return not selector or (body["metadata"].get("labels") or {}).get(key) == value
