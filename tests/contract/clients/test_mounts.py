"""What a mount of one blob needs: read and write on the target, read on the source, and the blob in the source."""

import pytest

from tests.clients.api import Api
from tests.clients.client import RefusedError
from tests.contract.clients.stage import BASE, VERSIONS, Stage, repository

versions = pytest.mark.parametrize("version", VERSIONS)


def user(stage: Stage, version: str, *, guarded: bool = True) -> Api:
    return Api(stage.registry(version, guarded).host, stage.realm.login("read-write") if guarded else None)


@versions
def test_without_read_on_the_source_nothing_is_mounted(stage: Stage, version: str) -> None:
    registry = stage.registry(version, True)
    stage.prepare(registry, Api.name, "mount", "wildcard")
    target = repository("read-write", Api.name, "mount")
    before = registry.tree()
    for digest in stage.contents["image"].blobs:
        with pytest.raises(RefusedError) as refusal:
            user(stage, version).mount_blob(digest, f"wildcard/{BASE}", target)
        assert 'error="insufficient_scope"' in str(refusal.value)
    assert registry.tree() == before


@versions
def test_what_the_source_does_not_have_is_to_be_uploaded(stage: Stage, version: str) -> None:
    chart = next(iter(stage.contents["chart"].blobs))
    for guarded in (False, True):
        stage.prepare(stage.registry(version, guarded), Api.name, "mount", "read-write")
        target = repository("read-write", Api.name, "mount")
        status = user(stage, version, guarded=guarded).mount_blob(chart, f"read-write/{BASE}", target)
        assert status == 202
