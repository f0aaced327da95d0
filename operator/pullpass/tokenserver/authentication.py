"""Authenticates a request: finds the token of a user name and checks the password, with at most one bcrypt check.

What a check found is remembered under a MAC of user name and password (BLAKE2b with a key of this process), bound
to the version of the credential record: a new record, or another token under the name, and it counts no
more. Dates are looked at anew every time. An unknown user, an unknown password id and a password past its
end cost the same check as a wrong password, so neither words nor time tell them apart.

Only what nothing is remembered of meets the limits (see limits.py): the same wrong password, sent again, is no new
failure, and one that was right is right whoever else fails.
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
"""Verified passwords kept; two for each of 20,000 tokens fit."""
REMEMBERED_BAD = 16_384

Version = tuple[str, str, str]
"""UID of the token and version of its record, both empty where there is none, and the password's id."""
_MALFORMED: Version = ("", "malformed", "")


@dataclass(slots=True)
class Identity:
    """A token whose password was right. Whether it still opens anything is for authorization.py to decide."""

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
    """Stands for user name and password."""
    username: str
    text: str = field(repr=False)
    sender: str


class _Memory:
    """Versions by key, the least recently used dropped first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._versions: OrderedDict[bytes, Version] = OrderedDict()

    def holds(self, key: bytes, version: Version) -> bool:
        return self.version(key) == version

    def version(self, key: bytes) -> Version | None:
        """The version under a key, None where there is none."""
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
    """Checks credentials against the mirror. Without `limits` everybody may fail as often as they like."""

    def __init__(
        self,
        mirror: AccessCache,
        checks: Checks,
        limits: Limits | None = None,
        *,
        good: int = REMEMBERED_GOOD,
        bad: int = REMEMBERED_BAD,
    ) -> None:
        self._mirror = mirror
        self._checks = checks
        self._limits = limits
        self._key = secrets.token_bytes(32)
        self._good = _Memory(good)
        self._bad = _Memory(bad)
        self._under_way: dict[tuple[bytes, Version], asyncio.Future[bool]] = {}
        self.hits = 0
        """Logins answered from memory since start."""

    @property
    def remembered(self) -> dict[str, int]:
        """How many verdicts are remembered, by what they are."""
        return {"good": len(self._good), "bad": len(self._bad)}

    async def authenticate(self, username: str, text: str, sender: str = "") -> Identity:
        """The identity behind a user name and password that came from an address.

        Raises UnauthenticatedError, with the reason for the audit line, LimitedError and BusyError.
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
            # While a check runs the record may be rewritten, so the verdict holds for what is there by now.
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
        """The identity, if this password was verified before and its record is the same: it need not be read again."""
        verified = self._good.version(key)
        if verified is None:
            return None
        token = self._mirror.token(username)
        credential = self._mirror.credential(token.uid) if token is not None else None
        if token is None or credential is None or (token.uid, credential.version) != verified[:2]:
            return None
        slot = credential.slot(verified[2])
        if slot is None:
            return None
        self.hits += 1
        return Identity(token, slot)

    def _find(self, username: str, password_id: str) -> _Candidate:
        token = self._mirror.token(username)
        credential = self._mirror.credential(token.uid) if token is not None else None
        return _Candidate(
            token,
            credential.slot(password_id) if credential is not None else None,
            (token.uid if token is not None else "", credential.version if credential is not None else "", password_id),
        )

    def _remembered(self, login: _Login, candidate: _Candidate) -> bool | None:
        """Whether the password was found right, None where nothing is remembered."""
        good = self._good.holds(login.key, candidate.version)
        if not good and not self._bad.holds(login.key, candidate.version):
            return None
        self.hits += 1
        return good

    async def _check(self, login: _Login, candidate: _Candidate) -> bool:
        check = self._under_way.get((login.key, candidate.version))
        if check is None:
            check = self._begin(login, candidate)
        # Shielded: the check is shared with whoever else sends the same password at this moment.
        return await asyncio.shield(check)

    def _begin(self, login: _Login, candidate: _Candidate) -> asyncio.Future[bool]:
        limits, slot, key = self._limits, candidate.slot, login.key
        if slot is None:
            # It cannot succeed, and is checked only so that nobody can tell from the time.
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
