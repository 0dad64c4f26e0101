"""Shelter for new connections: a few of each address stay open while others are closed for want of room.

The connection that has been idle the longest is closed first. With 1,500 busy connections one turn of the event loop
takes 0.3 s, and a TLS handshake takes three turns. Meanwhile all other connections have sent something, so a gateway in
its handshake looks idle. If it were reset, it would wait for a second before it connects again, and its requests would
fail.
"""

from typing import Final, Protocol

from bbr.transports.handshakes import network

# So many of one address are sheltered, and each for so long. Envoy opens a connection for each of its worker threads.
# Together they hold 3 MiB in their handshakes.
SHELTERED: Final = 16
SHELTER_SECONDS: Final = 1.0


class Beginner(Protocol):
    """A connection.

    Attributes:
        sheltered_until: until then it is closed after those that have been served, unless it has begun by now.
    """

    sheltered_until: float

    @property
    def address(self) -> str:
        """Of its peer, as text; "" if that is gone."""

    @property
    def beginning(self) -> bool:
        """Whether its peer has not begun to speak HTTP/2."""

    @property
    def handshaking(self) -> bool:
        """Whether its TLS handshake is not over."""


class Beginners:
    """Chooses which new connections are sheltered.

    Of each address those that began first. One that has shaken hands and says nothing leaves its place to a newer one.
    """

    def __init__(self) -> None:
        self._networks: dict[Beginner, str] = {}  # in the order in which they began
        self._sheltered: dict[str, list[Beginner]] = {}

    def add(self, connection: Beginner, now: float) -> None:
        """Shelter a new connection for a while, if few of its address are sheltered."""
        self._forget_old(now)
        key = network(connection.address)
        if len(self._sheltered.get(key, ())) < SHELTERED or self._make_room(key):
            connection.sheltered_until = now + SHELTER_SECONDS
            self._networks[connection] = key
            self._sheltered.setdefault(key, []).append(connection)

    def gone(self, connection: Beginner) -> None:
        """Forget a connection, if it was sheltered."""
        key = self._networks.pop(connection, None)
        if key is not None:
            sheltered = self._sheltered[key]
            sheltered.remove(connection)
            if not sheltered:
                del self._sheltered[key]

    def _make_room(self, key: str) -> bool:
        """Take the shelter of those of an address that need it no more, or least; False if there is none."""
        sheltered = self._sheltered[key]
        spare = [each for each in sheltered if not each.beginning] or [
            each for each in sheltered if not each.handshaking
        ][:1]
        for each in spare:
            each.sheltered_until = 0.0
            self.gone(each)
        return bool(spare)

    def _forget_old(self, now: float) -> None:
        while self._networks:
            oldest = next(iter(self._networks))
            if oldest.sheltered_until > now:
                return
            self.gone(oldest)
