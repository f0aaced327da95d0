"""What a mount of one blob needs: read and write on the target, read on the source, and the blob in the source."""

import pytest

from tests.clients.client import RefusedError
from tests.clients.docker import Docker
from tests.contract.clients.stage import BASE, VERSIONS, Stage, repository

versions = pytest.mark.parametrize("version", VERSIONS)


def client(stage: Stage, version: str, *, guarded: bool = True) -> Docker:
    user = (
        stage.user(version, "docker", "read-write")
        if guarded
        else stage.client(stage.registry(version, False), "docker", None, f"{version}-mounts")
    )
    assert isinstance(user, Docker)
    return user


@versions
def test_without_read_on_the_source_nothing_is_mounted(stage: Stage, version: str) -> None:
    registry = stage.registry(version, True)
    stage.prepare(registry, "docker", "mount", "wildcard")
    target = repository("read-write", "docker", "mount")
    before = registry.tree()
    for digest in stage.contents["image"].blobs:
        with pytest.raises(RefusedError) as refusal:
            client(stage, version).mount_blob(digest, f"wildcard/{BASE}", target)
        assert 'error="insufficient_scope"' in str(refusal.value)
    assert registry.tree() == before


@versions
def test_what_the_source_does_not_have_is_to_be_uploaded(stage: Stage, version: str) -> None:
    chart = next(iter(stage.contents["chart"].blobs))
    for guarded in (False, True):
        stage.prepare(stage.registry(version, guarded), "docker", "mount", "read-write")
        target = repository("read-write", "docker", "mount")
        status = client(stage, version, guarded=guarded).mount_blob(chart, f"read-write/{BASE}", target)
        assert status == 202
