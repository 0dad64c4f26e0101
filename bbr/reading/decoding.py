"""A body with a Content-Encoding that is forwarded decoded: what its Reading has made of it is handed over."""

from collections.abc import Sequence

from bbr.reading.base import Reading
from bbr.reading.encoded import EncodedReading
from bbr.reading.encodings import Limits
from bbr.reading.several import Unread, Watch


class DecodingReading(EncodedReading):
    """A Reading of what an encoded body decodes to, which gives the decoded bytes away.

    `passable_bytes` counts decoded bytes.

    Args:
        codings: as encodings.parse returns them.
        limits: of the decoded body.
        inner: reads that.
        watch: looks at the encoded bytes; None for none.
    """

    def __init__(self, codings: Sequence[str], limits: Limits, inner: Reading, watch: Watch | None = None) -> None:
        super().__init__(codings, limits, inner, watch)
        self._decoded: list[bytes] = []

    @property
    def inner(self) -> Reading:
        """What reads the decoded bytes."""
        return self._inner

    @property
    def passable_bytes(self) -> int:
        """See Reading."""
        return self._inner.passable_bytes

    @property
    def memory_bytes(self) -> int:
        """See Reading: what the inner reading has not read is held by whoever has taken it."""
        return self._decoder.memory_bytes + self._inner.memory_bytes

    def taken(self) -> list[bytes]:
        """Return the bytes that were decoded since the last call; it keeps them no more."""
        decoded, self._decoded = self._decoded, []
        return decoded

    def release(self) -> None:
        """Only decode from now on: nobody asks what the body says."""
        self._inner = Unread()
        self.pending = self._decoder.pending or self._pieces.size > 0 or self._closed

    def _decode(self) -> None:
        octets = self._decoder.read()
        if octets:
            self._decoded.append(octets)
            self._inner.feed(octets)
