"""An upstream that reads bodies and forgets them, and tells when its last request began. HTTP/1.1, in a thread."""

import asyncio
import threading
import time
from types import TracebackType
from typing import Final, Self, cast

import uvloop

_OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_END: Final = b"0\r\n\r\n"


class _Connection(asyncio.Protocol):
    """One connection, one request at a time, its body in chunked coding, as Envoy sends what a router has seen.

    A request ends with the last chunk; the bodies of benchmarks hold no such octets.
    """

    def __init__(self, sink: "Sink") -> None:
        self._sink = sink
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer at the end of each request."""
        if not self._tail:
            self._sink.last_start = time.perf_counter()
        self._tail = (self._tail + data)[-len(_END) :]
        if self._tail == _END:
            self._tail = b""
            self._transport.write(_OK)


class Sink:
    """The upstream; a context.

    Attributes:
        port: it listens on, on loopback.
        last_start: when the first octets of the last request came (time.perf_counter).
    """

    def __init__(self) -> None:
        self.port = 0
        self.last_start = 0.0
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _listen(self) -> asyncio.Server:
        server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server
