"""What stands in objects of the API server, read the plain way."""

from typing import Any

from pullpass.api import names
from pullpass.credentials import password as passwords
from pullpass.credentials.record import Record, Slot
from tests.unit.controller.fake_api import Body, Place
from tests.unit.controller.world import SETTINGS

SEED = ("secrets", SETTINGS.namespace, SETTINGS.seed_secret)


def record_place(uid: str) -> Place:
    """Where the record of a token is."""
    return "secrets", SETTINGS.credentials_namespace, names.record_name(uid)


def read(secret: Body | None) -> Record | None:
    """A record, if it is one."""
    try:
        return Record.from_secret(secret) if secret is not None else None
    except ValueError:
        return None


def token_uid(secret: Body) -> str:
    """The UID of the token that a pull secret says it is for."""
    return str((secret["metadata"].get("labels") or {}).get(names.TOKEN_UID_LABEL, ""))


def slot_of(record: Record, text: str) -> Slot | None:
    """The slot of a password."""
    parsed = passwords.parse(text)
    return next((slot for slot in record.slots.values() if parsed is not None and slot.id == parsed.id), None)


def entries(account: Body) -> list[str]:
    """Names in the imagePullSecrets of a ServiceAccount."""
    return [entry["name"] for entry in account.get("imagePullSecrets") or []]


def marks(account: Body) -> dict[str, str]:
    """Which of them are ours: to UIDs of tokens."""
    text = (account["metadata"].get("annotations") or {}).get(names.ENTRIES_ANNOTATION, "")
    return dict(pair.split("=") for pair in text.split(",") if pair)


def bare(account: Body) -> dict[str, Any]:
    """A ServiceAccount without what is ours to change."""
    metadata = {k: v for k, v in account["metadata"].items() if k not in ("annotations", "resourceVersion")}
    others = {
        key: value
        for key, value in (account["metadata"].get("annotations") or {}).items()
        if key != names.ENTRIES_ANNOTATION
    }
    rest = {key: value for key, value in account.items() if key not in ("metadata", "imagePullSecrets")}
    return {**rest, "metadata": {**metadata, "annotations": others}}
