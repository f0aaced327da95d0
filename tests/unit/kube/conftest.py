"""The client, and the API server that it is connected to."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

from pullpass.kube.client import (
    Kube,
)
from tests.unit.kube.served import Api


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
async def kube(api: Api) -> AsyncIterator[Kube]:
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", api.handle)
    async with TestServer(application) as server:
        settings = client.Configuration(host=str(server.make_url("")).rstrip("/"))
        async with client.ApiClient(configuration=settings) as connection:
            yield Kube(connection)
