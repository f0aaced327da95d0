"""Posts Kubernetes Events about RegistryTokens (events.k8s.io/v1)."""

import logging
import secrets
from datetime import UTC, datetime
from typing import Any, Literal

from pullpass.kube.client import Kube, KubeError
from pullpass.kube.resources import EVENTS

log = logging.getLogger(__name__)

NOTE_LIMIT = 1024
"""Characters of a note; the API server refuses longer ones."""


async def post(
    kube: Kube,
    *,
    regarding: dict[str, Any],
    instance: str,
    type_: Literal["Normal", "Warning"],
    reason: str,
    action: str,
    note: str,
    now: datetime,
) -> None:
    """Posts an event about the object that `regarding` refers to. Logs, and does not raise, where that fails."""
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{regarding['name']}.{secrets.token_hex(8)}",
            "namespace": regarding["namespace"],
        },
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": "pullpass.dev/operator",
        "reportingInstance": instance[:128],
        "type": type_,
        "reason": reason,
        "action": action,
        "note": note[:NOTE_LIMIT],
        "regarding": regarding,
    }
    try:
        await kube.create(EVENTS, regarding["namespace"], body)
    except KubeError as error:
        log.info("cannot post event %s about %s/%s: %s", reason, regarding["namespace"], regarding["name"], error)
