"""The admin port: metrics, health, and what an operator looks at when something goes wrong. HTTP/1.1, plaintext.

    GET /                the status page, for people; ?q= searches the model table
    GET /status.json     what the page shows, as JSON, with the same ?q=
    GET /metrics         Prometheus or OpenMetrics text, by Accept
    GET /healthz         200 while the process runs
    GET /readyz          200 while it takes requests, else 503 and why not, in words
    GET /debug/models    the model table, its conflicts and broken objects, as JSON
    GET /debug/config    the settings, as JSON

h11 reads the requests. Answers that take long are made in pieces, one at a time however many are wanted, and the
gateway's requests are served in between. Answers that are ready, as those of health checks, do not wait for these.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import parse_qsl

import h11

from bbr.refusal import MAX_ECHO_CHARACTERS
from bbr.system import descriptors
from bbr.system.supervisor import Body, Supervised, Supervisor, stop_all
from bbr.text import printable_lines
from bbr.transports.handshakes import network
from bbr.transports.room import Account, Room, Unbounded
from bbr.transports.serving import target

log = logging.getLogger(__name__)

# Connections that the kernel keeps until we take them, if it has no lower bound of its own. What finds no room there is
# tried again after a second, and a probe has no second to lose.
_BACKLOG: Final = 4096
# For a request to come, on a connection that is kept; and as long for its answer to be taken.
IDLE_SECONDS: Final = 75.0
# Of one read, and of what has come and waits for its turn: more stays with its peer.
_READ_BYTES: Final = 16_384
# Of an answer, before its next piece is made: what its peer does not read is held for 64 of them.
_UNREAD_BYTES: Final = 16_384
# Of answers, in the kernel (which takes as much again for its own needs). It would take 2.5 MB: who reads none of some
# 20,000 answers would still have them made.
_SENT_BYTES: Final = 64 << 10
# Of a request's head, and of what follows it in one read: h11 takes a microsecond for each. Browsers send 20.
MAX_LINES: Final = 200
# Of a query: the pages look at two.
MAX_PARAMETERS: Final = 20
# What counts for a connection that has said something: what it sent and what it has not read, a piece of an answer, and
# what that is made of. 64 of them held 9 MiB in all.
CONNECTION_BYTES: Final = 160 << 10
# Turns of the event loop until one that is one too many may have to go: its request is read in the first two of them.
_NEWCOMER_TURNS: Final = 4

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as far as pages look at it.

    Attributes:
        path: without the query.
        headers: the last field of each name, in lower case.
        query: the last parameter of each name, decoded; what is no UTF-8 in it is replaced.
        network: whom it comes from: an address, or what stands for several.
    """

    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    network: str = ""

    def header(self, name: str) -> str:
        """Return a field's value; "" if it is not there."""
        return self.headers.get(name, "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page answers.

    Attributes:
        body: its bytes, in pieces that are made one by one. Those of a tuple are there already and wait for nobody.
        headers: fields besides content-type and content-length.
    """

    body: Iterable[bytes]
    content_type: str = TEXT
    status: int = 200
    headers: tuple[tuple[str, str], ...] = field(default=())


def text(sentence: str, status: int = 200) -> Answer:
    """Return a line for people, or several."""
    return Answer((f"{printable_lines(sentence)}\n".encode(),), TEXT, status)


Page = Callable[[Request], Awaitable[Answer]]


class _Connections:
    """Connections in the order in which they came, and which are of which network."""

    def __init__(self) -> None:
        self._all: dict[_Connection, None] = {}
        self._of: dict[str, dict[_Connection, None]] = {}  # none is empty

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator["_Connection"]:
        return iter(self._all)

    def __contains__(self, connection: "_Connection") -> bool:
        return connection in self._all

    def add(self, connection: "_Connection") -> None:
        self._all[connection] = None
        self._of.setdefault(connection.network, {})[connection] = None

    def discard(self, connection: "_Connection") -> None:
        if connection in self._all:
            del self._all[connection]
            several = self._of[connection.network]
            del several[connection]
            if not several:
                del self._of[connection.network]

    def longest(self) -> "_Connection":
        """Return the first one of the network that has the most."""
        several: dict[_Connection, None] = max(self._of.values(), key=len)
        return next(iter(several))


class AdminServer:
    """Serves pages by their paths; GET and HEAD only.

    Args:
        beside: what runs as long as the port is served, for pages that need it, by names; it never ends by itself.
        supervisor: runs it.
        max_connections: scrapers, probes, and people with browsers; one more ends the one that has waited for a request
            the longest, or has been answered the longest if more are answered than wait.
        spare_connections: so many more may be there for a moment, so that each newcomer is read before one has to go.
        room: what they hold is part of it; None for no bound.

    Attributes:
        room: as above.
        idle_seconds: for a request to come, and for its answer to be taken.
        read_buffer: what the event loop reads into, for one connection after the other.
    """

    def __init__(
        self,
        pages: Mapping[str, Page],
        *,
        beside: Mapping[str, Body] | None = None,
        supervisor: Supervisor | None = None,
        idle_seconds: float = IDLE_SECONDS,
        max_connections: int = descriptors.ADMIN_CONNECTIONS,
        spare_connections: int = descriptors.SPARE_CONNECTIONS,
        room: Room | None = None,
    ) -> None:
        self._pages = pages
        self._beside = beside or {}
        self._supervisor = supervisor or Supervisor()
        self.idle_seconds = idle_seconds
        self._max_connections = max_connections
        self._spare_connections = spare_connections
        self.room = room or Room(Unbounded())
        self._trims = False
        self._server: asyncio.Server | None = None
        # Each connection is in one of these, those that wait for a request or answer one the longest first.
        self._waiting = _Connections()
        self._answering = _Connections()
        self._tasks: set[asyncio.Task[None]] = set()  # of all that have said something, those that are being ended too
        self._making = asyncio.Lock()
        self.read_buffer = bytearray(_READ_BYTES)  # of whoever is read just now
        self._running: list[Supervised] = []

    async def start(self, address: str | None, port: int) -> int:
        """Listen on an address, or on every interface, and serve; return the port (useful when `port` is 0).

        Raises:
            OSError: the address can't be listened on.
        """
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: _Connection(self), address, port, reuse_port=False, backlog=_BACKLOG
            )
        except OSError as error:
            raise OSError(f"can't listen on {target(address, port)}") from error
        for listening in self._server.sockets:  # what is accepted has the same
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT_BYTES)
        self._running = [self._supervisor.start(name, body) for name, body in self._beside.items()]
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the port and all connections, at once."""
        if self._server is not None:
            self._server.close()
        for connection in [*self._waiting, *self._answering]:
            connection.end()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await stop_all(self._running)

    def take_in(self, connection: "_Connection") -> None:
        """Let a connection wait for a request; one too many goes: who holds all of them shuts out no health check."""
        too_many = len(self._waiting) + len(self._answering) + 1 - self._max_connections
        if too_many > self._spare_connections:
            self._end_longest()
        elif too_many > 0 and not self._trims:
            self._trims = True
            self._trim_later(_NEWCOMER_TURNS)
        self._waiting.add(connection)

    def _trim_later(self, turns: int) -> None:
        """Do so after some turns of the event loop, in which newcomers are read: hundreds may come in one."""
        loop = asyncio.get_running_loop()
        if turns:
            loop.call_soon(self._trim_later, turns - 1)
            return
        self._trims = False
        while len(self._waiting) + len(self._answering) > self._max_connections:
            self._end_longest()

    def _end_longest(self) -> None:
        # Of the larger group: if hundreds are answered, a health check that has just come is all that waits. And of the
        # address that has the most in it: who opens hundreds ends his own, and not the answer that a scraper waits for.
        several = self._answering if len(self._answering) > len(self._waiting) else self._waiting
        longest = several.longest()
        self.forget(longest)
        longest.end()

    def begin(self, connection: "_Connection") -> asyncio.Task[None]:
        """Serve a connection that has said something, in place of others if there is no room for all of them."""
        # What a port has of its own is enough for some, so that this one has not to go itself.
        while connection.account.settle(CONNECTION_BYTES, 0):
            self._end_longest()
        task = asyncio.create_task(self._serve(connection), name="admin connection")
        self._tasks.add(task)

        def over(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            connection.end()  # else a peer that does not read would keep it, and stop() would wait for that

        task.add_done_callback(over)
        return task

    def forget(self, connection: "_Connection") -> None:
        self._waiting.discard(connection)
        self._answering.discard(connection)

    async def _serve(self, peer: "_Connection") -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._exchange(connection, peer):
                connection.start_next_cycle()
            peer.writer.close()
            async with asyncio.timeout(self.idle_seconds):
                await peer.writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # it has gone, or has fallen asleep
        except Exception:
            log.exception("a page of the admin port failed")

    async def _exchange(self, connection: h11.Connection, peer: "_Connection") -> bool:
        """Answer one request; False if the connection is at its end."""
        writer = peer.writer
        try:
            async with asyncio.timeout(self.idle_seconds):
                request = await _receive(connection, peer.reader)
        except h11.RemoteProtocolError as error:
            refused = text(f"malformed request: {error}", error.error_status_hint)
            async with asyncio.timeout(self.idle_seconds):
                with contextlib.suppress(h11.LocalProtocolError):
                    await self._send(connection, writer, refused, head=False)
            return False
        if request is None:
            return False
        self._move(peer, self._waiting, self._answering)
        # Anew: else an answer would be cut off that begins when the connection has been kept for almost as long.
        async with asyncio.timeout(self.idle_seconds):
            answer = await self._answer(request, peer.network)
            await self._send(connection, writer, answer, head=request.method == b"HEAD")
        self._move(peer, self._answering, self._waiting)
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    @staticmethod
    def _move(connection: "_Connection", old: "_Connections", new: "_Connections") -> None:
        if connection in old:  # else it is being ended
            old.discard(connection)
            new.add(connection)

    async def _send(
        self, connection: h11.Connection, writer: asyncio.StreamWriter, answer: Answer, *, head: bool
    ) -> None:
        fields = [("content-type", answer.content_type), ("cache-control", "no-store"), *answer.headers]
        fields.append(("x-content-type-options", "nosniff"))
        response = h11.Response(status_code=answer.status, headers=[*fields, ("transfer-encoding", "chunked")])
        _write(writer, connection.send(response))
        async for piece in self._pieces(() if head else answer.body):
            if piece:
                _write(writer, connection.send(h11.Data(data=piece)))
            await writer.drain()
        _write(writer, connection.send(h11.EndOfMessage()))
        await writer.drain()

    async def _pieces(self, body: Iterable[bytes]) -> AsyncIterator[bytes]:
        """Give the pieces of a body: one of all that are to be made, in a turn of the event loop."""
        if isinstance(body, tuple):
            # A health check must not queue behind hundreds of pages. One turn, so that many requests on one connection
            # are not answered in one go.
            await asyncio.sleep(0)
            for piece in body:
                yield piece
            return
        pieces = iter(body)
        while True:
            async with self._making:
                piece = next(pieces, None)
                await asyncio.sleep(0)
            if piece is None:
                return
            yield piece

    async def _answer(self, request: h11.Request, network: str) -> Answer:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        path, _, query = request.target.decode("latin-1").partition("?")
        page = self._pages.get(path)
        if page is None:
            path = path[:MAX_ECHO_CHARACTERS]
            return text(f"There is no {path} here. Try one of: {', '.join(sorted(self._pages))}", 404)
        if request.method not in (b"GET", b"HEAD"):
            return Answer((b"Only GET and HEAD.\n",), TEXT, 405, (("allow", "GET, HEAD"),))
        if query.count("&") >= MAX_PARAMETERS:
            return text(f"The query has more than {MAX_PARAMETERS} parameters.", 400)
        parameters = dict(parse_qsl(query, keep_blank_values=True, errors="replace"))
        return await page(Request(path, headers, parameters, network))


class _Connection(asyncio.BufferedProtocol):
    """A connection. It has a task from the first byte on: who says nothing costs next to nothing.

    It is none of asyncio's stream protocols, to which the event loop would give up to 256 KB at once.

    Attributes:
        reader: what comes.
        writer: what goes.
        account: of what it holds.
        network: whom it belongs to.
    """

    def __init__(self, server: AdminServer) -> None:
        # It stops reading when it holds more than twice this.
        self.reader = asyncio.StreamReader(_READ_BYTES // 2)
        self._stream = asyncio.StreamReaderProtocol(self.reader, self._connected)
        self._server = server
        self.account = Account(server.room, lambda _: False)  # asked of who has bulk alone
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, with little room for what its peer does not read."""
        cast("asyncio.Transport", transport).set_write_buffer_limits(_UNREAD_BYTES)
        self._stream.connection_made(transport)

    def _connected(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        peer = writer.get_extra_info("peername")
        self.network = network(peer[0]) if peer else ""
        loop = asyncio.get_running_loop()
        self._waits = loop.call_later(self._server.idle_seconds, self.end)
        self._server.take_in(self)

    def get_buffer(self, _sizehint: int) -> bytearray:
        """Give the room for the next read; it is copied from there before anybody else reads."""
        return self._server.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read on; at the first bytes, begin."""
        self._stream.data_received(bytes(self._server.read_buffer[:nbytes]))
        if self._task is None:
            self._waits.cancel()
            self._task = self._server.begin(self)

    def eof_received(self) -> bool | None:
        """End, if there was no word before."""
        if self._task is None:
            self.end()
        return self._stream.eof_received()

    def pause_writing(self) -> None:
        """Make no more of the answer."""
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        """Go on with it."""
        self._stream.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Be forgotten."""
        self._waits.cancel()
        self.account.close()
        self._server.forget(self)
        self._stream.connection_lost(exc)

    def end(self) -> None:
        """Close at once."""
        self._waits.cancel()
        self.account.close()
        if self._task is not None:
            self._task.cancel()
        self.writer.transport.abort()


def _write(writer: asyncio.StreamWriter, data: bytes | None) -> None:
    if writer.is_closing():  # uvloop takes it for a fault of ours
        raise ConnectionResetError
    writer.write(data or b"")


async def _receive(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """Return the next request, its body passed over; None at the connection's end.

    Raises:
        h11.RemoteProtocolError: it is none, or has too many lines.
    """
    request = None
    lines = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_READ_BYTES)
            lines += data.count(b"\n")
            if lines > MAX_LINES:
                raise h11.RemoteProtocolError(f"more than {MAX_LINES} lines", error_status_hint=431)
            connection.receive_data(data)
        elif isinstance(event, h11.Request):
            request = event
            if any(name in (b"content-length", b"transfer-encoding") for name, _ in event.headers):
                return event  # the body is not waited for: the connection ends with the answer
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif isinstance(event, h11.ConnectionClosed):
            return None
