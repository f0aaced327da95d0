"""What the clients push and pull: one small image, one chart, and something that refers to either."""

import hashlib
import io
import json
import secrets
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster import images, oci

TAG = "1.0.0"
"""Of all content: Helm knows versions only."""
CHART = "app"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CHART_CONFIG = "application/vnd.cncf.helm.config.v1+json"
_CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def blobs_of(manifest: bytes) -> list[str]:
    """The digests of the config and of the layers."""
    parsed = json.loads(manifest)
    return [descriptor["digest"] for descriptor in (parsed["config"], *parsed["layers"])]


@dataclass(frozen=True)
class Content:
    """A manifest with its blobs by digest, and the same as files for clients that read files."""

    manifest: bytes
    blobs: Mapping[str, bytes] = field(repr=False)
    layout: Path = Path()
    """An image layout directory."""
    archive: Path = Path()
    """An OCI archive of it; of a chart, the chart's own archive."""

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @classmethod
    def of_layout(cls, layout: Path, archive: Path = Path()) -> "Content":
        """Read the one image of an image layout directory."""

        def blob(digest: str) -> bytes:
            content = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
            assert digest_of(content) == digest
            return content

        [described] = json.loads((layout / "index.json").read_bytes())["manifests"]
        manifest = blob(described["digest"])
        return cls(manifest, {digest: blob(digest) for digest in blobs_of(manifest)}, layout, archive)

    @classmethod
    def of_archive(cls, archive: Path, layout: Path) -> "Content":
        """Read the one image of an OCI archive, unpacked to `layout`."""
        with tarfile.open(archive) as packed:
            packed.extractall(layout, filter="data")
        return cls.of_layout(layout, archive)


def image(directory: Path) -> Content:
    """An image of one small layer, for this machine's architecture. No engine has its like."""
    archive = directory / "image.tar"
    files = [oci.File("greeting", f"hello {secrets.token_hex(8)}\n".encode(), 0o644)]
    oci.write(
        archive, [oci.Image(f"localhost/app:{TAG}", [oci.layer(files)], {"Cmd": ["/greeting"]})], images.architecture()
    )
    return Content.of_archive(archive, directory / "image")


def chart(directory: Path) -> Content:
    """A chart without templates."""
    about = {"apiVersion": "v2", "name": CHART, "version": TAG, "description": "nothing"}
    packed = directory / f"{CHART}-{TAG}.tgz"
    content = json.dumps(about).encode()
    with tarfile.open(packed, "w:gz") as archive:
        info = tarfile.TarInfo(f"{CHART}/Chart.yaml")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    blobs = [(_CHART_CONFIG, content), (_CHART_LAYER, packed.read_bytes())]
    made = _content(blobs)
    return Content(made.manifest, made.blobs, archive=packed)


def referrer(subject: Content) -> Content:
    """A bill of materials of the subject."""
    described = {"mediaType": MANIFEST, "digest": subject.digest, "size": len(subject.manifest)}
    empty = ("application/vnd.oci.empty.v1+json", b"{}")
    return _content([empty, empty], artifactType="application/spdx+json", subject=described)


def referrers_index(referrer: Content) -> bytes:
    """What a registry without the referrers API keeps under the subject's digest as a tag."""
    entry = {
        "mediaType": MANIFEST,
        "digest": referrer.digest,
        "size": len(referrer.manifest),
        "artifactType": "application/spdx+json",
    }
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()


def _content(blobs: list[tuple[str, bytes]], **more: Any) -> Content:
    """The first blob is the config, the others are layers."""
    config, *layers = [
        {"mediaType": media_type, "digest": digest_of(blob), "size": len(blob)} for media_type, blob in blobs
    ]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, **more}
    return Content(json.dumps(manifest).encode(), {digest_of(blob): blob for _, blob in blobs})
