"""ScopeMaps of the largest kind: 500 long names each, about 120 KB."""

import asyncio
import itertools
from typing import Any

from tests.chaos.api import SCOPE_MAPS, Api

NAMES = 500
LENGTH = 220
"""Characters of a name."""
AT_ONCE = 8


class LargeMaps:
    """`count` of them, which no token uses."""

    def __init__(self, api: Api, count: int) -> None:
        self._api = api
        self.names = [f"large-{number}" for number in range(count)]

    async def create(self) -> None:
        """Makes all of them."""
        waiting = iter(self.names)

        async def work() -> None:
            for name in waiting:
                await self._api.create(SCOPE_MAPS, _map(name, 0))

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    async def edit(self, edits: int | None = None) -> None:
        """Changes one after the other, as fast as the API server takes it; without a number, until cancelled."""
        numbers = itertools.count() if edits is None else range(edits)
        for number in numbers:
            name = self.names[number % len(self.names)]
            await self._api.merge(f"{SCOPE_MAPS}/{name}", {"spec": {"rules": _map(name, number + 1)["spec"]["rules"]}})

    async def delete(self) -> None:
        """Removes them."""
        await self._api.delete(*(f"{SCOPE_MAPS}/{name}" for name in self.names))


def _map(name: str, edition: int) -> dict[str, Any]:
    repositories = [f"{name}/e{edition}/r{number}/".ljust(LENGTH, "x") for number in range(NAMES)]
    return {
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "ScopeMap",
        "metadata": {"name": name},
        "spec": {
            "rules": [{"repositories": repositories, "actions": ["content/read"]}],
            "allowedNamespaces": {"from": "All"},
        },
    }
