"""Write OCI image archives, without any container engine.

The same content always gives the same bytes, so that an archive's name can be the hash of what it is made of.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FULL_NAME = "io.containerd.image.name"
_TAG = "org.opencontainers.image.ref.name"
NONROOT = 65532
"""The user that most images without a root user have."""


@dataclass(frozen=True)
class File:
    """One file of an image; a directory when `content` is None."""

    path: str
    content: bytes | None
    mode: int = 0o755
    owner: int = 0


@dataclass(frozen=True)
class _Blob:
    content: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def descriptor(self, media_type: str) -> dict[str, object]:
        return {
            "mediaType": f"application/vnd.oci.image.{media_type}",
            "digest": f"sha256:{self.digest}",
            "size": len(self.content),
        }


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _tar(files: Sequence[File]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            info = tarfile.TarInfo(file.path)
            info.mode, info.uid, info.gid = file.mode, file.owner, file.owner
            if file.content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(file.content)
                archive.addfile(info, io.BytesIO(file.content))
    return out.getvalue()


def write(target: Path, name: str, files: Sequence[File], *, config: Mapping[str, object], architecture: str) -> None:
    """Write an archive of one image with one layer; `config` is the image's (Entrypoint, User, …)."""
    layer = _Blob(_tar(files))
    image = _Blob(
        _json(
            {
                "architecture": architecture,
                "os": "linux",
                "config": dict(config),
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}"]},
            }
        )
    )
    manifest = _Blob(
        _json(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": image.descriptor("config.v1+json"),
                "layers": [layer.descriptor("layer.v1.tar")],
            }
        )
    )
    index = {"schemaVersion": 2, "manifests": [manifest.descriptor("manifest.v1+json")]}
    content = [File(f"blobs/sha256/{blob.digest}", blob.content, 0o644) for blob in (layer, image, manifest)]
    _pack(target, name, index, content)


def from_layout(target: Path, name: str, layout: Path) -> None:
    """Write an archive out of an image layout directory, under the name that the node is to know it by."""
    index = json.loads((layout / "index.json").read_bytes())
    blobs = sorted((layout / "blobs/sha256").iterdir())
    _pack(target, name, index, [File(f"blobs/sha256/{blob.name}", blob.read_bytes(), 0o644) for blob in blobs])


def _pack(target: Path, name: str, index: dict[str, object], blobs: Sequence[File]) -> None:
    manifests = index["manifests"]
    if not isinstance(manifests, list) or len(manifests) != 1:
        raise ValueError("an archive holds exactly one image")
    manifests[0]["annotations"] = {_FULL_NAME: name, _TAG: name.rpartition(":")[2]}
    head = [
        File("oci-layout", _json({"imageLayoutVersion": "1.0.0"}), 0o644),
        File("index.json", _json(index), 0o644),
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(target.name + ".new")
    scratch.write_bytes(_tar([*head, *blobs]))
    scratch.rename(target)
