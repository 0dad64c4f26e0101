"""The TLS of one connection, without I/O: bytes of the wire in, bytes of the application out, and back.

Not asyncio's or uvloop's TLS: there a connection is invisible until its handshake is over (no limit, no drain, no
reason why it failed), it can't be half-closed at its end, and a second write buffer stands before the socket's.
"""

import contextlib
import math
import ssl
from collections.abc import Callable
from typing import Final

from bbr.budget import Budget
from bbr.tls.records import HEADER_BYTES, RecordReader

ALPN: Final = "h2"

# Written at a time: the buffer that OpenSSL writes to keeps the size of the largest write.
_WRITE_BYTES: Final = 32 << 10
# Such a buffer is a third larger than what it holds, and grows by moving, which leaves holes: so many thirds in all.
_GROWTH: Final = 5

# OpenSSL gives back one record at a time, at most 16 KiB.
_RECORD_BYTES: Final = 16_384

# What an operator can do something about, where OpenSSL's own words do not say which side is at fault.
_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client showed no certificate",
    "WRONG_VERSION_NUMBER": "the client does not speak TLS here (wrong version number)",
    "HTTP_REQUEST": "the client does not speak TLS here (http request)",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not trust the router's certificate (unknown ca)",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client rejected the router's certificate (bad certificate)",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client rejected the router's certificate (certificate unknown)",
}


# What records that carry next to nothing may cost a connection: so many at once, and so many a second. An honest peer
# sends some KeyUpdates in its life, one for each 2^24 records, and no record that is shorter than a frame's header.
EMPTY_RECORDS: Final = 2000.0
EMPTY_RECORDS_PER_SECOND: Final = 500.0
SMALL_RECORD_BYTES: Final = 8
KEY_UPDATE_TOKENS: Final = 16.0


# What a client may say in its handshake. Nine certificates with RSA keys of 4,096 bits fit in. OpenSSL would take 100
# KiB, and 20 ms, for a chain that it then does not trust.
MAX_HANDSHAKE_BYTES: Final = 20 << 10


class TlsError(Exception):
    """The peer broke TLS, or turned us down; the message is OpenSSL's reason."""


class TlsSession:
    """The server's side of one TLS connection.

    Records are given to OpenSSL one by one: a call of it would go through 10,000 KeyUpdates before it returned, and so
    it is known what each record brought, and what it costs.

    Args:
        context: how to shake hands.
        refusal: given a verified client's certificate in DER, returns why the client is not let in, or "". None where
            clients show none.
        now: when the connection began, in seconds of `clock`.
        clock: tells when the time of a turn is over; see `receive`.

    Attributes:
        ready: the handshake is over.
        ended: the peer has said that it sends no more (close_notify).
        answered: something has gone to the peer, so that what comes now replies to it.
        more: whole records may have come that were not looked at.
        buffer_bytes: what OpenSSL's buffers take at most, for as long as the session lasts: they don't shrink.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        refusal: Callable[[bytes], str] | None = None,
        *,
        now: float = 0.0,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._refusal = refusal
        self.ready = False
        self.ended = False
        self.answered = False
        self.more = False
        self.buffer_bytes = 0
        self._clock = clock
        self._records = RecordReader()
        self._budget = Budget(EMPTY_RECORDS, EMPTY_RECORDS_PER_SECOND, now)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._early = b""
        self._handshake_bytes = 0
        self._largest_read = self._largest_write = 0

    def check_peer(self) -> None:
        """Hold a finished handshake against RFC 9113, section 3.2, and the client against the names that are let in.

        HTTP/2 over TLS is agreed on by ALPN. gRPC's own servers (C-core, Go) ask the same: what another protocol's
        client can be made to send is never read as HTTP/2. Envoy and all gRPC libraries offer h2.

        Raises:
            TlsError: the client did not offer h2, or its certificate has no name that is let in.
        """
        if self._tls.selected_alpn_protocol() != ALPN:
            raise TlsError("the client did not offer HTTP/2 (ALPN h2)")
        if self._refusal is not None and (why := self._refusal(self._tls.getpeercert(binary_form=True) or b"")):
            raise TlsError(why)

    @property
    def held_bytes(self) -> int:
        """What has come and was not looked at, in memory."""
        return self._records.held_bytes

    def hold(self, octets: bytes) -> None:
        """Take bytes off the wire, and look at them later."""
        self._records.feed(octets)
        self.more = True

    def receive(self, octets: bytes, now: float = 0.0, until: float = math.inf) -> bytes:
        """Take bytes off the wire; return those of the application, of whole records only.

        At least one record is looked at; after `until`, by the clock, no other is begun. While there is `more`, call it
        again, without bytes. What this calls for (the handshake, an alert) is in the next `send`.

        Raises:
            TlsError: the connection is over, but for what `send` still returns.
        """
        self._records.feed(octets)
        self.more = False
        found = []
        while not self.ended and (record := self._records.take()) is not None:
            handshaking = not self.ready
            if handshaking:
                self._handshake_bytes += len(record) - HEADER_BYTES
                if self._handshake_bytes > MAX_HANDSHAKE_BYTES:
                    raise TlsError(f"a handshake of more than {MAX_HANDSHAKE_BYTES >> 10} KiB")
            plain = self._open(record)
            found.append(plain)
            self._pay(len(record) if handshaking else len(plain), now)
            if self._clock() >= until:
                self.more = not self.ended
                break
        return found[0] if len(found) == 1 else b"".join(found)

    def send(self, octets: bytes) -> list[bytes]:
        """Return what goes on the wire: what `receive` has called for, then `octets`, which wait for the handshake.

        In parts that follow each other, so that nobody needs to join them; the only one may be empty.
        """
        if not self.ready:
            self._early += octets
            said = self._outgoing.read()
            self.answered = self.answered or bool(said)
            return [said]
        if self._early:
            octets, self._early = self._early + octets, b""
        if len(octets) <= _WRITE_BYTES:
            return [self._seal(octets) if octets else self._outgoing.read()]
        view = memoryview(octets)
        return [self._seal(view[start : start + _WRITE_BYTES]) for start in range(0, len(view), _WRITE_BYTES)]

    def close(self) -> bytes:
        """Return the bytes that tell the peer that no more will come (close_notify)."""
        if self.ready:
            with contextlib.suppress(ssl.SSLError):  # it wants the peer's own close_notify, which nobody waits for
                self._tls.unwrap()
        return self._outgoing.read()

    def _seal(self, octets: bytes | memoryview) -> bytes:
        self._tls.write(octets)
        sealed = self._outgoing.read()
        if len(sealed) > self._largest_write:
            self._largest_write = len(sealed)
            self._count()
        return sealed

    def _count(self) -> None:
        self.buffer_bytes = _GROWTH * (self._largest_read + self._largest_write) // 3

    def _open(self, record: bytes | memoryview) -> bytes:
        """Return the application's bytes in a record."""
        if len(record) > self._largest_read:
            self._largest_read = len(record)
            self._count()
        self._incoming.write(record)
        try:
            if not self.ready:
                self._tls.do_handshake()
                self.ready = True
            return self._read()
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLCertVerificationError as untrusted:
            raise TlsError(f"the client's certificate: {untrusted.verify_message}") from None
        except ssl.SSLError as error:
            raise TlsError(
                _REASONS.get(error.reason) or (error.reason or str(error)).lower().replace("_", " ")
            ) from None

    def _read(self) -> bytes:
        parts = []
        try:
            while not self.ended and (self._incoming.pending or self._tls.pending()):
                part = self._tls.read(_RECORD_BYTES)
                parts.append(part)
                self.ended = not part
        except ssl.SSLWantReadError:
            pass  # it carried nothing for the application
        except ssl.SSLZeroReturnError:
            self.ended = True
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _pay(self, useful: int, now: float) -> None:
        """Take from the peer's budget what a record costs that carries few useful bytes."""
        if useful >= SMALL_RECORD_BYTES or self.ended:
            return
        # A KeyUpdate derives two keys and an IV anew, ten times as dear as a byte in a record of its own.
        cost = 1 - useful / SMALL_RECORD_BYTES if useful else KEY_UPDATE_TOKENS
        if not self._budget.spend(cost, now):
            raise TlsError("too many records that carry nothing")
