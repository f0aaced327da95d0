"""Every password that was made, and what became of it, read from the credential records as they change."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pullpass.credentials.record import Record
from tests.chaos.api import Api, secrets_of
from tests.chaos.programs import CREDENTIALS

SELECTOR = "pullpass.dev/component=credential-record"


@dataclass
class Account:
    """The passwords of one token, by id."""

    made: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    wasted: list[str] = field(default_factory=list)
    """Made, and gone without having been published: another one was made for the same rotation."""
    record: Record | None = None
    """As it is now."""
    expires_at: datetime | None = None
    """When the published password ends by its lifetime."""
    ends: dict[str, datetime | None] = field(default_factory=dict)
    """When each password ends by its lifetime, by id."""


class Ledger:
    """The passwords of all tokens, by `<namespace>/<name>`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.accounts: dict[str, Account] = {}
        self.rotations = 0
        """Passwords that have replaced another one."""
        self.last_made = 0.0
        """When a password was last seen to be made, on the monotonic clock."""

    async def keep(self) -> None:
        """Follows the records, until cancelled."""
        async for secret in self._api.follow(secrets_of(CREDENTIALS), SELECTOR):
            self.enter(secret)

    def enter(self, secret: Mapping[str, Any]) -> None:
        """Takes note of a credential record."""
        record = Record.from_secret(secret)
        account = self.accounts.setdefault(f"{record.namespace}/{record.name}", Account())
        if account.record is not None and account.record.token_uid != record.token_uid:
            account = self.accounts[f"{record.namespace}/{record.name}"] = Account()
        there = {slot.id for slot in record.slots.values()}
        for slot in record.slots.values():
            account.ends[slot.id] = slot.expires_at
            if slot.id not in account.made:
                account.made.append(slot.id)
                self.last_made = time.monotonic()
        if record.published is not None:
            current = record.slots[record.published]
            account.expires_at = current.expires_at
            if current.id not in account.published:
                self.rotations += bool(account.published)
                account.published.append(current.id)
        account.wasted += [id_ for id_ in account.made if id_ not in there | {*account.published, *account.wasted}]
        account.record = record

    def wasted(self) -> list[str]:
        """Passwords that were made in vain, each with its token."""
        return [f"{token}: {id_}" for token, account in self.accounts.items() for id_ in account.wasted]

    def ended(self, token: str, id_: str, now: datetime) -> bool:
        """Whether a password has come to the end of its lifetime."""
        account = self.accounts.get(token)
        end = account.ends.get(id_) if account is not None else None
        return end is not None and end <= now

    def pending(self) -> list[str]:
        """Tokens with a password that is made and not published yet."""
        return [t for t, account in self.accounts.items() if account.record is not None and account.record.pending]

    def forget(self) -> None:
        """Begins anew, with no account."""
        self.accounts.clear()

    def task(self) -> asyncio.Task[None]:
        """Keeps the ledger in a task."""
        return asyncio.create_task(self.keep())
