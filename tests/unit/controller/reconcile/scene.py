"""What the tests here begin with: a token that rotates, with places in two namespaces."""

from datetime import timedelta
from typing import Any

ROTATING = {"lifetime": "3h", "overlap": "10m"}
EVERYWHERE: dict[str, Any] = {
    "passwords": ROTATING,
    "pullSecret": {"serviceAccounts": ["default"], "namespaces": ["staging"]},
}
REVOKING: dict[str, Any] = EVERYWHERE | {"passwords": ROTATING | {"onExpiry": "Revoke"}}
OWN, FAR = ("web", "reader-pull"), ("staging", "reader-pull")
OVERLAP = timedelta(minutes=10)
