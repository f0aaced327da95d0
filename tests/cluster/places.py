"""Where clusters and what they are made of live.

Two directories, because they are deleted for different reasons: the cache can be built again and is shared
by every cluster, the state belongs to one cluster and goes with it.
"""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository."""

GO_SOURCES = Path(__file__).resolve().parent / "go"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def cache() -> Path:
    """What was built, keyed by versions: `$PULLPASS_CACHE`, else the user's cache directory."""
    chosen = os.environ.get("PULLPASS_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pullpass"


def forget_old(directory: Path, pattern: str, keep: int = 3) -> None:
    """Delete all but the newest of these files of the cache: there is one for each change, and each is large."""
    files = sorted(directory.glob(pattern), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[keep:]:
        file.unlink(missing_ok=True)


def clusters() -> Path:
    """One directory per cluster, existing or half gone."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "pullpass/clusters"


def cluster(name: str) -> Path:
    """The directory of one cluster. The name is also part of the names of its containers, hence the narrow alphabet."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r}: a cluster's name is up to 32 of a-z, 0-9 and inner dashes")
    return clusters() / name
