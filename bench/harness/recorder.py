"""A recording HTTP/1.1 server on bare streams: header names, repeated fields and trailers exactly as they arrive."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.harness.background import Background
from bench.harness.recording import Received

HEAD_LIMIT_BYTES = 1 << 20


@dataclass
class Arrived(Received):
    """One request as a pool saw it, its trailers too."""

    trailers: list[tuple[str, str]] = field(default_factory=list)


class Recorder:
    """One server per pool that records whatever a gateway sends, well-formed as a gateway's requests are."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._servers: list[asyncio.Server] = []
        self.arrived: list[Arrived] = []
        self.ports: dict[str, int] = {}
        self.busy = 0

    def start(self, *pools: str) -> None:
        """Listen on a free loopback port for each pool."""
        for pool in pools:
            server = self._background.run(
                asyncio.start_server(self._handler(pool), "127.0.0.1", 0, limit=HEAD_LIMIT_BYTES)
            )
            self._servers.append(server)
            self.ports[pool] = server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Stop listening; connections end with the gateway's."""
        for server in self._servers:
            self._background.loop.call_soon_threadsafe(server.close)

    def _handler(self, pool: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await self._answer(pool, reader, writer):
                    pass
            except (asyncio.IncompleteReadError, ConnectionError):
                pass  # the gateway has given the request up, or closed an idle connection
            finally:
                writer.close()

        return serve

    async def _answer(self, pool: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take one request; return whether the connection lives on."""
        line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        method, target, _ = line.split(" ")
        got = Arrived(pool, method, target, _fields(fields))
        self.arrived.append(got)
        self.busy += 1
        try:
            return await self._read_and_reply(got, reader, writer)
        finally:
            self.busy -= 1

    async def _read_and_reply(self, got: Arrived, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if got.method == "CONNECT" or got.header("upgrade"):
            got.complete = True
            protocol = ", ".join(got.header("upgrade"))
            head = (
                "200 OK" if got.method == "CONNECT" else f"101 Switching\r\nconnection: upgrade\r\nupgrade: {protocol}"
            )
            writer.write(f"HTTP/1.1 {head}\r\n\r\n".encode("latin-1"))
            await writer.drain()
            return False
        await _read_body(got, reader)
        got.complete = True
        writer.write(f"HTTP/1.1 200 OK\r\nx-pool: {got.pool}\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()
        return True


async def _read_body(got: Arrived, reader: asyncio.StreamReader) -> None:
    digest = hashlib.sha256()

    async def take(size: int) -> None:
        digest.update(await reader.readexactly(size))
        got.size += size

    if got.header("transfer-encoding"):
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await take(size)
            await reader.readexactly(2)
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            got.trailers += _fields([line[:-2].decode("latin-1")])
    else:
        await take(int(*got.header("content-length") or ["0"]))
    got.digest = digest.hexdigest()


def _fields(lines: list[str]) -> list[tuple[str, str]]:
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
