"""The image of pullpass is built and pushed as the README says, word for word. Only the registry is another."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.docker import Docker
from tests.cluster import places, product
from tests.cluster.engine import Engine
from tests.contract.clients.realm import Realm
from tests.contract.clients.registries import running
from tests.contract.clients.stage import ACTIONS, VERSIONS
from tests.readme import blocks

pytestmark = pytest.mark.node

HOST = "images.example.com"


@pytest.fixture
def base(docker: Engine) -> Iterator[None]:
    """The base image that the Dockerfile names, or what stands in for it under that name, in an engine that ends."""
    if not docker.ours:
        pytest.skip("this engine is somebody's: the build leaves images there that nothing tells from the user's own")
    bases = product.stand_ins(docker)
    if bases:
        docker.docker("tag", bases["BUILD_BASE"], product.base_image())
    yield
    if bases:
        docker.docker("image", "rm", product.base_image())


def test_the_image_is_built_and_pushed(docker: Engine, base: None, tmp_path: Path) -> None:
    commands, *_ = blocks("Install it on your cluster")
    [name] = {word for word in commands.split() if word.startswith(f"{HOST}/")}
    image = name.removeprefix(f"{HOST}/")
    everything = [{"repositories": [image.partition(":")[0]], "actions": ACTIONS["read-write"]}]
    (tmp_path / "registry").mkdir()
    realm = Realm({"platform": everything})
    with realm.serving(), running(VERSIONS[-1], tmp_path / "registry", realm) as registry:
        platform = Docker(registry.host, realm.login("platform"), tmp_path / "platform")
        platform.login()
        try:
            subprocess.run(
                ["bash", "-euo", "pipefail", "-c", commands.replace(HOST, registry.host)],
                cwd=places.ROOT,
                env=platform.environment(),
                check=True,
                timeout=850,
            )
            assert registry.content(image)
            said = platform.docker("run", "--rm", "--network=none", f"{registry.host}/{image}", "--help")
            assert "token-server" in said
        finally:
            docker.docker("image", "rm", f"{registry.host}/{image}", check=False)
