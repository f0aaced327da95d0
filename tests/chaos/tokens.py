"""The customers' RegistryTokens: made, set to rotate all at once, calmed, and looked at."""

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pullpass.api.registrytoken import RegistryTokenSpec
from pullpass.credentials import password
from tests.chaos.api import SCOPE_MAPS, Api, ApiError, secrets_of, tokens_of
from tests.chaos.ledger import Ledger
from tests.chaos.places import TEAM, Place, guests_of
from tests.chaos.programs import DEFAULT, REGISTRY_HOST

MAP = "chaos"

BRIEF = {"lifetime": "60s", "renewBefore": "50s", "overlap": "10s"}
"""A rotation every ten seconds."""
OTHERS = (
    {"lifetime": "90s", "renewBefore": "75s", "overlap": "5s"},
    {"lifetime": "2m", "renewBefore": "100s", "overlap": "20s"},
    {"lifetime": "75s", "renewBefore": "60s"},
)
"""Other policies, slower ones."""
LONG = {"lifetime": "720h", "renewBefore": "240h", "overlap": "10s"}
"""Nothing happens while a test runs."""


@dataclass(frozen=True)
class Login:
    """What a pull secret holds."""

    username: str
    password: str = field(repr=False)
    id: str

    @classmethod
    def read(cls, secret: Mapping[str, Any], host: str = REGISTRY_HOST) -> "Login":
        """From the Secret as the API server gives it."""
        entry = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"][host]
        parsed = password.parse(entry["password"])
        assert parsed is not None
        return cls(entry["username"], entry["password"], parsed.id)


def scope_map(name: str, repositories: str, registry: str = DEFAULT.name) -> dict[str, Any]:
    """A ScopeMap that lets everybody pull."""
    rules = [{"repositories": [repositories], "actions": ["content/read"]}]
    return {
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "ScopeMap",
        "metadata": {"name": name},
        "spec": {"registry": registry, "rules": rules, "allowedNamespaces": {"from": "All"}},
    }


def token(
    name: str, map_name: str, passwords: Mapping[str, str], pull_secret: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A RegistryToken of the team."""
    return {
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "RegistryToken",
        "metadata": {"name": name, "namespace": TEAM},
        "spec": {
            "scopeMapRef": {"name": map_name},
            "passwords": dict(passwords),
            "pullSecret": dict(pull_secret or {}),
        },
    }


class Tokens:
    """Some tokens, each with its pull secrets: in the team's namespace, and of some in others as well."""

    def __init__(self, api: Api, ledger: Ledger, count: int) -> None:
        self._api = api
        self._ledger = ledger
        self.names = [f"token-{number}" for number in range(count)]
        guests = {name: guests_of(number) for number, name in enumerate(self.names)}
        self.places = [Place(name, namespace) for name in self.names for namespace in (TEAM, *guests[name])]
        """Where the passwords are for."""
        self.overlaps = {name: _overlap(BRIEF) for name in self.names}
        """Seconds that a replaced password stays valid at least, by token: the shortest overlap that it has had."""

    async def create(self) -> None:
        """Makes them, with passwords that last."""
        await self._api.create(SCOPE_MAPS, scope_map(MAP, "chaos/*"))
        await self._api.create(
            tokens_of(TEAM),
            *(token(name, MAP, LONG, self._pull_secret(number)) for number, name in enumerate(self.names)),
        )

    def _pull_secret(self, number: int) -> dict[str, Any]:
        """Every second token has entries in ServiceAccounts."""
        return {"namespaces": guests_of(number), "serviceAccounts": ["default"] if number % 8 in (1, 2, 6, 7) else []}

    async def storm(self, *, others: int = 0) -> None:
        """From now on each is rotated every ten seconds, and for the first time at once, all together.

        One in `others` gets another policy.
        """
        for number, name in enumerate(self.names):
            other = others and number % others == others - 1
            await self._set(name, OTHERS[number // others % len(OTHERS)] if other else BRIEF)

    async def calm(self) -> None:
        """No more rotations; those under way come to their end."""
        for name in self.names:
            await self._set(name, LONG)

    async def _set(self, name: str, policy: Mapping[str, str]) -> None:
        self.overlaps[name] = min(self.overlaps[name], _overlap(policy))
        whole = {"lifetime": None, "renewBefore": None, "overlap": None, **policy}
        await self._api.merge(f"{tokens_of(TEAM)}/{name}", {"spec": {"passwords": whole}})

    async def read(self, name: str, namespace: str = TEAM, *, seconds: float = 15) -> Login:
        """What stands in a token's pull secret now. Raises ApiError."""
        return Login.read(await self._api.get(f"{secrets_of(namespace)}/{name}-pull", seconds=seconds))

    async def behind(self) -> list[str]:
        """Places without the password that is published, or is about to be."""
        found = await asyncio.gather(*(self._behind(place) for place in self.places))
        return [f"{place}: {why}" for place, why in zip(self.places, found, strict=True) if why]

    async def _behind(self, place: Place) -> str:
        before = self._current(place.token)
        try:
            held = (await self.read(place.token, place.namespace)).id
        except ApiError as error:
            return f"cannot be read: {error}"
        # Meanwhile another one may have been published.
        current = before | self._current(place.token)
        return "" if held in current else f"holds {held}, published is {', '.join(sorted(current))}"

    def _current(self, name: str) -> set[str]:
        account = self._ledger.accounts.get(f"{TEAM}/{name}")
        record = account.record if account is not None else None
        slots = [] if record is None else [slot for slot in (record.published, record.pending) if slot is not None]
        return {record.slots[slot].id for slot in slots} if record is not None else set()

    async def unsettled(self, *, retired: bool = False) -> list[str]:
        """Tokens that are not as they should be, with the reason; `retired`: replaced passwords are to be gone, too."""
        listed = await self._api.persist("GET", tokens_of(TEAM))
        there = {item["metadata"]["name"]: item for item in listed["items"]}
        reasons = await asyncio.gather(*(self._why(name, there[name], retired) for name in self.names))
        return [f"{name}: {why}" for name, why in zip(self.names, reasons, strict=True) if why]

    async def condition(self, name: str, type_: str = "Ready") -> Mapping[str, Any]:
        """A condition of a token of the team; empty where it is not there."""
        return _condition(await self._api.get(f"{tokens_of(TEAM)}/{name}"), type_)

    async def _why(self, name: str, found: Mapping[str, Any], retired: bool) -> str:
        status, ready = found.get("status") or {}, _condition(found, "Ready")
        if ready.get("status") != "True" or ready.get("observedGeneration") != found["metadata"]["generation"]:
            return f"not Ready for this spec: {ready.get('message', 'no status')}"
        account = self._ledger.accounts.get(f"{TEAM}/{name}")
        if account is None or account.record is None or account.record.published is None:
            return "no published password"
        record = account.record
        if record.pending is not None:
            return f"{record.slots[record.pending].id} is not published yet"
        if retired and len(record.slots) > 1:
            return "a replaced password is still there"
        assert record.published is not None
        current = record.slots[record.published].id
        active = [entry["id"] for entry in status.get("passwords", []) if entry["state"] == "Active"]
        if active != [current]:
            return f"the status calls {active} active, published is {current}"
        for place in self.places:
            if place.token == name:
                secret = await self._api.persist("GET", f"{secrets_of(place.namespace)}/{name}-pull")
                held = Login.read(secret).id
                if held != current:
                    return f"the pull secret in {place.namespace} holds {held}, published is {current}"
        return ""

    def rotating(self) -> list[str]:
        """Tokens with a password that is made and not published yet."""
        return [name for name in self.names if f"{TEAM}/{name}" in self._ledger.pending()]

    def seconds_left(self) -> float:
        """Until the first published password ends."""
        now = datetime.now(UTC)
        ends = [self._ledger.accounts[f"{TEAM}/{name}"].expires_at for name in self.names]
        return min(((end - now).total_seconds() for end in ends if end is not None), default=float("inf"))

    def longest_left(self) -> float:
        """Seconds until the last password that may still be in use ends; infinite where one has no end."""
        now = datetime.now(UTC)
        records = [self._ledger.accounts[f"{TEAM}/{name}"].record for name in self.names]
        ends = [slot.expires_at for record in records if record is not None for slot in record.slots.values()]
        return max((end - now).total_seconds() if end is not None else float("inf") for end in ends)


def _condition(found: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    conditions: list[Mapping[str, Any]] = (found.get("status") or {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == type_), {})


def _overlap(policy: Mapping[str, str]) -> float:
    spec = RegistryTokenSpec.model_validate({"scopeMapRef": {"name": MAP}, "passwords": dict(policy)})
    return spec.passwords.effective_overlap.total_seconds()
