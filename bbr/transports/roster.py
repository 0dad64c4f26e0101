"""The connections of one port: which there are, how many there may be, and how old each may become."""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from bbr.telemetry.allowance import RareLog
from bbr.transports.serving import ConnectionLimits
from bbr.transports.uv_connection import UvConnection

log = logging.getLogger(__name__)

# How much more or less of its age a connection may have.
_AGE_JITTER: Final = 0.1


class Roster:
    """See the module.

    Args:
        limits: of all together.
        jitter: gives the share, from 0 to 1, of the span that a connection's age may vary in.

    Attributes:
        connections: those that are open.
        total: all that were ever let in.
        turned_away: tells of those that were not, and counts them.
    """

    def __init__(self, limits: ConnectionLimits, jitter: Callable[[], float] = random.random) -> None:
        self.connections: set[UvConnection] = set()
        self.total = 0
        self.turned_away = RareLog(log, logging.WARNING)
        self._limits = limits
        self._jitter = jitter
        self._all_gone = asyncio.Event()

    def admit(self, connection: UvConnection, now: float) -> bool:
        """Let a connection in; False if there is no room for it."""
        limits = self._limits
        if len(self.connections) >= limits.max_connections:
            self.turned_away.write(now, "a connection over --max-connections=%d was closed", limits.max_connections)
            return False
        self.connections.add(connection)
        self.total += 1
        if limits.max_age_seconds:
            connection.retire_at = now + limits.max_age_seconds * (1 + _AGE_JITTER * (2 * self._jitter() - 1))
        return True

    def gone(self, connection: UvConnection) -> None:
        """Let a connection go."""
        self.connections.discard(connection)
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
