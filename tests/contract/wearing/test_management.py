"""Clients of the management port that are slow, greedy or many keep neither probes nor logins from it."""

import asyncio
from pathlib import Path

import pytest

from pullpass.tokenserver import management
from pullpass.tokenserver.http import connections
from tests.cluster import ports
from tests.contract.wearing.served import Served, Wire

without_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
PROBE = b"GET /healthz HTTP/1.1\r\nHost: tokens\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\n", PROBE])
async def test_connections_without_a_request_make_room_for_a_probe(served: Served, sent: bytes) -> None:
    for number in range(4 * management.MAX_CONNECTIONS):
        wire = await served.connect_management("127.0.0.2")
        await wire.send(sent)
        if number % 16 == 0:
            probe = await served.connect_management()
            await probe.send(PROBE)
            assert (await probe.answer()).status == 200
            probe.close()
    assert len(served.management.connections) <= management.MAX_CONNECTIONS
    assert served.management.connections.closed["crowded"] > 0
    assert (served.connections.closed["crowded"], await served.login()) == (0, 200)


async def test_a_request_that_does_not_come_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FIRST_REQUEST_SECONDS", 0.05)
    wire = await served.connect_management()
    await wire.send(b"GET /tokens/")
    await wire.closed()
    assert served.management.connections.closed["silent"] == 1


async def test_headers_without_an_end_are_cut_off(served: Served) -> None:
    wire = await served.connect_management()
    await wire.send(b"GET /healthz HTTP/1.1\r\n" + b"".join(b"X%d: %s\r\n" % (n, b"a" * 4000) for n in range(40)))
    assert (await wire.answer()).status in {400, 431}
    await wire.closed()


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=without_ipv6)])
async def test_without_an_address_a_port_is_of_both_families(served: Served, address: str) -> None:
    """As the process has both of its ports."""
    async with served.management.serve(None, ports.free()) as port:
        wire = Wire(*await asyncio.open_connection(address, port))
        await wire.send(PROBE)
        assert (await wire.answer()).status == 200
        wire.close()
