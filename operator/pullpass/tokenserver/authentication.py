"""Authenticates a request: finds the token of a user name and checks the password, with at most one bcrypt check.

Verdicts are remembered under a MAC of user name and password (BLAKE2b with a key of this process), together with the
version of the credential record: a new record, or another token of the same name, invalidates them. Expiry is checked
every time. An unknown user, an unknown password id and an expired password cost the same check as a wrong password, so
neither the answer nor its time tells them apart.

The limits (see limits.py) apply only where no verdict is remembered: the same wrong password, sent again, is not
another failure, and a verified password works whoever else fails.
"""

import asyncio
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b

from pullpass.credentials import password
from pullpass.tokenserver.bcrypt_pool import Checks
from pullpass.tokenserver.cache import AccessCache, PasswordSlot, Token
from pullpass.tokenserver.errors import UnauthenticatedError
from pullpass.tokenserver.limits import Limits

REMEMBERED_GOOD = 65_536
"""Verified passwords that are remembered: enough for two of each of 20,000 tokens."""
REMEMBERED_BAD = 16_384
"""Wrong passwords that are remembered."""

Version = tuple[str, str, str]
"""The token's UID and the version of its record, both empty where there is none, and the password's id."""
_MALFORMED: Version = ("", "malformed", "")


@dataclass(slots=True)
class Identity:
    """A token and the slot of the password that was right. What it may still do is decided in authorization.py."""

    token: Token
    slot: PasswordSlot


@dataclass(slots=True)
class _Candidate:
    token: Token | None
    slot: PasswordSlot | None
    version: Version


@dataclass(slots=True)
class _Login:
    key: bytes
    """MAC of user name and password."""
    username: str
    text: str = field(repr=False)
    sender: str


class _Memory:
    """A cache of at most `size` versions by key that drops the least recently used one first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._versions: OrderedDict[bytes, Version] = OrderedDict()

    def holds(self, key: bytes, version: Version) -> bool:
        return self.version(key) == version

    def version(self, key: bytes) -> Version | None:
        """Returns the version under a key, None where there is none."""
        version = self._versions.get(key)
        if version is not None:
            self._versions.move_to_end(key)
        return version

    def keep(self, key: bytes, version: Version) -> None:
        self._versions[key] = version
        self._versions.move_to_end(key)
        if len(self._versions) > self._size:
            self._versions.popitem(last=False)

    def __len__(self) -> int:
        return len(self._versions)


class Authenticator:
    """Checks credentials against the cache of credential records. Without `limits` failed logins are not limited."""

    def __init__(
        self,
        cache: AccessCache,
        checks: Checks,
        limits: Limits | None = None,
        *,
        good: int = REMEMBERED_GOOD,
        bad: int = REMEMBERED_BAD,
    ) -> None:
        self._cache = cache
        self._checks = checks
        self._limits = limits
        self._key = secrets.token_bytes(32)
        self._good = _Memory(good)
        self._bad = _Memory(bad)
        self._under_way: dict[tuple[bytes, Version], asyncio.Future[bool]] = {}
        self.hits = 0
        """Logins since the process started that needed no check, because the verdict was remembered."""

    @property
    def remembered(self) -> dict[str, int]:
        """How many verdicts are remembered, by verdict."""
        return {"good": len(self._good), "bad": len(self._bad)}

    async def authenticate(self, username: str, text: str, sender: str = "") -> Identity:
        """Returns the identity behind a user name and password; `sender` is the client's address.

        Raises UnauthenticatedError with the reason for the audit line, LimitedError where sender or user name failed
        too often, and BusyError where too many checks wait.
        """
        key = blake2b(f"{username}\0{text}".encode(errors="replace"), key=self._key, digest_size=32).digest()
        identity = self._verified(username, key)
        if identity is not None:
            return identity
        parsed = password.parse(text)
        if parsed is None:
            if not self._bad.holds(key, _MALFORMED):
                self._spend(sender, username)
                self._bad.keep(key, _MALFORMED)
            raise UnauthenticatedError("malformed password")
        login = _Login(key, username, text, sender)
        candidate = self._find(username, parsed.id)
        while (genuine := self._remembered(login, candidate)) is None:
            checked = await self._check(login, candidate)
            # The record may change while a check runs: a verdict counts for the version that was checked only.
            version, candidate = candidate.version, self._find(username, parsed.id)
            if candidate.version == version:
                genuine = checked
                break
        token, slot = candidate.token, candidate.slot
        if token is None:
            raise UnauthenticatedError("unknown user")
        if slot is None:
            raise UnauthenticatedError("no such password")
        if not genuine:
            raise UnauthenticatedError("wrong password")
        return Identity(token, slot)

    def _verified(self, username: str, key: bytes) -> Identity | None:
        """Returns the identity if this password was verified before and its record is unchanged, without parsing it."""
        verified = self._good.version(key)
        if verified is None:
            return None
        token = self._cache.token(username)
        credential = self._cache.credential(token.uid) if token is not None else None
        if token is None or credential is None or (token.uid, credential.version) != verified[:2]:
            return None
        slot = credential.slot(verified[2])
        if slot is None:
            return None
        self.hits += 1
        return Identity(token, slot)

    def _find(self, username: str, password_id: str) -> _Candidate:
        token = self._cache.token(username)
        credential = self._cache.credential(token.uid) if token is not None else None
        return _Candidate(
            token,
            credential.slot(password_id) if credential is not None else None,
            (token.uid if token is not None else "", credential.version if credential is not None else "", password_id),
        )

    def _remembered(self, login: _Login, candidate: _Candidate) -> bool | None:
        """Returns the remembered verdict, None where there is none."""
        good = self._good.holds(login.key, candidate.version)
        if not good and not self._bad.holds(login.key, candidate.version):
            return None
        self.hits += 1
        return good

    async def _check(self, login: _Login, candidate: _Candidate) -> bool:
        check = self._under_way.get((login.key, candidate.version))
        if check is None:
            check = self._begin(login, candidate)
        # Shielded, as concurrent logins with the same password share one check.
        return await asyncio.shield(check)

    def _begin(self, login: _Login, candidate: _Candidate) -> asyncio.Future[bool]:
        limits, slot, key = self._limits, candidate.slot, login.key
        if slot is None:
            # It cannot succeed. The check is made only so that the time of the answer does not tell.
            self._spend(login.sender, login.username)
            check = self._checks.begin(login.text, None)
        elif limits is not None and limits.suspicious(login.sender, login.username):
            check = self._checks.begin_aside(login.text, slot.hash)
        else:
            check = self._checks.begin(login.text, slot.hash)
        self._under_way[key, candidate.version] = check

        def finish(done: asyncio.Future[bool]) -> None:
            del self._under_way[key, candidate.version]
            if done.cancelled() or done.exception() is not None:
                return
            genuine = done.result() and slot is not None
            (self._good if genuine else self._bad).keep(key, candidate.version)
            if limits is not None and slot is not None and not genuine:
                limits.count(login.sender, login.username)

        check.add_done_callback(finish)
        return check

    def _spend(self, sender: str, username: str) -> None:
        if self._limits is not None:
            self._limits.spend(sender, username)
