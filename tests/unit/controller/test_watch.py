"""How Kopf is set up."""

import logging
from collections.abc import Iterator

import pytest

from pullpass.controller import watch

LOGGERS = ("kopf", "aiohttp.access")


@pytest.fixture
def _levels() -> Iterator[None]:
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("_levels")
def test_kopf_logs_neither_objects_nor_probes() -> None:
    """At debug level it logs whole objects, and at info each probe of the health port that it serves."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    watch.make_kopf_settings()
    for name in LOGGERS:
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
        assert logging.getLogger(name).isEnabledFor(logging.WARNING)
