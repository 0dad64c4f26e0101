"""Splits received bytes into TLS records (RFC 8446, section 5.1). It reads only their headers; they stay encrypted."""

from typing import Final

from bbr.pieces import PIECE_BYTES, VIEWED_BYTES

HEADER_BYTES: Final = 5
# change_cipher_spec, alert, handshake, application_data
_CONTENT_TYPES: Final = range(20, 24)
# Of a TLS 1.2 record, the longest there is: 2^14 and 2,048 bytes.
_MAX_FRAGMENT_BYTES: Final = (1 << 14) + 2048


class RecordReader:
    """Holds what was read last and at most one unfinished record, whose parts it joins once: linear for any reads."""

    __slots__ = ("_held_bytes", "_needed", "_octets", "_parts", "_position")

    def __init__(self) -> None:
        self._octets = b""  # whole records, from `_position` on
        self._position = 0
        self._parts: list[bytes] = []  # of a record that is not whole
        self._held_bytes = 0
        self._needed = HEADER_BYTES

    @property
    def held_bytes(self) -> int:
        """What is held, in memory."""
        parts = self._held_bytes + PIECE_BYTES * len(self._parts) if self._parts else 0
        return parts + len(self._octets)

    def feed(self, octets: bytes) -> None:
        """Add bytes; all that was there should have been taken, or it is copied."""
        if not octets:
            return
        if self._parts:
            self._parts.append(octets)
            self._held_bytes += len(octets)
            if self._held_bytes < self._needed:
                return
            octets = b"".join(self._parts)
            self._parts = []
        self._octets = self._octets[self._position :] + octets
        self._position = 0

    def take(self) -> bytes | memoryview | None:
        """Return the next record; None if none is whole. A long one may be a view of what was fed.

        What can't be a record is returned with all that follows it: whoever opens it says what is wrong.
        """
        octets, start = self._octets, self._position
        have = len(octets) - start
        needed = HEADER_BYTES
        if have and octets[start] not in _CONTENT_TYPES:
            return self._rest()
        if have >= HEADER_BYTES:
            length = octets[start + 3] << 8 | octets[start + 4]
            if length > _MAX_FRAGMENT_BYTES:
                return self._rest()
            needed += length
            if have == needed:
                return self._rest()
            if have > needed:
                self._position = start + needed
                if needed < VIEWED_BYTES:
                    return octets[start : self._position]
                return memoryview(octets)[start : self._position]
        if have:
            self._parts = [self._rest()]
            self._held_bytes = have
            self._needed = needed
        return None

    def _rest(self) -> bytes:
        rest = self._octets[self._position :]
        self._octets, self._position = b"", 0
        return rest
