"""The native transport: our own HTTP/2 and gRPC (bbr.http2, bbr.rpc) on asyncio's Protocols, one for each connection.

A tick looks after what is overdue; connections with more to do than a moment's have turns.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from bbr.exchange.exchange import CallFields, Exchange
from bbr.http2.settings import Settings
from bbr.rpc import health
from bbr.rpc.calls import NewHandler
from bbr.rpc.connection import RpcConnection
from bbr.rpc.running import Services
from bbr.system.supervisor import Supervised, Supervisor
from bbr.telemetry.allowance import RareLog
from bbr.tls.session import TlsSession
from bbr.transports.busy_poll import BusyPoll
from bbr.transports.handshakes import Handshakes
from bbr.transports.health_calls import Answer, Check, Watch
from bbr.transports.room import Ledger, Room, Unbounded
from bbr.transports.roster import Roster
from bbr.transports.serving import ConnectionLimits, Serving, TransportCounts, max_message_bytes, target
from bbr.transports.turns import Turns
from bbr.transports.uv_account import CONNECTION_BYTES, HANDSHAKE_BYTES
from bbr.transports.uv_connection import UvConnection
from bbr.transports.uv_socket import Pace

if TYPE_CHECKING:  # it takes 0.1 s and 20 MB to load, which plaintext need not pay for
    from bbr.tls.credentials import Credentials

log = logging.getLogger(__name__)

_PROCESS: Final = f"/{health.EXT_PROC_SERVICE}/Process".encode()
_HEALTH: Final = f"/{health.SERVICE}/".encode()

# How often overdue calls are looked for, at most, at least, and while the server waits for its connections' end.
_MAX_TICK_SECONDS: Final = 1.0
_MIN_TICK_SECONDS: Final = 0.01
_DRAIN_TICK_SECONDS: Final = 0.05
# The task that does so.
_TICKS: Final = "deadlines of connections"

# What a connection is in the way of that is closed for want of room.
_MEMORY: Final = "what --max-buffered-bytes has room for"

# Connections that a kernel keeps for us until we take them: the clients of a gateway that comes back come all at once.
_BACKLOG: Final = 1024


class UvServer:
    """A server on one port: health, and ext_proc if it is given a way to make exchanges. `start` makes it listen.

    Args:
        serving: what health checks answer.
        max_body_bytes: the largest body that an exchange reads; messages may be somewhat larger.
        new_exchange: called for each ext_proc stream, with the header section of its call; None serves health alone.
        tick_seconds: how late an overdue call may be noticed.
        settings: of each connection.
        limits: of all connections together.
        credentials: for TLS; None for plaintext.
        busy_poll_seconds: keep the event loop from waiting for so long after each read; 0 for never.
        supervisor: runs what the server does by the clock, and for those who watch its health.
        jitter: gives the share, from 0 to 1, of the span that a connection's age may vary in.
        clock: monotonic, in seconds.
        pace: how long a connection waits, and works at a time.
        ledger: what the connections draw on for all that they hold; None for no bound.

    Raises:
        ssl.SSLError: the credentials can't be used.
    """

    def __init__(
        self,
        serving: Serving,
        *,
        max_body_bytes: int,
        new_exchange: Callable[[CallFields], Exchange] | None = None,
        tick_seconds: float = _MAX_TICK_SECONDS,
        settings: Settings | None = None,
        limits: ConnectionLimits | None = None,
        credentials: "Credentials | None" = None,
        busy_poll_seconds: float = 0.0,
        supervisor: Supervisor | None = None,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        pace: Pace | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.clock = clock
        self.pace = pace or Pace()
        self.moment_seconds = self.pace.moment_seconds
        self.room = Room(ledger) if ledger is not None else Room(Unbounded())
        self.busy_poll = BusyPoll(busy_poll_seconds, clock) if busy_poll_seconds else None
        self._settings = settings or Settings()
        limits = limits or ConnectionLimits()
        self.grace_seconds = limits.grace_seconds
        self.roster = Roster(limits, jitter)
        self._turns = Turns(clock)
        self._handshakes: Handshakes[UvConnection] = Handshakes(clock, self.schedule)
        self._serving = serving
        self._tick_seconds = min(max(tick_seconds, _MIN_TICK_SECONDS), _MAX_TICK_SECONDS)
        self._services = self._offer(_methods(serving, new_exchange), max_message_bytes(max_body_bytes))
        self._new_tls: Callable[..., TlsSession] | None = None
        if credentials is not None:
            self.use(credentials)
        self._failed: dict[tuple[str, str], int] = {}
        self._resets: dict[str, int] = {}
        self._failures = RareLog(log, logging.INFO)
        self._server: asyncio.Server | None = None
        self._supervisor = supervisor or Supervisor()
        self._running: list[Supervised] = []
        self._stopped = False
        self._refuse_at: float | None = None  # while it drains: when connections are refused that say nothing

    async def start(self, address: str | None, port: int) -> int:
        """Listen on an address, or on every interface, and serve; return the port (useful when `port` is 0).

        Raises:
            OSError: the address can't be listened on.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: cast(asyncio.Protocol, UvConnection(self)), address, port, reuse_port=False, backlog=_BACKLOG
            )
        except OSError as error:
            raise OSError(f"can't listen on {target(address, port)}") from error
        self._running = [
            self._supervisor.start(_TICKS, self._ticks, private=True),
            self._supervisor.start("health watchers", self._notify_watchers, private=True),
        ]
        return int(self._server.sockets[0].getsockname()[1])

    def use(self, credentials: "Credentials") -> None:
        """Show these from the next connection on; those that there are keep what they have agreed on.

        Raises:
            ssl.SSLError: they can't be used; nothing changes.
        """
        from bbr.tls.credentials import server_context

        refusal = None if credentials.clients is None else credentials.clients.refusal
        self._new_tls = partial(TlsSession, server_context(credentials), refusal, clock=self.clock)

    async def unused(self) -> None:
        """Return when no connection is open."""
        await self.roster.empty()

    async def stop(self, drain_seconds: float) -> None:
        """Take no new connections and no new calls (GOAWAY).

        What runs has `drain_seconds` in all to finish before it is cut off.
        """
        if self._server is None:
            return
        self._server.close()
        if self.roster.connections and drain_seconds:
            try:
                async with asyncio.timeout(drain_seconds):
                    await self._drain()
            except TimeoutError:
                busy = sum(connection.busy for connection in self.roster.connections)
                if busy:  # others only wait for their peer to close
                    log.warning("%d connections still had requests after the drain", busy)
        self._server = None
        self._stopped = True
        self.roster.each(UvConnection.abort)
        for running in self._running:
            running.cancel()

    def counts(self) -> TransportCounts:
        """Return what has been counted so far."""
        roster = self.roster
        return TransportCounts(
            connections=len(roster.connections),
            connections_total=roster.total,
            turned_away_total=roster.turned_away.total,
            failures=self._failed,
            resets=self._resets,
        )

    async def _drain(self) -> None:
        self.roster.each(lambda connection: connection.drain(refuse=False))
        self._refuse_at = self.clock() + self.pace.goaway_gap_seconds
        self._tick_seconds = min(self._tick_seconds, _DRAIN_TICK_SECONDS)
        # The one that runs sleeps for as long as before.
        self._running.append(self._supervisor.start(_TICKS, self._ticks, private=True))
        self._tick()
        await self.roster.empty()

    def _refuse(self, connection: UvConnection, now: float) -> None:
        """Take no more calls of a connection that has read its GOAWAY, or should have."""
        if self._refuse_at is not None and (connection.may_refuse or now >= self._refuse_at):
            connection.drain(refuse=True)

    async def _notify_watchers(self) -> None:
        while True:  # also what has changed before this was started
            self.roster.each(lambda connection: connection.notify_watchers(last=self._serving.stopping))
            await self._serving.changed()

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(self._tick_seconds)
            self._tick()

    def _tick(self) -> None:
        now = self.clock()
        self.roster.each(lambda connection: self._refuse(connection, now))
        self.roster.each(lambda connection: connection.tick(now))

    # Calls, of all connections.

    def _offer(self, methods: Mapping[bytes, NewHandler], max_message_bytes: int) -> Services:
        return Services(
            methods=methods,
            max_message_bytes=max_message_bytes,
            failed=self._call_failed,
            reset=self._count_reset,
            clock=self.clock,
        )

    def _count_reset(self, reason: str) -> None:
        self._resets[reason] = self._resets.get(reason, 0) + 1

    def _call_failed(self, error: Exception) -> None:
        log.error("an exchange failed", exc_info=error)

    # What a connection asks for (uv_connection.Owner).

    def admit(self, connection: UvConnection, now: float) -> RpcConnection | None:
        """Take a connection in and return what speaks on it; None if there is no room for it."""
        # One may have been on its way when the server stopped.
        if self._stopped or not self._room_for(connection, now) or not self.roster.admit(connection, now):
            return None
        self._share_time()
        return RpcConnection(self._settings, self._services, now, connection.account)

    def _room_for(self, connection: UvConnection, now: float) -> bool:
        """Take room for a new connection, if need be that of those that have been idle the longest."""
        first = CONNECTION_BYTES if self._new_tls is None else CONNECTION_BYTES + HANDSHAKE_BYTES
        while (lacking := connection.account.settle(first, 0)) and self.roster.make_room(1, now, _MEMORY):
            pass
        if lacking:
            self.roster.log_closed(now, _MEMORY)
        return not lacking

    def find_room(self, connection: UvConnection, now: float) -> bool:
        """Let the one that was idle the longest go for another; False if there is none."""
        return self.roster.make_room(1, now, _MEMORY, connection)

    def new_tls(self, now: float) -> TlsSession | None:
        """Return the TLS of a new connection; None for plaintext."""
        return None if self._new_tls is None else self._new_tls(now=now)

    def schedule(self, connection: UvConnection) -> None:
        """Let a connection work, in turn with others."""
        if connection.handshaking:
            self._handshakes.schedule(connection)
        else:
            self._turns.schedule(connection)

    def failed(self, layer: str, reason: str, now: float) -> None:
        """Note why a connection was ended for its peer's fault."""
        # OpenSSL's sentences are too many to be names.
        key = (layer, reason if layer == "HTTP/2" else "")
        self._failed[key] = self._failed.get(key, 0) + 1
        self._failures.write(now, "a connection failed: %s: %s", layer, reason)

    def gone(self, connection: UvConnection) -> None:
        """Let a connection go."""
        self.roster.gone(connection)
        self._share_time()

    def _share_time(self) -> None:
        self.moment_seconds = self.pace.moment_of(len(self.roster.connections))


def _methods(serving: Serving, new_exchange: Callable[[CallFields], Exchange] | None) -> Mapping[bytes, NewHandler]:
    """Return what makes the handlers of the calls of a port."""
    methods: dict[bytes, NewHandler] = {
        _HEALTH + b"Check": lambda call: Check(serving),
        _HEALTH + b"List": lambda call: Answer(health.list_services(serving=serving.now)),
        _HEALTH + b"Watch": lambda call: Watch(serving),
    }
    if new_exchange is not None:
        methods[_PROCESS] = new_exchange
    return methods
