"""Brings ports of the first node to 127.0.0.1 of this machine: one small process per cluster.

A socket belongs to the network namespace it was made in, whoever holds it. So the listening sockets are
made on this machine and handed to this program, which runs inside the node's network and connects to the
node's ports from there: no link between the two networks, and nothing of the node's network to clean up on
this machine.

Run as `python forwarder.py FD:PORT…`: for each, accept from the socket FD and connect to 127.0.0.1:PORT.
"""

import asyncio
import socket
import sys


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, and pass the end on: half-closed connections stay usable the other way."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _forward(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        writer.transport.abort()  # a reset, the nearest thing to the refusal that the node gave
        return
    pumps = [
        asyncio.create_task(_pump(reader, there_writer)),
        asyncio.create_task(_pump(there_reader, writer)),
    ]
    try:
        await asyncio.gather(*pumps)
    except OSError:
        pass
    finally:
        for pump in pumps:
            pump.cancel()
        for end in (writer, there_writer):
            end.close()


async def _serve(forwards: list[tuple[int, int]]) -> None:
    servers = []
    for descriptor, port in forwards:

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port) -> None:
            await _forward(port, reader, writer)

        servers.append(await asyncio.start_server(connected, sock=socket.socket(fileno=descriptor)))
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main(arguments: list[str]) -> None:
    pairs = (argument.split(":") for argument in arguments)
    asyncio.run(_serve([(int(descriptor), int(port)) for descriptor, port in pairs]))


if __name__ == "__main__":
    main(sys.argv[1:])
