"""Connections that have only begun: a few of each address are kept when others have to go.

Whoever has been idle the longest goes first. With 1,500 busy connections a turn of the event loop takes 0.3 s, and a
TLS handshake takes three turns. Meanwhile all others have said something, so a gateway in its handshake would look
idle and be reset. It would then wait for a second before it connects again, and its requests would fail.
"""

from typing import Final, Protocol

from bbr.transports.handshakes import network

# So many of one address are kept, and each for so long: Envoy opens a connection for each of its worker threads. All of
# them count as 3 MiB in their handshakes.
SHELTERED: Final = 16
SHELTER_SECONDS: Final = 1.0


class Beginner(Protocol):
    """A connection.

    Attributes:
        sheltered_until: it goes after those that have been served, until then or until it has begun.
    """

    sheltered_until: float

    @property
    def address(self) -> str:
        """Of its peer, as text; "" if that is gone."""

    @property
    def beginning(self) -> bool:
        """Whether its peer has said nothing yet, or its TLS handshake is not over."""


class Beginners:
    """Chooses the new connections that are kept: of each address the first ones that have only begun."""

    def __init__(self) -> None:
        self._networks: dict[Beginner, str] = {}  # in the order in which they began
        self._kept: dict[str, list[Beginner]] = {}

    def add(self, connection: Beginner, now: float) -> None:
        """Take note of a new connection, and keep it for a while if there are few of its address."""
        self._forget_old(now)
        key = network(connection.address)
        kept = self._kept.get(key, [])
        if len(kept) == SHELTERED:
            for each in [each for each in kept if not each.beginning]:
                self.gone(each)
        if len(kept) < SHELTERED:
            connection.sheltered_until = now + SHELTER_SECONDS
            self._networks[connection] = key
            self._kept.setdefault(key, []).append(connection)

    def gone(self, connection: Beginner) -> None:
        """Forget a connection, if it was kept."""
        key = self._networks.pop(connection, None)
        if key is not None:
            kept = self._kept[key]
            kept.remove(connection)
            if not kept:
                del self._kept[key]

    def _forget_old(self, now: float) -> None:
        while self._networks:
            oldest = next(iter(self._networks))
            if oldest.sheltered_until > now:
                return
            self.gone(oldest)
