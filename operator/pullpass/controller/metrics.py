"""Metrics of the operator, for Prometheus."""

from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from pullpass.api.conditions import Reason
from pullpass.controller.queue import Kind

LEADER = Gauge("pullpass_operator_leader", "1 while this replica holds the Lease.")
QUEUE = Gauge("pullpass_operator_queue_length", "Keys that wait for a worker or are being worked on.")
TOKENS = Gauge("pullpass_operator_registry_tokens", "RegistryTokens that this replica knows.")
UNSETTLED = Gauge(
    "pullpass_operator_unsettled_tokens",
    "RegistryTokens that something is in the way of, by the reason in their conditions, or StatusNotWritten.",
    ["reason"],
)
NOT_OF_SPECS = (
    Reason.WRITE_FAILED,
    Reason.WRITE_REFUSED,
    Reason.CONTESTED,
    Reason.SECRET_NOT_OWNED,
    Reason.WAITING_FOR_TOKEN_SERVER,
    Reason.SIGNING_KEY_UNAVAILABLE,
    Reason.RECORD_NOT_WRITTEN,
    Reason.STATUS_NOT_WRITTEN,
)
"""Reasons that are no mistake in a spec: an alert is about them, and 0 is good news."""
for _reason in NOT_OF_SPECS:
    UNSETTLED.labels(_reason)
RECONCILES = Counter("pullpass_operator_reconciles_total", "Keys worked on, by kind and outcome.", ["kind", "outcome"])
for _kind in get_args(Kind):
    for _outcome in ("failed", "defect"):
        RECONCILES.labels(_kind, _outcome)  # alerts are about increases: one that begins at 1 has none
DURATION = Histogram("pullpass_operator_reconcile_seconds", "Time that one key took, in seconds.", ["kind"])
EVENTS_LOST = Counter("pullpass_operator_events_lost_total", "Events that could not be posted.")
CA_NOT_AFTER = Gauge(
    "pullpass_operator_ca_not_after_seconds", "End of a registry's CA, in seconds since 1970.", ["registry"]
)
CA_REPLACEMENT = Gauge(
    "pullpass_operator_ca_replacement",
    "1 for the step that the replacement of a registry's CA is at.",
    ["registry", "step"],
)
SERVER_CERTIFICATE = Gauge(
    "pullpass_operator_server_certificate_not_before_seconds",
    "Begin of the certificate that a Secret has for a server, in seconds since 1970.",
    ["secret"],
)
