"""What both transports have in common: whether the process accepts new requests, and the limits of a port."""

import asyncio
import dataclasses
from dataclasses import dataclass

from bbr.exchange.policy import MESSAGE_OVERHEAD_BYTES


def max_message_bytes(max_body_bytes: int) -> int:
    """Return the largest message to receive.

    In BUFFERED a whole body is one message. Twice the limit, so that a body somewhat over it is still received and gets
    its 413; a longer one ends as RESOURCE_EXHAUSTED, which Envoy turns into a 500.
    """
    return 2 * max_body_bytes + MESSAGE_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits of the connections of one port.

    Attributes:
        max_connections: one more takes the place of the one that has been idle the longest, and is closed if none is.
        spare_connections: so many more may be there for a moment, so that each newcomer is read before one has to go.
        busy_give_way: connections with calls count as idle too, if there are no others: where no call that lasts is
            worth more than a newcomer.
        max_age_seconds: an older connection takes no new calls and is closed after its last one; 0 for no limit. Each
            connection has its own limit, up to a tenth more or less, so that they do not all come back at once.
        grace_seconds: how long the calls of a connection that is too old may still run.
    """

    max_connections: int = 10_000
    spare_connections: int = 0
    busy_give_way: bool = False
    max_age_seconds: float = 0.0
    grace_seconds: float = 25.0


@dataclass(slots=True)
class TransportCounts:
    """What a port has counted. None is what its transport does not count.

    Attributes:
        connections: open now.
        connections_total: accepted since the start.
        turned_away_total: closed for the limit.
        failures: (layer, reason) -> connections that ended for a fault: of TLS, or of HTTP/2 by its name.
        resets: reason -> streams that we reset for a fault.
    """

    connections: int | None = None
    connections_total: int | None = None
    turned_away_total: int | None = None
    failures: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    resets: dict[str, int] = dataclasses.field(default_factory=dict)


def target(address: str | None, port: int) -> str:
    """Return where a server listens, as it is written; no address is every interface."""
    host = address or "::"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Serving:
    """Whether this process takes new requests, for health checks and for those who watch it.

    Args:
        ready: whether it does so from the beginning, or only once `start` was called.

    Attributes:
        now: what health checks answer.
        stopping: whether `stop` was called: `now` is false for good.
    """

    def __init__(self, *, ready: bool = True) -> None:
        self.now = ready
        self.stopping = False
        self._changed = asyncio.Event()

    def start(self) -> None:
        """Answer SERVING from now on, unless `stop` was called before, and notify the watchers."""
        if not self.now and not self.stopping:
            self.now = True
            self._notify()

    def stop(self) -> None:
        """Answer NOT_SERVING from now on, and notify the watchers."""
        if not self.stopping:
            self.now, self.stopping = False, True
            self._notify()

    async def changed(self) -> None:
        """Return at the next call of `start` or `stop` that changes something."""
        await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
