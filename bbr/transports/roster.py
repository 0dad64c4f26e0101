"""The connections of one port: it knows them, and limits their number and age."""

import asyncio
import heapq
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Final

from bbr.telemetry.allowance import RareLog
from bbr.transports.beginners import Beginners
from bbr.transports.serving import ConnectionLimits
from bbr.transports.uv_connection import UvConnection

log = logging.getLogger(__name__)

# How much more or less of its age a connection may have.
_AGE_JITTER: Final = 0.1
# To look for the one that has been idle the longest takes 3 ms among 10,000; so as many are noted at a time.
_NOTED: Final = 64
# So many may take their time to leave. Their room is given away before they are gone: 8 to 40 KiB each, and up to
# 120 KiB until it is counted again.
_MAX_LEAVING: Final = 16
# A gateway that lives is gone a round trip later. So if all of them are taken, the one that was told first, so long ago
# at least, is ended for the next: peers that are silent would take them for a second each.
_NOTICE_SECONDS: Final = 0.05


class Roster:
    """Lets connections in. One too many takes the place of the one that has been idle the longest.

    Whoever holds all of a port's connections would shut out everybody else for good: gateways, and health checks.

    Args:
        limits: of all together.
        jitter: gives the share, from 0 to 1, of the span that a connection's age may vary in.

    Attributes:
        connections: those that are open.
        total: all that were ever let in.
        turned_away: logs those that were closed for the limit, old ones and new ones, and counts them.
    """

    def __init__(self, limits: ConnectionLimits, jitter: Callable[[], float] = random.random) -> None:
        self.connections: set[UvConnection] = set()
        self.total = 0
        self.turned_away = RareLog(log, logging.WARNING)
        self._limits = limits
        self._jitter = jitter
        self._leaving: set[UvConnection] = set()  # those that have given way, and are still there
        self._told: dict[UvConnection, float] = {}  # of these the ones that may take their time, and since when
        self._idle: deque[tuple[tuple[int, float], UvConnection]] = deque()
        self._beginners = Beginners()
        self._trims = False
        self._all_gone = asyncio.Event()

    def admit(self, connection: UvConnection, now: float) -> bool:
        """Let a connection in; False if there is no room for it."""
        limits = self._limits
        over = len(self.connections) - len(self._leaving) + 1 - limits.max_connections
        if over > limits.spare_connections and not self.make_room(1, now):
            self.log_closed(now)
            return False
        self.connections.add(connection)
        self._beginners.add(connection, now)
        self.total += 1
        if limits.max_age_seconds:
            connection.retire_at = now + limits.max_age_seconds * (1 + _AGE_JITTER * (2 * self._jitter() - 1))
        if over > 0 and limits.spare_connections and not self._trims:
            # After the next time that the event loop has looked at all sockets: hundreds may come at once, and one that
            # has something to say must not go before it was read.
            self._trims = True
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._trim, now)
        return True

    def gone(self, connection: UvConnection) -> None:
        """Let a connection go."""
        self.connections.discard(connection)
        self._beginners.gone(connection)
        self._leaving.discard(connection)
        self._told.pop(connection, None)
        if not self.connections:
            self._all_gone.set()

    async def empty(self) -> None:
        """Return when no connection is open."""
        if self.connections:
            self._all_gone.clear()
            await self._all_gone.wait()

    def each(self, do: Callable[[UvConnection], None]) -> None:
        """Do something with each connection; it may end them."""
        for connection in list(self.connections):
            do(connection)

    def _trim(self, now: float) -> None:
        self._trims = False
        over = len(self.connections) - len(self._leaving) - self._limits.max_connections
        if over > 0:
            self.make_room(over, now)

    def make_room(self, count: int, now: float, limit: str = "", but: UvConnection | None = None) -> bool:
        """End so many connections that have been idle the longest; False if that is not possible for all.

        Args:
            count: how many.
            now: the time.
            limit: what they are in the way of, for the log; "" for --max-connections.
            but: the one that needs the room.
        """
        for _ in range(count):
            connection = self._longest_idle(but)
            if connection is None:
                return False
            self.log_closed(now, limit)
            self._leaving.add(connection)
            if (len(self._told) < _MAX_LEAVING or self._hasten(now)) and connection.leave():
                self._told[connection] = now
            else:
                connection.give_way()
        return True

    def _hasten(self, now: float) -> bool:
        """End the one without calls that was told to leave first; False if there is none that had time to."""
        for connection, told_at in self._told.items():
            if now - told_at < _NOTICE_SECONDS:
                break
            if not connection.busy:
                del self._told[connection]
                connection.give_way()
                return True
        return False

    def _longest_idle(self, but: UvConnection | None) -> UvConnection | None:
        for _ in range(2):
            while self._idle:
                idleness, connection = self._idle.popleft()
                # It may have said something since it was noted.
                if connection is not but and self._may_go(connection) and connection.idleness == idleness:
                    return connection
            found = [
                (each.idleness, id(each), each) for each in self.connections if each is not but and self._may_go(each)
            ]
            self._idle.extend((idleness, each) for idleness, _, each in heapq.nsmallest(_NOTED, found))
        return None

    def _may_go(self, connection: UvConnection) -> bool:
        if connection in self._leaving or connection not in self.connections:
            return False
        return self._limits.busy_give_way or connection.idleness[0] < UvConnection.BUSY

    def log_closed(self, now: float, limit: str = "") -> None:
        """Count a connection that was closed for a limit, and log it."""
        limit = limit or f"--max-connections={self._limits.max_connections}"
        self.turned_away.write(now, "a connection over %s was closed", limit)
