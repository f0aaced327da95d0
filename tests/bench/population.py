"""Tens of thousands of tokens: each with a ScopeMap of its own, spread over some hundred namespaces."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from tests.chaos.api import NAMESPACES, SCOPE_MAPS, TOKENS, Api, secrets_of, tokens_of
from tests.chaos.programs import CREDENTIALS
from tests.chaos.tokens import Login

AT_ONCE = 32
"""Requests under way while all of them are written."""
PAGE = 500
RULES = [{"repositories": ["bench/app", "bench/base/*"], "actions": ["content/read", "metadata/read"]}]


class Population:
    """`count` tokens in `namespaces` namespaces."""

    def __init__(self, api: Api, count: int, namespaces: int) -> None:
        self._api = api
        self.count = count
        self.namespaces = [f"bench-{number}" for number in range(min(namespaces, count))]

    def namespace(self, number: int) -> str:
        """Where a token is."""
        return self.namespaces[number % len(self.namespaces)]

    def username(self, number: int) -> str:
        """Its login name."""
        return f"{self.namespace(number)}.t-{number}"

    def path(self, number: int) -> str:
        """Its path in the API."""
        return f"{tokens_of(self.namespace(number))}/t-{number}"

    @staticmethod
    def map_path(name: str) -> str:
        """The path of a ScopeMap."""
        return f"{SCOPE_MAPS}/{name}"

    async def create(self) -> None:
        """Makes all of it."""
        await self._each(self.namespaces, lambda name: self._api.create(NAMESPACES, {"metadata": {"name": name}}))
        await self._each(range(self.count), lambda number: self._api.create(SCOPE_MAPS, scope_map(f"map-{number}")))
        await self._each(range(self.count), self._create_token)

    async def _create_token(self, number: int) -> None:
        await self._api.create(tokens_of(self.namespace(number)), token(self.namespace(number), number))

    async def share(self, name: str) -> None:
        """From now on all tokens use one ScopeMap."""
        await self._api.create(SCOPE_MAPS, scope_map(name))
        change = {"spec": {"scopeMapRef": {"name": name}}}

        async def one(number: int) -> None:
            await self._api.merge(self.path(number), change)

        await self._each(range(self.count), one)

    async def restore(self, number: int) -> None:
        """Brings a token and its map back to what they were."""
        await self._api.merge(self.map_path(f"map-{number}"), {"spec": {"rules": RULES}})
        await self._create_token(number)
        await self._api.merge(self.path(number), {"spec": {"enabled": True}})

    async def delete(self) -> None:
        """Deletes all tokens, namespace by namespace."""
        await self._each(self.namespaces, lambda name: self._api.delete(tokens_of(name)), at_once=4)

    async def login(self, number: int) -> Login:
        """What stands in the pull secret of a token."""
        secret = await self._api.get(f"{secrets_of(self.namespace(number))}/t-{number}-pull")
        return Login.read(secret)

    async def ids(self) -> dict[str, str]:
        """The id of the active password, by login name, of each token that is ready."""
        found = {}
        async for one in self._pages(TOKENS):
            status = one.get("status") or {}
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
            active = [entry["id"] for entry in status.get("passwords", ()) if entry["state"] == "Active"]
            if ready and active:
                found[status["username"]] = active[0]
        return found

    async def left(self) -> tuple[int, int]:
        """How many credential records there are, and how many entries of ours in ServiceAccounts."""
        records = 0
        async for secret in self._pages(secrets_of(CREDENTIALS)):
            records += secret["metadata"]["name"].startswith("rt-")
        entries = 0
        async for account in self._pages("/api/v1/serviceaccounts"):
            entries += len(account.get("imagePullSecrets") or ())
        return records, entries

    async def _pages(self, path: str) -> AsyncIterator[dict[str, Any]]:
        query = {"limit": str(PAGE)}
        while True:
            page = await self._api.request("GET", path, query=query, seconds=60)
            for item in page["items"]:
                yield item
            if not page["metadata"].get("continue"):
                return
            query["continue"] = page["metadata"]["continue"]

    @staticmethod
    async def _each(items: Iterable[Any], do: Callable[[Any], Awaitable[None]], *, at_once: int = AT_ONCE) -> None:
        waiting = iter(items)

        async def work() -> None:
            for item in waiting:
                await do(item)

        await asyncio.gather(*(work() for _ in range(at_once)))


def scope_map(name: str) -> dict[str, Any]:
    """A ScopeMap that all may use."""
    return {
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "ScopeMap",
        "metadata": {"name": name},
        "spec": {"description": "for the benchmark", "rules": RULES, "allowedNamespaces": {"from": "All"}},
    }


def token(namespace: str, number: int) -> dict[str, Any]:
    """A token with a map of its own, whose pull secret goes into the default ServiceAccount."""
    return {
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "RegistryToken",
        "metadata": {"name": f"t-{number}", "namespace": namespace},
        "spec": {
            "scopeMapRef": {"name": f"map-{number}"},
            "passwords": {"lifetime": "720h"},
            "pullSecret": {"serviceAccounts": ["default"]},
        },
    }
