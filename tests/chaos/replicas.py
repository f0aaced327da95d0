"""Operators and token servers with all that they have of their own: process, proxy, ports.

What ends is started anew under the same name, as the kubelet restarts a container in its pod.
"""

import asyncio

import aiohttp
import yaml

from tests.chaos import programs
from tests.chaos.api import Api
from tests.chaos.programs import Program
from tests.chaos.proxy import Proxy
from tests.chaos.waiting import until
from tests.cluster import ControlPlane, ports

RESTART_SECONDS = 1.0
"""From the end of a process to its next start. Kubernetes starts at once at first, and then takes longer and longer."""
POLL_SECONDS = 0.1


class Replica:
    """One process, the proxy that is its way to the API server as `api`, and whoever restarts it."""

    def __init__(self, cluster: ControlPlane, api: Api, name: str, arguments: list[str], seed: int) -> None:
        self.name = name
        self.proxy = Proxy(api, name, seed)
        self._wanted = asyncio.Event()
        """Whether it is started anew when it ends."""
        self.paused = False
        self.ended: list[int] = []
        """Exit statuses of the runs that have ended."""
        self._kubeconfig = cluster.directory / f"{name}.kubeconfig"
        self.program = Program(cluster, name, arguments, self._kubeconfig)
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the proxy and the process, and keeps the process running."""
        await self.proxy.start()
        self.keep()
        self._kubeconfig.write_text(_kubeconfig(self.proxy.url))
        self.program.start()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ends both."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self.program.kill()
        await self.proxy.stop()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            status = self.program.exit_status
            if status is None:
                continue
            self.ended.append(status)
            self.paused = False
            await asyncio.sleep(RESTART_SECONDS)
            await self._wanted.wait()
            self.program.start()

    def kill(self) -> None:
        """Ends the process without a word."""
        self.program.kill()

    def pause(self) -> None:
        """The process stands still."""
        self.program.pause()
        self.paused = True

    def resume(self) -> None:
        """The process goes on."""
        self.paused = False
        self.program.resume()

    async def end(self) -> int:
        """Waits until the process has ended, where it is not started anew, and returns its exit status."""
        await until(lambda: not self.program.alive, f"{self.name} ends")
        status = self.program.exit_status
        assert status is not None
        return status

    def let_end(self) -> None:
        """From now on the process is not started anew when it ends."""
        self._wanted.clear()

    def keep(self) -> None:
        """From now on the process is started anew when it ends, also where it has ended already."""
        self._wanted.set()


class Operator(Replica):
    """An operator. Its name is its identity."""

    def __init__(self, cluster: ControlPlane, api: Api, name: str, token_servers: str, seed: int) -> None:
        self._metrics_port = _port()
        arguments = programs.operator(name, _port(), self._metrics_port, token_servers)
        super().__init__(cluster, api, name, arguments, seed)

    async def metrics(self, session: aiohttp.ClientSession) -> dict[str, float]:
        """What it says of itself: the metrics without labels; empty where it does not answer."""
        try:
            async with session.get(f"http://127.0.0.1:{self._metrics_port}/metrics") as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return {}
        lines = [line.split() for line in text.splitlines() if line and not line.startswith("#") and "{" not in line]
        return {name: float(value) for name, value in lines}


class TokenServer(Replica):
    """A token server. Whether it is `ready` is what its EndpointSlice says."""

    def __init__(self, cluster: ControlPlane, api: Api, name: str, address: str, seed: int) -> None:
        self.port, self.management_port = _port(), _port()
        super().__init__(cluster, api, name, programs.token_server(self.port, self.management_port), seed)
        self.address = address
        self.ready = False
        """Whether customers are led here."""
        self.changes = 0
        """How often `ready` has changed."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.address}:{self.port}"

    @property
    def management_url(self) -> str:
        """Where its management port is."""
        return f"http://{self.address}:{self.management_port}"


_taken: set[int] = set()


def _port() -> int:
    """A free port, and each time another one: what is free stays so until somebody listens there."""
    while (port := ports.free()) in _taken:
        continue
    _taken.add(port)
    return port


def _kubeconfig(server: str) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "chaos",
        "clusters": [{"name": "chaos", "cluster": {"server": server}}],
        "users": [{"name": "chaos", "user": {}}],
        "contexts": [{"name": "chaos", "context": {"cluster": "chaos", "user": "chaos"}}],
    }
    return yaml.safe_dump(config)
