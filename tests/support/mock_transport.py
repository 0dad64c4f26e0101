"""A socket that is none, a clock that only a test moves, and a server of one connection: no event loop, no I/O."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from bbr.http2.fields import FieldSection
from bbr.http2.settings import Settings
from bbr.rpc.calls import Handler, NewHandler
from bbr.rpc.connection import RpcConnection
from bbr.rpc.running import Services
from bbr.tls.session import TlsSession
from bbr.transports.room import Ledger, Room, Unbounded
from bbr.transports.uv_connection import UvConnection
from bbr.transports.uv_socket import Pace
from bench.harness.h2_frames import Frame, parse
from bench.harness.rpc_client import MAX_MESSAGE_BYTES, PATH, Simple, Talk
from tests.support.clock import Clock


class MockTransport(asyncio.Transport):
    """What a connection does with its socket.

    Attributes:
        written: the octets.
        calls: what was called, without `write`.
        reading: whether the peer is read.
        unsent: octets that its peer has not taken.
        closing: it is closed, or being closed.
        refuses_eof: it can't be half-closed any more: the peer has reset it.
    """

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1)})
        self.written = b""
        self.writes = 0
        self.calls: list[str] = []
        self.reading = True
        self.unsent = 0
        self.closing = False
        self.refuses_eof = False
        self.protocol: asyncio.BaseProtocol | None = None

    def write(self, data: Any) -> None:
        """Keep octets."""
        self.written += data
        self.writes += 1

    def write_eof(self) -> None:
        """Half-close."""
        self.calls.append("write_eof")
        if self.refuses_eof:
            raise OSError

    def get_write_buffer_size(self) -> int:
        """Return what waits."""
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Hear of what waits."""
        assert high == 0

    def pause_reading(self) -> None:
        """Read no more."""
        assert self.reading
        self.reading = False
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        """Read on."""
        assert not self.reading
        self.reading = True
        self.calls.append("resume_reading")

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Talk to another."""
        self.protocol = protocol

    def is_closing(self) -> bool:
        """Tell whether it is closed."""
        return self.closing

    def close(self) -> None:
        """Close."""
        self.closing = True
        self.calls.append("close")

    def abort(self) -> None:
        """Close at once."""
        self.closing = True
        self.calls.append("abort")

    def frames(self) -> list[Frame]:
        """Return the frames written since the last call."""
        octets, self.written = self.written, b""
        return list(parse(octets))


class MockOwner:
    """The server of one connection.

    Attributes:
        handlers: of all calls.
        scheduled: how often the connection asked for a turn.
        resets: why streams were reset.
        failures: layer and reason of what its peer did wrong.
        gone_count: how often the connection was let go.
        idle: other connections that can be let go, of 16 KiB each.
    """

    def __init__(
        self,
        new_handler: Callable[[], Handler] = Talk,
        *,
        full: bool = False,
        tls: Callable[[], TlsSession] | None = None,
        pace: Pace | None = None,
        ledger: Ledger | None = None,
        own_bytes: int = 0,
        methods: Mapping[bytes, NewHandler] | None = None,
        **limits: Any,
    ) -> None:
        self.clock = Clock()
        self.pace = pace or Pace()
        self.moment_seconds = self.pace.moment_seconds
        self.grace_seconds = 25.0
        self.room = Room(ledger or Unbounded(), own_bytes)
        self.busy_poll = None
        self.handlers: list[Handler] = []
        self.failed_calls: list[Exception] = []
        self.scheduled = 0
        self.resets: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.gone_count = 0
        self.idle = 0
        self._new_handler = new_handler
        self._full = full
        self._tls = tls
        self._settings = Settings(**limits)
        self._services = Services(
            methods if methods is not None else {PATH.encode(): self._begin},
            MAX_MESSAGE_BYTES,
            self.failed_calls.append,
            reset=self.resets.append,
            clock=self.clock,
        )

    @property
    def ended(self) -> list[Handler]:
        """Return the handlers whose call is over."""
        return [each for each in self.handlers if isinstance(each, Simple) and each.overs]

    def _begin(self, call: FieldSection) -> Handler:
        self.handlers.append(self._new_handler())
        return self.handlers[-1]

    def connect(self) -> tuple[UvConnection, MockTransport]:
        """Return a connection that was made, and its transport."""
        connection, transport = UvConnection(self), MockTransport()
        connection.connection_made(transport)
        return connection, transport

    # What a connection asks for.

    def admit(self, connection: UvConnection, now: float) -> RpcConnection | None:
        """Let it in, if there is room."""
        return None if self._full else RpcConnection(self._settings, self._services, now, connection.account)

    def find_room(self, connection: UvConnection, now: float) -> bool:
        """Let one of the idle connections go, of which a test has said how many there are."""
        if not self.idle:
            return False
        self.idle -= 1
        self.room.give(16 << 10)
        return True

    def new_tls(self, now: float) -> TlsSession | None:
        """Return its TLS."""
        return self._tls() if self._tls else None

    def schedule(self, connection: UvConnection) -> None:
        """Note that it wants a turn; a test gives it."""
        self.scheduled += 1

    def failed(self, layer: str, reason: str, now: float) -> None:
        """Note why it ended."""
        self.failures.append((layer, reason))

    def gone(self, connection: UvConnection) -> None:
        """Note that it is gone."""
        self.gone_count += 1
