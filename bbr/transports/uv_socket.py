"""A socket of the native transport, perhaps with TLS: reading and not reading, writing, and how it is closed."""

import asyncio
from dataclasses import dataclass

from bbr.tls.session import TlsSession


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a connection waits, and works at a time.

    Attributes:
        moment_seconds: of work in a turn of the event loop, for which all other connections wait. A read of 250 KiB may
            hold 20,000 frames that do nothing, or 5,000 requests that are reset at once: tens of milliseconds.
        crowd: more connections than these share what these would have, since all of them may send at the same time.
        least_share: of the moment, that each has however many they are: most requests need no more.
        write_stall_seconds: a peer that has not read for this long is cut off; what it left unread is bounded by then.
        goaway_gap_seconds: between the GOAWAY that refuses nothing and the one that does, at most: for a peer that does
            not say that it has read the first one. A gateway that is busy needs longer than one would think: seconds,
            on a machine that starves.
        leave_seconds: the same for one without calls that has to go for another, and holds nothing meanwhile.
        linger_seconds: after our last byte the peer's are read and dropped, for so long: closing a socket with unread
            input resets it, and a reset can overtake the GOAWAY and the answers before it. (golang waits 1 s here,
            nginx up to 30 s.)
        linger_bytes: and so many.
    """

    moment_seconds: float = 0.001
    crowd: int = 20
    least_share: float = 0.2
    write_stall_seconds: float = 60.0
    goaway_gap_seconds: float = 5.0
    leave_seconds: float = 1.0
    linger_seconds: float = 1.0
    linger_bytes: int = 16 << 20

    def moment_of(self, connections: int) -> float:
        """Return for how long each of so many connections may work in a turn of the event loop, in seconds."""
        return self.moment_seconds * max(self.least_share, min(1.0, self.crowd / max(connections, 1)))


class Socket:
    """See the module.

    Attributes:
        transport: of the event loop.
        tls: None for plaintext.
        reading: whether the transport reads, as it was asked last.
        stalled_since: when the peer ceased to read, or we ended; None while neither is so.
    """

    def __init__(self, transport: asyncio.Transport, pace: Pace) -> None:
        self.transport = transport
        self.tls: TlsSession | None = None
        self.stalled_since: float | None = None
        self._pace = pace
        self.reading = True
        self._written_bytes = 0
        self._dropped_bytes = 0
        self._close_at: float | None = None
        # So that `pause_writing` comes as soon as the peer does not read, and nothing waits that is not counted.
        transport.set_write_buffer_limits(high=0)

    @property
    def closing(self) -> bool:
        """Whether the transport is closed, or will be once its last bytes are taken."""
        return self.transport.is_closing()

    @property
    def more(self) -> bool:
        """Whether something has come that was not decrypted."""
        return self.tls is not None and self.tls.more

    @property
    def handshaking(self) -> bool:
        """Whether a TLS handshake has begun and is not over."""
        return self.tls is not None and not self.tls.ready

    @property
    def has_replied(self) -> bool:
        """Whether the peer has answered what we have said in a TLS handshake."""
        return self.tls is not None and self.tls.answered

    def hold(self, octets: bytes) -> None:
        """Keep what has come of a TLS handshake for its turn."""
        if self.tls is not None:
            self.tls.hold(octets)

    @property
    def ended(self) -> bool:
        """Whether the peer has said that it sends no more."""
        return self.tls is not None and self.tls.ended

    @property
    def held_bytes(self) -> int:
        """What has come and was not decrypted, and what the peer does not take."""
        held = self.tls.held_bytes if self.tls is not None else 0
        unsent = 0 if self.stalled_since is None else self.transport.get_write_buffer_size()
        # What was written last is held whole until all of it is sent.
        return held + max(unsent, self._written_bytes) if unsent else held

    def write(self, octets: bytes) -> None:
        """Send bytes, and what TLS has to say."""
        if self.tls is not None:
            sealed = self.tls.send(octets)
            if len(sealed) > 1:
                self._written_bytes = sum(map(len, sealed))
                self.transport.writelines(sealed)
                return
            octets = sealed[0]
        if octets:
            self._written_bytes = len(octets)
            self.transport.write(octets)

    def read(self, wanted: bool) -> None:
        """Read from now on, or do not."""
        if wanted != self.reading:
            self.reading = wanted
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def is_stalled(self, now: float) -> bool:
        """Tell whether the peer has not read for too long."""
        return self.stalled_since is not None and now - self.stalled_since > self._pace.write_stall_seconds

    def finish(self, now: float) -> None:
        """Say no more: half-close. The peer has as long as any other to take what was said."""
        self.stalled_since = now
        if self.tls is not None:
            self.transport.write(self.tls.close())
        try:
            self.transport.write_eof()
        except OSError:  # asyncio's own loop says so here if the peer has reset the connection; uvloop, later
            self.transport.abort()
            return
        self.read(True)  # to drop it, and to see the peer's end

    def drop(self, size: int) -> None:
        """Drop what has come after the end; of a peer that never stops, no more is read."""
        self._dropped_bytes += size
        if self._dropped_bytes > self._pace.linger_bytes:
            self.read(False)

    def linger(self, now: float) -> bool:
        """After the end: wait until all is taken, then for a while, and close; True from when all is taken."""
        if self._close_at is None:
            if not self.transport.get_write_buffer_size() and not self.closing:
                self.stalled_since = None
                self._close_at = now + self._pace.linger_seconds
        elif now >= self._close_at and not self.closing:
            self.transport.close()
        return self._close_at is not None

    def cut(self) -> None:
        """Close at once after the end: there is no room for what is held to wait for the peer."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def give_way(self, now: float) -> None:
        """Close as soon as what was just written is taken, which is at once if nothing waited."""
        self.stalled_since = now
        self.transport.close()
