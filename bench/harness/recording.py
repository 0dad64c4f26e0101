"""The pools behind a gateway that record what reaches them, told apart by port."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from bench.harness.background import Background
from bench.harness.upstream import Connection, Fields, Head, Taker, listen, reply

_CHUNKED: Final = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n"
_END: Final = b"0\r\n\r\n"


def _chunk(octets: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(octets), octets)


@dataclass
class Received:
    """One request as a pool saw it, up to where it broke off: then it is `broken`, and never `complete`."""

    pool: str
    method: str
    target: str
    fields: Fields
    size: int = 0
    digest: str = ""
    complete: bool = False
    broken: bool = False
    trailers: Fields = field(default_factory=list)

    def header(self, name: str) -> list[str]:
        """Return the values of every field called `name`, letter case ignored."""
        return [value for key, value in self.fields if key.lower() == name.lower()]


class Upstreams:
    """HTTP/1.1 servers, one per pool, that record what reaches them.

    What is no HTTP/1.1 is recorded as well, as a request without a method whose target is what came.

    They answer with the pool's name, `x-pool` and the body's SHA-256. At /echo each piece of a body comes back as it
    comes; at /events there is one event at once, and the last one when a test allows it. An upgrade or a CONNECT is
    accepted, and its tunnel is an echo.

    Args:
        background: whose loop they run in.
        tunnels: whether tunnels stay; else they are closed as soon as they are there.
    """

    def __init__(self, background: Background, *, tunnels: bool = True) -> None:
        self._background = background
        self._servers: list[asyncio.Server] = []
        self._tunnels = tunnels
        self._may_end = False
        self._waiting: list[Connection] = []
        self.received: list[Received] = []
        self.ports: dict[str, int] = {}

    @property
    def busy(self) -> int:
        """How many requests have not come to their end."""
        return sum(not each.complete and not each.broken for each in self.received)

    def start(self, *pools: str) -> None:
        """Listen on a free loopback port for each pool."""
        for pool in pools:
            begin, malformed = partial(self._begin, pool), partial(self._note, pool)
            server, self.ports[pool] = self._background.run(listen(partial(Connection, begin, malformed)))
            self._servers.append(server)

    def let_events_end(self) -> None:
        """Allow every answer at /events to send its last event."""
        self._background.loop.call_soon_threadsafe(self._end_events)

    def forget(self) -> None:
        """Start a test afresh."""
        self.received.clear()
        self._may_end = False

    def stop(self) -> None:
        """Stop listening; connections end with the gateway's."""
        for server in self._servers:
            self._background.loop.call_soon_threadsafe(server.close)

    def _note(self, pool: str, octets: bytes) -> None:
        self.received.append(Received(pool, "", octets.decode("latin-1"), [], broken=True))

    def _end_events(self) -> None:
        self._may_end = True
        for connection in self._waiting:
            connection.write(_chunk(b"data: [DONE]\n\n") + _END)
        self._waiting.clear()

    def _begin(self, pool: str, connection: Connection, head: Head) -> Taker:
        got = Received(pool, head.method, head.target, head.fields)
        self.received.append(got)
        if head.upgrade:
            return _Tunnel(connection, got, stays=self._tunnels)
        if got.target == "/echo":
            return _Echo(connection, got)
        return _Record(connection, got, self._events if got.target == "/events" else _named)

    def _events(self, connection: Connection, _got: Received) -> None:
        connection.write(_CHUNKED % b"text/event-stream" + _chunk(b"data: first\n\n"))
        self._waiting.append(connection)
        if self._may_end:
            self._end_events()


def _named(connection: Connection, got: Received) -> None:
    octets = reply(got.pool.encode(), content_type="text/plain", x_pool=got.pool, x_body_sha256=got.digest)
    connection.write(octets.removesuffix(got.pool.encode()) if got.method == "HEAD" else octets)


class _Record:
    """Takes a body's size and digest."""

    def __init__(
        self, connection: Connection, got: Received, answer: Callable[[Connection, Received], None] = _named
    ) -> None:
        self._connection = connection
        self._got = got
        self._answer = answer
        self._digest = hashlib.sha256()

    def take(self, piece: bytes) -> None:
        """Count a piece."""
        self._got.size += len(piece)
        self._digest.update(piece)

    def end(self, trailers: Fields) -> None:
        """Complete the record, and answer."""
        self._got.digest = self._digest.hexdigest()
        self._got.trailers = trailers
        self._got.complete = True
        self._answer(self._connection, self._got)

    def lost(self) -> None:
        """Note where the request broke off."""
        self._got.digest = self._digest.hexdigest()
        self._got.broken = True


class _Echo(_Record):
    """Sends each piece back as it comes."""

    def __init__(self, connection: Connection, got: Received) -> None:
        super().__init__(connection, got, lambda connection, _: connection.write(_END))
        kind = next(iter(got.header("content-type")), "application/octet-stream")
        connection.write(_CHUNKED % kind.encode())

    def take(self, piece: bytes) -> None:
        """Send a piece back."""
        super().take(piece)
        self._connection.write(_chunk(piece))


class _Tunnel:
    """Accepts an upgrade or a CONNECT, and sends back what comes through the tunnel."""

    def __init__(self, connection: Connection, got: Received, *, stays: bool) -> None:
        self._connection = connection
        self._got = got
        self._stays = stays

    def take(self, piece: bytes) -> None:
        """Send a piece back."""
        if self._got.complete:
            self._connection.write(piece)

    def end(self, _trailers: Fields) -> None:
        """Accept."""
        self._got.complete = True
        protocol = ", ".join(self._got.header("upgrade"))
        switching = f"101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}"
        status = "200 OK" if self._got.method == "CONNECT" else switching
        self._connection.write(f"HTTP/1.1 {status}\r\n\r\n".encode("latin-1"))
        if not self._stays:
            self._connection.close()

    def lost(self) -> None:
        """Note that the request broke off."""
        self._got.broken = True
