"""The model servers behind a benchmark's gateway: they read a request's body and say whose it is, how long and which.

One process, a port for each pool. Run by bench.published.gateway: python -m bench.harness.upstream POOL... (prints the
ports).
"""

import asyncio
import re
import sys
import zlib
from typing import cast

import uvloop

# A gateway opens a connection for each of its clients at once; one beyond it waits a second.
BACKLOG = 4_096

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_END = b"0\r\n\r\n"
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)


def tale(pool: str, body: bytes) -> bytes:
    """Return what a pool answers to a body."""
    return b"%s %d %08x" % (pool.encode(), len(body), zlib.crc32(body))


def unchunk(octets: bytes) -> bytes | None:
    """Return a body in chunked coding, without trailers; None while it is not complete."""
    pieces: list[bytes] = []
    position = 0
    while (line := octets.find(b"\r\n", position)) >= 0:
        size = int(octets[position:line], 16)
        start, position = line + 2, line + 4 + size
        if len(octets) < position:
            return None
        if not size:
            return b"".join(pieces)
        pieces.append(octets[start : start + size])
    return None


class Upstream(asyncio.Protocol):
    """One connection, HTTP/1.1, one request at a time."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._parts: list[bytes] = []
        self._missing = 0
        self._chunked = False
        self._last: tuple[bytes | None, bytes] = (None, b"")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is complete."""
        self._parts.append(data)
        self._missing -= len(data)
        if self._missing > 0 or (self._chunked and not data.endswith(_END[-len(data) :])):
            return
        octets = b"".join(self._parts)
        self._parts = [octets]
        head, blank, body = octets.partition(b"\r\n\r\n")
        if not blank:
            return
        head += b"\r\n"
        length = _LENGTH.search(head)
        if length is not None:
            self._missing = int(length[1]) - len(body)
            if self._missing > 0:
                return
        elif _CHUNKED.search(head):
            self._chunked = True  # so that a long one is put together once, as one whose length is known
            whole = unchunk(body)
            if whole is None:
                return
            body = whole
        self._parts = []
        self._missing = 0
        self._chunked = False
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        last, reply = self._last
        if body != last:  # telling bodies apart must cost little beside what is measured
            told = tale(self._pool, body)
            reply = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s" % (len(told), told)
            self._last = (body, reply)
        self._transport.write(reply)


async def serve(pools: list[str]) -> None:
    """Listen on a free port for each pool and tell them, until stdin ends."""
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda pool=pool: Upstream(pool), "127.0.0.1", 0, backlog=BACKLOG) for pool in pools
    ]  # type: ignore[misc]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.close()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1:]))
