"""An upstream that reads bodies and forgets them, and tells when its last request began; in a thread."""

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import uvloop

from bench.harness.background import Background
from bench.harness.upstream import Connection, Fields, Head, listen, reply


class Sink:
    """The upstream; a context.

    Attributes:
        port: it listens on, on loopback.
        last_start: when the head of the last request had come (time.perf_counter).
    """

    def __init__(self) -> None:
        self.port = 0
        self.last_start = 0.0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        background = self._stack.enter_context(Background(uvloop.new_event_loop))
        server, self.port = background.run(listen(lambda: Connection(self._begin)))
        self._stack.callback(background.loop.call_soon_threadsafe, server.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _begin(self, connection: Connection, _head: Head) -> "_Forget":
        self.last_start = time.perf_counter()
        return _Forget(connection)


class _Forget:
    """Takes a request and keeps none of it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def take(self, piece: bytes) -> None:
        """Forget it."""

    def end(self, _trailers: Fields) -> None:
        """Answer."""
        self._connection.write(reply())

    def lost(self) -> None:
        """There is nothing to forget."""
