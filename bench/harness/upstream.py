"""An HTTP/1.1 server on loopback, as pools behind a gateway: each request goes to a taker, which answers it.

A gateway sends one request at a time on each of its connections, so no two are under way on one. Requests are read
here: llhttp knows no methods but those that are registered, where gateways pass any, and h11 takes ten times as long,
which would be a large part of what some benchmarks measure.
"""

import asyncio
import re
from collections.abc import Callable
from functools import cached_property
from typing import Final, Protocol, cast

# A gateway opens a connection for each of its clients at once; one beyond it waits a second.
BACKLOG: Final = 4_096

# What a connection reads next. Plain numbers: they are compared several times in each request.
_HEAD, _BODY, _CHUNK_SIZE, _CHUNK, _CHUNK_END, _TRAILERS, _TUNNEL = range(7)
_HEAD_LIMIT_BYTES: Final = 1 << 20
# What says where a request ends, and what comes after it; of a head in lower case.
_FRAMING: Final = re.compile(rb"\r\n(transfer-encoding|content-length|connection|upgrade):[ \t]*([^\r]*)")

Fields = list[tuple[str, str]]


class Head:
    """A request's line and header section, names as they came.

    Args:
        method: of the request.
        target: of the request.
        lines: of the header section; read when somebody asks for them.
        upgrade: the connection is a tunnel from here on, if the answer says so.
    """

    def __init__(self, method: str, target: str, lines: bytes = b"", *, upgrade: bool = False) -> None:
        self.method = method
        self.target = target
        self.upgrade = upgrade
        self._lines = lines

    @cached_property
    def fields(self) -> Fields:
        """Names and values in their order.

        Raises:
            ValueError: a line is no field.
        """
        return [_field(line) for line in self._lines.split(b"\r\n")] if self._lines else []

    def header(self, name: str) -> list[str]:
        """Return the values of every field called `name`, letter case ignored."""
        return [value for key, value in self.fields if key.lower() == name.lower()]


class Taker(Protocol):
    """What takes one request."""

    def take(self, piece: bytes) -> None:
        """Take a piece of the body, or after an upgrade of what comes through the tunnel."""

    def end(self, trailers: Fields) -> None:
        """The request has ended."""

    def lost(self) -> None:
        """The connection was lost before the request had ended."""


class Connection(asyncio.Protocol):
    """One connection.

    Args:
        begin: returns the taker of a request whose head has come; it answers by `write`.
        malformed: is told octets that are no HTTP/1.1, before the connection is closed.
    """

    def __init__(
        self,
        begin: Callable[["Connection", Head], Taker],
        malformed: Callable[[bytes], None] = lambda octets: None,
    ) -> None:
        self._begin = begin
        self._malformed = malformed
        self._state = _HEAD
        self._rest = b""  # of what can't be read yet
        self._missing = 0  # octets of the body or of a chunk
        self._trailers: Fields = []
        self._last = False
        self._upgrade = False
        self._taker: Taker | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the request that is under way."""
        if self._taker is not None and self._state != _TUNNEL:
            self._taker.lost()

    def data_received(self, data: bytes) -> None:
        """Read."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        try:
            while data:
                data = self._step(data)
        except ValueError:
            self._malformed(data)
            self._transport.abort()

    def write(self, octets: bytes) -> None:
        """Send octets of an answer."""
        self._transport.write(octets)

    def close(self) -> None:
        """Close the connection once all is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def _step(self, data: bytes) -> bytes:
        """Read what stands first in some octets; return what is behind it.

        Raises:
            ValueError: it is no HTTP/1.1.
        """
        state, taker = self._state, self._taker
        if state == _HEAD:
            return self._read_head(data)
        assert taker is not None
        if state == _TUNNEL:
            taker.take(data)
            return b""
        if state in (_BODY, _CHUNK):
            piece, data = data[: self._missing], data[self._missing :]
            self._missing -= len(piece)
            taker.take(piece)
            if not self._missing:
                if state == _BODY:
                    self._end()
                else:
                    self._state = _CHUNK_END
            return data
        line, found, behind = data.partition(b"\r\n")
        if not found:
            self._keep(data)
            return b""
        if state == _CHUNK_SIZE:
            self._missing = int(line.partition(b";")[0], 16)
            self._state = _CHUNK if self._missing else _TRAILERS
        elif state == _CHUNK_END:
            if line:
                raise ValueError(line)
            self._state = _CHUNK_SIZE
        elif line:
            self._trailers.append(_field(line))
        else:
            self._end()
        return behind

    def _read_head(self, data: bytes) -> bytes:
        head, found, behind = data.partition(b"\r\n\r\n")
        if not found:
            self._keep(data)
            return b""
        first, _, lines = head.partition(b"\r\n")
        method, target, version = first.split(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise ValueError(version)
        framing = dict(_FRAMING.findall(head.lower()))
        connection = framing.get(b"connection", b"")
        self._upgrade = method == b"CONNECT" or (b"upgrade" in framing and b"upgrade" in connection)
        self._last = connection == b"close" or version == b"HTTP/1.0"
        chunked = framing.get(b"transfer-encoding") == b"chunked"
        self._missing = 0 if chunked else int(framing.get(b"content-length", 0))
        self._taker = self._begin(
            self, Head(method.decode("ascii"), target.decode("latin-1"), lines, upgrade=self._upgrade)
        )
        if chunked:
            self._state = _CHUNK_SIZE
        elif self._missing:
            self._state = _BODY
        else:
            self._end()
        return behind

    def _keep(self, data: bytes) -> None:
        if len(data) > _HEAD_LIMIT_BYTES:
            raise ValueError(f"a head or line of over {_HEAD_LIMIT_BYTES} bytes")
        self._rest = data

    def _end(self) -> None:
        """End the request that is under way."""
        assert self._taker is not None
        taker, trailers = self._taker, self._trailers
        self._trailers = []
        if self._upgrade:
            self._state = _TUNNEL
        else:
            self._state = _HEAD
            self._taker = None
        taker.end(trailers)
        if self._last and not self._upgrade:
            self.close()


def _field(line: bytes) -> tuple[str, str]:
    name, found, value = line.partition(b":")
    if not found or not name:
        raise ValueError(line)
    return name.decode("latin-1"), value.decode("utf-8", "replace").strip(" \t")


class Whole:
    """A taker that answers once it has all of the body.

    Args:
        connection: to answer on.
        head: of the request.
        answer: returns the octets of the answer to a head and a body.
    """

    __slots__ = ("_answer", "_connection", "_head", "_pieces")

    def __init__(self, connection: Connection, head: Head, answer: Callable[[Head, bytes], bytes]) -> None:
        self._connection = connection
        self._head = head
        self._answer = answer
        self._pieces: list[bytes] = []

    def take(self, piece: bytes) -> None:
        """Keep a piece."""
        self._pieces.append(piece)

    def end(self, _trailers: Fields) -> None:
        """Answer."""
        self._connection.write(self._answer(self._head, b"".join(self._pieces)))

    def lost(self) -> None:
        """Nobody waits for the answer any more."""


def whole(answer: Callable[[Head, bytes], bytes]) -> Callable[[], Connection]:
    """Return what makes connections on which each request is answered once all of its body has come."""
    return lambda: Connection(lambda connection, head: Whole(connection, head, answer))


def reply(body: bytes = b"", status: str = "200 OK", **fields: str) -> bytes:
    """Return an answer's octets; `fields` with _ for -."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    text = "\r\n".join([f"HTTP/1.1 {status}", *lines, f"content-length: {len(body)}"])
    return text.encode() + b"\r\n\r\n" + body


async def listen(connection: Callable[[], asyncio.BaseProtocol]) -> tuple[asyncio.Server, int]:
    """Listen on a free port of the loopback interface; return the server and the port."""
    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0, backlog=BACKLOG)
    return server, server.sockets[0].getsockname()[1]


async def serve(pools: dict[str, Callable[[], Connection]], until: Callable[[], object]) -> None:
    """Listen for each pool, print the ports, and go on until a function returns, which is run in a thread."""
    listening = [await listen(connection) for connection in pools.values()]
    print(*(port for _, port in listening), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, until)
    for server, _ in listening:
        server.close()
