"""Good clients while every core of the machine sends wrong credentials as fast as it can.

Three floods, one after the other: well-formed passwords for the user there is, well-formed ones for users there are
not, and such as are not even well-formed. Each comes from another address, so that limits for a sender help little. The
flood has the lowest priority on the machine: whoever floods has machines of their own, and what is measured is the
server.
"""

import asyncio
import base64
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from pullpass.credentials import password
from tests.bench.figures import Figure
from tests.bench.served import Served, on, requests, serving
from tests.bench.token_server import REPOSITORY, UID, USER
from tests.cluster import toolchain

ROUNDS = 3
SECONDS = 4
CLIENTS = 4
PAUSE = 0.005
CONNECTIONS = 32
"""Of the flood, from each core."""
LOGINS = 60_000
"""Wrong ones; more than the server remembers."""
WARMING = 1.0


def run() -> Iterator[Figure]:
    """Measures and yields the figures, for each kind of flood."""
    cores = sorted(os.sched_getaffinity(0))
    for kind, wrong in KINDS.items():
        with tempfile.TemporaryDirectory() as directory, serving("--trusted-proxy=127.0.0.1/32", cores=cores) as served:
            logins = Path(directory, "logins")
            logins.write_text("".join(f"{_basic(*wrong(number))}\n" for number in range(LOGINS)))
            _buy(served, WARMING)
            calm, flooded, sent = [], [], 0
            for _ in range(ROUNDS):
                calm.append(_buy(served, SECONDS))
                with _flood(served, logins, cores) as floods:
                    time.sleep(WARMING)
                    flooded.append(_buy(served, SECONDS))
                sent += sum(requests(flood.communicate()[0]) for flood in floods)
            checks = served.metrics()["pullpass_token_server_bcrypt_checks_total"]
        middle = statistics.median
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            yield Figure(f"{kind}_good_{name}_calm", 1e3 * middle(one.quantile(share) for one in calm), "ms")
            yield Figure(f"{kind}_good_{name}_in_flood", 1e3 * middle(one.quantile(share) for one in flooded), "ms")
        ratios = [during.quantile(0.99) / before.quantile(0.99) for before, during in zip(calm, flooded, strict=True)]
        yield Figure(f"{kind}_good_p99_in_flood_over_calm", middle(ratios), "ratio", goal=5, at="most")
        refused = sum(one.refused for one in (*calm, *flooded))
        yield Figure(f"{kind}_good_refused", refused, "logins", goal=0, at="most")
        yield Figure(f"{kind}_good_in_flood", sum(len(one.seconds) for one in flooded), "logins")
        yield Figure(f"{kind}_sent", sent / (ROUNDS * (SECONDS + 2 * WARMING)), "requests/s")
        yield Figure(f"{kind}_bcrypt_checks", checks, "checks")


def _well_formed() -> str:
    return password.derive(os.urandom(32), UID, password.new_nonce(), password.new_id()).text


KINDS: dict[str, Callable[[int], tuple[str, str]]] = {
    "flood_wrong": lambda number: (USER, _well_formed()),
    "flood_unknown": lambda number: (f"team.nobody{number}", _well_formed()),
    "flood_malformed": lambda number: (f"team.nobody{number}", f"secret{number}"),
}
"""User and password of a wrong login."""


def _basic(user: str, text: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{text}".encode()).decode()


@contextmanager
def _flood(served: Served, logins: Path, cores: list[int]) -> Iterator[list[subprocess.Popen[str]]]:
    """A flood from each core, for as long as the good clients buy and a little longer on both sides."""
    script = str(Path(__file__).with_name("flood.lua"))
    wrk = [str(toolchain.tool("wrk")), "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS + 2 * WARMING:g}s", "-s", script]
    yield [
        subprocess.Popen(
            ["nice", "-n", "19", *on([core]), *wrk, served.token, "--", str(logins), str(random.randrange(LOGINS))],
            stdout=subprocess.PIPE,
            text=True,
        )
        for core in cores
    ]


class Bought:
    """What good clients got."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.refused = 0

    def quantile(self, share: float) -> float:
        """How long that share of them waited at most, in seconds."""
        return sorted(self.seconds)[int(len(self.seconds) * share)]


def _buy(served: Served, seconds: float) -> Bought:
    """Good clients that ask for other scopes each time, so that each answer is signed by itself."""

    async def client(bought: Bought) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            path = f"/token?scope=repository:{REPOSITORY}{random.getrandbits(64)}:pull"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {served.login}\r\n\r\n".encode())
            begun = time.perf_counter()
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r")[0]))
            bought.seconds.append(time.perf_counter() - begun)
            bought.refused += not head.startswith("http/1.1 200 ")
            await asyncio.sleep(random.uniform(0, 2 * PAUSE))
        writer.close()

    async def buy() -> Bought:
        bought = Bought()
        await asyncio.gather(*(client(bought) for _ in range(CLIENTS)))
        return bought

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(buy())
