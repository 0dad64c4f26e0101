"""A body with a Content-Encoding that is forwarded decoded, while it is read (--forward-decoded). Pure.

Decoded bytes are held until they may be forwarded. Of the encoded bytes, only those that are not decoded yet are held.
"""

from bbr.exchange.long_body import LongBody
from bbr.pieces import add_piece
from bbr.reading.decoding import DecodingReading


class DecodedBody(LongBody):
    """One request's body.

    Args:
        reading: reads and decodes it.

    Attributes:
        size: of what was decoded so far.
        released: all of it may be forwarded, and the rest is only decoded.
    """

    __slots__ = ("_decoding", "released", "size")

    def __init__(self, reading: DecodingReading) -> None:
        super().__init__(reading, kept=True)
        self._decoding = reading
        self.size = 0
        self.released = False

    @property
    def held_bytes(self) -> int:
        """See LongBody."""
        return self._held_bytes + self._decoding.unread_bytes + self._decoding.memory_bytes

    def feed(self, octets: bytes | memoryview) -> None:
        """See LongBody."""
        self._decoding.feed(bytes(octets))

    def close(self) -> None:
        """See LongBody."""
        self.closed = True
        self._decoding.close()

    def work(self) -> bool:
        """See LongBody."""
        try:
            return super().work()
        # Also when it is refused: what was decoded before is counted, until the body is dropped.
        finally:
            for octets in self._decoding.taken():
                self.size += len(octets)
                self._held_bytes += len(octets)
                add_piece(self._pieces, octets)

    def open(self) -> None:
        """See LongBody: what has not been decoded yet will be."""
        self._free = True
        if self.closed and not self._decoding.pending and self._refusal is None:
            self.read = True
        elif not self.released:
            self.released = True
            self._refusal = None
            self._decoding.release()
