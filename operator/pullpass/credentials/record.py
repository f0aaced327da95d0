"""The credential record: what is known of a token's passwords, kept as a Secret of the credentials namespace.

It holds hashes and dates, never a password. The operator alone writes it, token servers read it.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pullpass.api import names
from pullpass.api.registrytoken import LONGEST_REQUEST, SLOTS, SlotName
from pullpass.api.times import format_time, parse_time

DATA_KEY = "record.json"


@dataclass(frozen=True)
class Requests:
    """What people ask for by hand, as the values of the two annotations; empty where one is absent.

    A password keeps the values it was made under: by that each value makes one password, whatever is cut off.
    """

    rotate: str = ""
    """A new password; the old one stays valid for the overlap."""
    regenerate: str = ""
    """A new password; all older ones end once it is published."""

    @classmethod
    def read(cls, annotations: Mapping[str, str]) -> "Requests":
        """What the annotations of a RegistryToken ask for; long values are cut."""
        return cls(
            rotate=annotations.get(names.ROTATE_ANNOTATION, "")[:LONGEST_REQUEST],
            regenerate=annotations.get(names.REGENERATE_ANNOTATION, "")[:LONGEST_REQUEST],
        )

    def beyond(self, handled: "Requests") -> "Requests":
        """What of this was not handled yet."""
        return Requests(
            rotate="" if self.rotate == handled.rotate else self.rotate,
            regenerate="" if self.regenerate == handled.regenerate else self.regenerate,
        )

    def or_else(self, earlier: "Requests") -> "Requests":
        """This, and the earlier values where this has none."""
        return Requests(self.rotate or earlier.rotate, self.regenerate or earlier.regenerate)


@dataclass(frozen=True)
class Slot:
    """One password: its public id, its hash, and when it ends."""

    id: str
    nonce: str = field(repr=False)
    seed: str
    """Fingerprint of the seed the password was derived from."""
    hash: str = field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None
    """End by lifetime."""
    valid_until: datetime | None = None
    """End after a replacement."""
    requests: Requests = Requests()
    """What had been asked for by hand when it was made."""

    @property
    def ends_at(self) -> datetime | None:
        """The earlier of the two ends, or None."""
        ends = [end for end in (self.expires_at, self.valid_until) if end is not None]
        return min(ends, default=None)

    def valid_at(self, now: datetime) -> bool:
        """Whether the dates let the password in."""
        return self.ends_at is None or now < self.ends_at


@dataclass(frozen=True)
class Record:
    """The passwords of one RegistryToken."""

    token_uid: str
    namespace: str
    name: str
    slots: Mapping[SlotName, Slot] = field(default_factory=dict)
    published: SlotName | None = None
    """The slot whose password stands in the pull secrets; another slot without validUntil is not published yet."""

    def with_slot(self, name: SlotName, slot: Slot) -> "Record":
        """This record with one slot set."""
        return replace(self, slots={**self.slots, name: slot})

    def without_slot(self, name: SlotName) -> "Record":
        """This record with one slot emptied."""
        return replace(self, slots={key: slot for key, slot in self.slots.items() if key != name})

    @property
    def pending(self) -> SlotName | None:
        """The slot that was made but is not published yet."""
        for name, slot in self.slots.items():
            if name != self.published and slot.valid_until is None:
                return name
        return None

    @classmethod
    def from_secret(cls, secret: Mapping[str, Any]) -> "Record":
        """Reads a record. Raises ValueError, without any of the content, for anything that is not one."""
        try:
            content = json.loads(base64.b64decode(secret["data"][DATA_KEY], validate=True))
            slots = {name: _slot(content["slots"][name]) for name in SLOTS if name in content["slots"]}
            published = content.get("published")
            return cls(
                token_uid=str(content["tokenUid"]),
                namespace=str(content["namespace"]),
                name=str(content["name"]),
                slots=slots,
                published=published if published in slots else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise ValueError("this Secret holds no readable credential record") from None

    def to_secret(self, credentials_namespace: str) -> dict[str, Any]:
        """The Secret that holds this record."""
        content = {
            "tokenUid": self.token_uid,
            "namespace": self.namespace,
            "name": self.name,
            "published": self.published,
            "slots": {name: _content(slot) for name, slot in self.slots.items()},
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "pullpass.dev/credential-record",
            "metadata": {
                "name": names.record_name(self.token_uid),
                "namespace": credentials_namespace,
                "labels": {
                    names.MANAGED_BY_LABEL: names.MANAGED_BY,
                    names.COMPONENT_LABEL: names.CREDENTIAL_RECORD,
                    names.TOKEN_UID_LABEL: self.token_uid,
                },
                "annotations": {names.TOKEN_ANNOTATION: f"{self.namespace}/{self.name}"},
            },
            "data": {DATA_KEY: base64.b64encode(text.encode()).decode()},
        }


def _slot(content: Mapping[str, Any]) -> Slot:
    def time(key: str) -> datetime | None:
        return parse_time(content[key]) if content.get(key) is not None else None

    return Slot(
        id=str(content["id"]),
        nonce=str(content["nonce"]),
        seed=str(content["seed"]),
        hash=str(content["hash"]),
        created_at=parse_time(content["createdAt"]),
        expires_at=time("expiresAt"),
        valid_until=time("validUntil"),
        requests=Requests(str(content.get("rotateRequest", "")), str(content.get("regenerateRequest", ""))),
    )


def _content(slot: Slot) -> dict[str, Any]:
    content = {
        "id": slot.id,
        "nonce": slot.nonce,
        "seed": slot.seed,
        "hash": slot.hash,
        "createdAt": format_time(slot.created_at),
    }
    if slot.expires_at is not None:
        content["expiresAt"] = format_time(slot.expires_at)
    if slot.valid_until is not None:
        content["validUntil"] = format_time(slot.valid_until)
    if slot.requests.rotate:
        content["rotateRequest"] = slot.requests.rotate
    if slot.requests.regenerate:
        content["regenerateRequest"] = slot.requests.regenerate
    return content
