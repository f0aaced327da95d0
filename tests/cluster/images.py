"""The images that tests run, as OCI archives in the cache; `Cluster.load_image` takes them.

Each archive's file name holds a hash of what is in it: what is unchanged is not made again.
"""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import oci, places, toolchain
from .product import NAME as PRODUCT
from .product import product

__all__ = [
    "PEER",
    "PRODUCT",
    "PROMETHEUS",
    "REGISTRY",
    "hello",
    "peer",
    "product",
    "prometheus",
    "registry",
]

REGISTRY = "localhost/registry:3.1.2"
PEER = "localhost/peer:1"
PROMETHEUS = "localhost/prometheus:1"

_REGISTRY_CONFIG = b"""\
version: 0.1
storage:
  filesystem:
    rootdirectory: /var/lib/registry
  delete:
    enabled: true
http:
  addr: :5000
"""


def hello(tag: str) -> Path:
    """What prints `hello <tag>` and waits for SIGTERM; images of two tags differ in layers and digests."""
    files = [
        oci.File("hello", toolchain.tool("hello").read_bytes()),
        oci.File("tag", tag.encode(), 0o644),
    ]
    config = {"Entrypoint": ["/hello"], "Cmd": ["hello", tag], "User": str(oci.NONROOT)}
    return _archive(f"localhost/hello:{tag}", files, config)


def peer() -> Path:
    """What answers with its name, and asks others when it is told to."""
    files = [oci.File("peer", toolchain.tool("peer").read_bytes())]
    return _archive(PEER, files, {"Entrypoint": ["/peer"], "User": str(oci.NONROOT)})


def prometheus() -> Path:
    """Prometheus as Debian has it, with the C library that it needs."""
    program = toolchain.tool("prometheus")
    needed = (program, *oci.libraries([program]))
    files = [oci.File(str(path).lstrip("/"), path.read_bytes()) for path in needed]
    config = {"Entrypoint": [str(program)], "User": str(oci.NONROOT)}
    return _archive(PROMETHEUS, files, config)


def registry() -> Path:
    """CNCF Distribution, without TLS and without authentication until it is given another configuration."""
    files = [
        oci.File("bin", None),
        oci.File("bin/registry", toolchain.tool("registry").read_bytes()),
        oci.File("etc", None),
        oci.File("etc/distribution", None),
        oci.File("etc/distribution/config.yml", _REGISTRY_CONFIG, 0o644),
        oci.File("tmp", None, 0o1777),
        oci.File("var", None),
        oci.File("var/lib", None),
        oci.File("var/lib/registry", None, 0o755, oci.NONROOT),
    ]
    config = {
        "Entrypoint": ["/bin/registry"],
        "Cmd": ["serve", "/etc/distribution/config.yml"],
        "User": str(oci.NONROOT),
        # Off, or it looks for a collector of traces that is not there.
        "Env": ["OTEL_TRACES_EXPORTER=none"],
        "ExposedPorts": {"5000/tcp": {}},
    }
    return _archive(REGISTRY, files, config)


def _archive(name: str, files: Sequence[oci.File], config: Mapping[str, object]) -> Path:
    digest = hashlib.sha256(json.dumps([name, dict(config)], sort_keys=True).encode())
    for file in files:
        content = hashlib.sha256(file.content or b"").hexdigest()
        digest.update(f"{file.path} {file.mode:o} {file.owner} {content}\n".encode())
    short = name.removeprefix("localhost/").replace(":", "-")
    target = places.cache() / "images" / f"{short}-{digest.hexdigest()[:16]}.tar"
    if not target.exists():
        oci.write(target, [oci.Image(name, [oci.layer(files)], config)], architecture())
    return target


def architecture() -> str:
    """This machine's, as images name it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
