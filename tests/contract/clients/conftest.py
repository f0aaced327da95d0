"""One stage for the whole matrix."""

from collections.abc import Iterator

import pytest

from tests.contract.clients.stage import Stage, stage


@pytest.fixture(scope="session", name="stage")
def _stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("clients")) as made:
        yield made
