"""The admin port: metrics, health, and what an operator looks at when something goes wrong. HTTP/1.1, plaintext.

    GET /                the status page, for people; ?q= searches the model table
    GET /status.json     what the page shows, as JSON, with the same ?q=
    GET /metrics         Prometheus or OpenMetrics text, by Accept
    GET /healthz         200 while the process runs
    GET /readyz          200 while it takes requests, else 503 and why not, in words
    GET /debug/models    the model table, its conflicts and broken objects, as JSON
    GET /debug/config    the settings, as JSON

h11 reads the requests. Answers that take long are made in pieces, one at a time however many are wanted, and the
gateway's requests are served in between.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

import h11

from bbr.system import descriptors
from bbr.system.supervisor import Body, Supervised, Supervisor
from bbr.transports.serving import target

log = logging.getLogger(__name__)

# Scrapers, probes, and people with browsers; one more ends the one that has waited for a request the longest.
MAX_CONNECTIONS: Final = descriptors.ADMIN_CONNECTIONS
# For a request to come, on a connection that is kept, and for its answer to be taken.
IDLE_SECONDS: Final = 75.0
_READ_BYTES: Final = 16_384

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as pages look at it.

    Attributes:
        path: without the query.
        headers: the last field of each name, in lower case.
        query: the last parameter of each name, decoded; what is no UTF-8 in it is replaced.
    """

    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str:
        """Return a field's value; "" if it is not there."""
        return self.headers.get(name, "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page answers.

    Attributes:
        body: its octets, in pieces that are made one by one.
        headers: fields besides content-type and content-length.
    """

    body: Iterable[bytes]
    content_type: str = TEXT
    status: int = 200
    headers: tuple[tuple[str, str], ...] = field(default=())


def text(sentence: str, status: int = 200) -> Answer:
    """Return a line for people."""
    return Answer((f"{sentence}\n".encode(),), TEXT, status)


Page = Callable[[Asked], Awaitable[Answer]]

_Tasks = dict[asyncio.Task[None], None]  # in order


class AdminServer:
    """Serves pages by their paths; GET and HEAD only.

    Args:
        beside: what runs as long as the port is served, for pages that need it, by names; it never ends by itself.
        supervisor: runs it.
    """

    def __init__(
        self,
        pages: Mapping[str, Page],
        *,
        beside: Mapping[str, Body] | None = None,
        supervisor: Supervisor | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._pages = pages
        self._beside = beside or {}
        self._supervisor = supervisor or Supervisor()
        self._idle_seconds = idle_seconds
        self._server: asyncio.Server | None = None
        # Each connection's task is in one of these, those that wait for a request or answer one the longest first.
        self._waiting: _Tasks = {}
        self._answering: _Tasks = {}
        self._tasks: set[asyncio.Task[None]] = set()  # and those that are being ended
        self._making = asyncio.Lock()
        self._running: list[Supervised] = []

    async def start(self, address: str | None, port: int) -> int:
        """Listen on an address, or on every interface, and serve; return the port (useful when `port` is 0).

        Raises:
            OSError: the address can't be listened on.
        """
        try:
            self._server = await asyncio.start_server(self._accept, address, port, reuse_port=False)
        except OSError as error:
            raise OSError(f"can't listen on {target(address, port)}") from error
        self._running = [self._supervisor.start(name, body) for name, body in self._beside.items()]
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the port and all connections, at once."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for running in self._running:
            await running.stop()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection; one too many in place of another: who holds all of them shuts out no health check."""
        if len(self._waiting) + len(self._answering) >= MAX_CONNECTIONS:
            longest = next(iter(self._waiting or self._answering))
            self._forget(longest)
            longest.cancel()
        task = asyncio.create_task(self._serve(reader, writer), name="admin connection")
        self._tasks.add(task)
        self._waiting[task] = None

        def over(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._forget(task)
            writer.transport.abort()  # else a peer that does not read would keep it, and stop() would wait for that

        task.add_done_callback(over)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._waiting.pop(task, None)
        self._answering.pop(task, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._exchange(connection, reader, writer):
                connection.start_next_cycle()
            writer.close()
            async with asyncio.timeout(self._idle_seconds):
                await writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # it has gone, or has fallen asleep
        except Exception:
            log.exception("a page of the admin port failed")

    async def _exchange(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; False if the connection is at its end."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine runs in one)
        async with asyncio.timeout(self._idle_seconds):
            try:
                request = await _receive(connection, reader)
            except h11.RemoteProtocolError as error:
                with contextlib.suppress(h11.LocalProtocolError):
                    refused = text(f"malformed request: {error}", error.error_status_hint)
                    await self._send(connection, writer, refused, head=False)
                return False
            if request is None:
                return False
            self._move(task, self._waiting, self._answering)
            head = request.method == b"HEAD"
            answer = await self._answer(request)
            await self._send(connection, writer, answer, head=head)
            self._move(task, self._answering, self._waiting)
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    @staticmethod
    def _move(task: asyncio.Task[None], old: _Tasks, new: _Tasks) -> None:
        if task in old:  # else it is being ended
            del old[task]
            new[task] = None

    async def _send(
        self, connection: h11.Connection, writer: asyncio.StreamWriter, answer: Answer, *, head: bool
    ) -> None:
        fields = [("content-type", answer.content_type), ("cache-control", "no-store"), *answer.headers]
        fields.append(("x-content-type-options", "nosniff"))
        response = h11.Response(status_code=answer.status, headers=[*fields, ("transfer-encoding", "chunked")])
        writer.write(connection.send(response) or b"")
        pieces = iter(()) if head else iter(answer.body)
        while True:
            async with self._making:  # one of all that are wanted, in a turn of the event loop
                piece = next(pieces, None)
                await asyncio.sleep(0)
            if piece is None:
                break
            if piece:
                writer.write(connection.send(h11.Data(data=piece)) or b"")
            await writer.drain()
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()

    async def _answer(self, request: h11.Request) -> Answer:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        path, _, query = request.target.decode("latin-1").partition("?")
        page = self._pages.get(path)
        if page is None:
            return text(f"There is no {path} here. Try one of: {', '.join(sorted(self._pages))}", 404)
        if request.method not in (b"GET", b"HEAD"):
            return Answer((b"Only GET and HEAD.\n",), TEXT, 405, (("allow", "GET, HEAD"),))
        return await page(Asked(path, headers, dict(parse_qsl(query, keep_blank_values=True, errors="replace"))))


async def _receive(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """Return the next request, its body passed over; None at the connection's end."""
    request = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Request):
            request = event
            if any(name in (b"content-length", b"transfer-encoding") for name, _ in event.headers):
                return event  # the body is not waited for: the connection ends with the answer
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif isinstance(event, h11.ConnectionClosed):
            return None
