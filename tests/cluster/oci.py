"""Write OCI image archives, without any container engine.

The same content always gives the same bytes, so that an archive's name can be the hash of what it is made of.
"""

import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

_FULL_NAME = "io.containerd.image.name"
_TAG = "org.opencontainers.image.ref.name"
NONROOT = 65532
"""The user that most images without a root user have."""


@dataclass(frozen=True)
class File:
    """One file of an image: a directory when `content` is None, or a symbolic link with what it leads to."""

    path: str
    content: bytes | None
    mode: int = 0o755
    owner: int = 0
    link: str = ""


@dataclass(frozen=True)
class Blob:
    """What an image is made of. Images may share their layers."""

    content: bytes

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal digits."""
        return hashlib.sha256(self.content).hexdigest()

    def descriptor(self, media_type: str) -> dict[str, Any]:
        """How a manifest or an index refers to it."""
        return {
            "mediaType": f"application/vnd.oci.image.{media_type}",
            "digest": f"sha256:{self.digest}",
            "size": len(self.content),
        }


@dataclass(frozen=True)
class Image:
    """An image under the name that a node is to know it by; `config` is the image's (Entrypoint, User, …)."""

    name: str
    layers: Sequence[Blob]
    config: Mapping[str, object]


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _tar(files: Iterable[File]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            info = tarfile.TarInfo(file.path)
            info.mode, info.uid, info.gid = file.mode, file.owner, file.owner
            if file.link:
                info.type, info.linkname = tarfile.SYMTYPE, file.link
                archive.addfile(info)
            elif file.content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(file.content)
                archive.addfile(info, io.BytesIO(file.content))
    return out.getvalue()


def layer(files: Iterable[File]) -> Blob:
    """A layer with these files."""
    return Blob(_tar(files))


def write(target: Path, images: Sequence[Image], architecture: str) -> None:
    """Write an archive of these images."""
    blobs: dict[str, Blob] = {}
    manifests = []
    for image in images:
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": dict(image.config),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in image.layers]},
        }
        about = Blob(_json(config))
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": about.descriptor("config.v1+json"),
            "layers": [layer.descriptor("layer.v1.tar") for layer in image.layers],
        }
        top = Blob(_json(manifest))
        blobs |= {blob.digest: blob for blob in (*image.layers, about, top)}
        manifests.append(top.descriptor("manifest.v1+json") | {"annotations": _named(image.name)})
    _pack(target, {"schemaVersion": 2, "manifests": manifests}, {name: blob.content for name, blob in blobs.items()})


def libraries(programs: Sequence[Path]) -> list[Path]:
    """The shared libraries that programs of this machine need, the loader among them."""
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    return sorted({Path(path) for path in re.findall(r"^\s+(?:\S+ => )?(/\S+) \(", listed, re.MULTILINE)})


def _named(name: str) -> dict[str, str]:
    return {_FULL_NAME: name, _TAG: name.rpartition(":")[2]}


def _pack(target: Path, index: Mapping[str, object], blobs: Mapping[str, bytes]) -> None:
    files = [
        File("oci-layout", _json({"imageLayoutVersion": "1.0.0"}), 0o644),
        File("index.json", _json(index), 0o644),
        *(File(f"blobs/sha256/{name}", content, 0o644) for name, content in blobs.items()),
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(target.name + ".new")
    scratch.write_bytes(_tar(files))
    scratch.rename(target)
