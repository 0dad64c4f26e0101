"""Turns for TLS handshakes: a share of the event loop, and of that an equal one for each address.

The first message of a client costs it nothing, and us a signature: 0.4 ms with an EC key, more with RSA. 1,500 of them
that come at once would take half a second of the event loop, in which nobody else is served.
"""

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from bbr.transports.turns import WORK_SECONDS, Moments

# Whoever has an IPv6 address has all of its /64.
_IPV6_PREFIX_BYTES: Final = 8


class Handshaking(Protocol):
    """A connection in its handshake.

    Attributes:
        scheduled: it waits for its turn.
        worked_at: when it had the last one.
    """

    scheduled: bool
    worked_at: float

    @property
    def address(self) -> str:
        """Of its peer, as text; "" if that is gone."""

    @property
    def has_replied(self) -> bool:
        """Whether its peer has answered what we have said, so that it takes part in the handshake."""

    def work(self) -> bool:
        """Do a bit; True if there is more."""


T = TypeVar("T", bound=Handshaking)


class Handshakes(Generic[T]):
    """Lets connections shake hands, for a moment in each turn of the event loop.

    Addresses take turns, one handshake's step each. Of one address, those go first whose peer has replied, and then
    those who came first. So whoever sends thousands of first messages does not keep out who has another address.

    Args:
        clock: in seconds.
        again: schedules a connection that has more to do.
        work_seconds: how long a moment is.
    """

    def __init__(
        self, clock: Callable[[], float], again: Callable[[T], None], work_seconds: float = WORK_SECONDS
    ) -> None:
        self._moments = Moments(clock, work_seconds, self._work_on_one, self._rest)
        self._again = again
        self._waiting: OrderedDict[str, tuple[deque[T], deque[T]]] = OrderedDict()

    def schedule(self, connection: T) -> None:
        """Let a connection have its turn; one that waits for it already keeps its place."""
        if connection.scheduled:
            return
        connection.scheduled = True
        replied, others = self._waiting.setdefault(network(connection.address), (deque(), deque()))
        (replied if connection.has_replied else others).append(connection)
        self._moments.wake()

    def _rest(self) -> bool:
        return bool(self._waiting)

    def _work_on_one(self, now: float) -> bool:
        address, queues = self._waiting.popitem(last=False)
        replied, others = queues
        connection = (replied or others).popleft()
        if replied or others:
            self._waiting[address] = queues  # behind the other addresses
        connection.scheduled = False
        connection.worked_at = now
        if connection.work():
            self._again(connection)
        return bool(self._waiting)


def network(address: str) -> str:
    """Return what stands for all addresses that one peer has, as far as that is known: of IPv6, the first half."""
    if ":" not in address:
        return address
    found = ipaddress.IPv6Address(address.partition("%")[0])
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return found.packed[:_IPV6_PREFIX_BYTES].hex()
