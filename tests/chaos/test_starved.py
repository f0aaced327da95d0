"""Processes with a twentieth of a processor: they start, and they answer whatever reaches them."""

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.chaos import programs
from tests.chaos.api import NAMESPACES, Api
from tests.chaos.large import LargeMaps
from tests.chaos.pressing import Clients
from tests.chaos.programs import CREDENTIALS, SYSTEM, Program
from tests.chaos.stage import Stage
from tests.chaos.starving import starved
from tests.chaos.waiting import eventually, until
from tests.cluster import places, ports, provider, start_control_plane

pytestmark = [pytest.mark.controlplane, pytest.mark.asyncio(loop_scope="package")]

MILLICORES = 50
MAPS = 200
EDITS = 100
LOGINS = 100
FORGETFUL = "forgetful"
PATIENCE = 600.0
"""Seconds for a start, which takes about one minute where nothing else runs."""


@pytest_asyncio.fixture(loop_scope="package")
async def large(stage: Stage) -> AsyncIterator[LargeMaps]:
    """Largest ScopeMaps, which nobody uses; gone afterwards."""
    maps = LargeMaps(stage.api, MAPS)
    try:
        await maps.create()
        yield maps
    finally:
        await maps.delete()


async def test_a_token_server_starts_and_cuts_nobody_off(stage: Stage, large: LargeMaps) -> None:
    server = stage.servers[0]
    server.kill()
    await until(lambda: server.program.alive, "it is started anew")
    with starved(server.program, MILLICORES):
        session = stage.endpoints.session

        async def ready() -> bool:
            try:
                async with session.get(f"{server.management_url}/readyz") as answer:
                    return answer.status == 200
            except (OSError, TimeoutError):
                return False

        await eventually(ready, "a starved token server is ready", seconds=PATIENCE)
        logins = [await stage.tokens.read(name) for name in stage.tokens.names]
        async with Clients(server.url, logins) as clients:
            await large.edit(EDITS)
            await until(lambda: clients.results["answered"] >= LOGINS, "logins are answered", seconds=PATIENCE)
        assert clients.results["refused"], "wrong passwords were among them"
        assert {result for result in clients.results if clients.results[result]} == {"answered", "refused"}
    await stage.all_ready()


async def test_an_operator_starts_and_leads(stage: Stage, large: LargeMaps) -> None:
    starving, other = stage.operators
    other.let_end()
    other.kill()
    starving.kill()
    await until(lambda: starving.program.alive, "it is started anew")
    with starved(starving.program, MILLICORES):
        await eventually(lambda: _leads(stage), "a starved operator leads", seconds=PATIENCE)
        # One that lost the Lease would have ended, and begun anew.
        ended = len(starving.ended)
        await stage.tokens.storm()
        wanted = stage.ledger.rotations + len(stage.tokens.names)
        await until(lambda: stage.ledger.rotations >= wanted, "it rotates", seconds=PATIENCE)
        assert len(starving.ended) == ended
    other.keep()
    await stage.tokens.calm()
    await stage.settled()


async def test_an_operator_reads_lists_that_the_api_server_forgets_meanwhile() -> None:
    """As it is with 20,000 tokens: to read them takes longer than the five minutes after which lists are forgotten."""
    health, metrics = ports.free(), ports.free()
    try:
        cluster = await asyncio.to_thread(start_control_plane, FORGETFUL, compaction="2s")
        async with Api.connect(cluster.kubeconfig) as api, aiohttp.ClientSession() as session:
            await asyncio.to_thread(cluster.kubectl, "apply", "-f", str(places.ROOT / "crds"))
            await asyncio.to_thread(cluster.kubectl, "wait", "--for=condition=Established", "crd", "--all")
            for namespace in (SYSTEM, CREDENTIALS):
                await api.create(NAMESPACES, {"metadata": {"name": namespace}})
            await LargeMaps(api, MAPS).create()
            operator = Program(
                cluster, "operator", programs.operator("operator", health, metrics, "none"), cluster.kubeconfig
            )
            with operator, starved(operator, MILLICORES):

                async def leads() -> bool:
                    assert operator.alive, "the operator has ended"
                    # Without a write there is nothing to forget.
                    await api.merge(f"{NAMESPACES}/{SYSTEM}", {"metadata": {"annotations": {"now": str(time.time())}}})
                    try:
                        async with session.get(f"http://127.0.0.1:{metrics}/metrics") as answer:
                            return "pullpass_operator_leader 1.0" in await answer.text()
                    except (aiohttp.ClientError, OSError, TimeoutError):
                        return False

                await eventually(leads, "a starved operator leads", seconds=PATIENCE, every=0.5)
            assert "took so long that it begins anew" in operator.log.read_text(), "this test has shown nothing"
    finally:
        await asyncio.to_thread(provider.stop, FORGETFUL)


async def _leads(stage: Stage) -> bool:
    metrics = await stage.operators[0].metrics(stage.endpoints.session)
    return metrics.get("pullpass_operator_leader") == 1
