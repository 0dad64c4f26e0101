"""The TLS of one connection, without I/O: octets of the wire in, octets of the application out, and back.

Not asyncio's or uvloop's TLS: there a connection is invisible until its handshake is over (no limit, no drain, no
reason why it failed), it can't be half-closed at its end, and a second write buffer stands before the socket's.
"""

import contextlib
import ssl
from collections.abc import Callable
from typing import Final

ALPN: Final = "h2"

# OpenSSL gives back one record at a time, at most 16 KiB.
_RECORD_BYTES: Final = 16_384

# Where OpenSSL's own word would not tell an operator whose it is.
_REASONS: Final = {"PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client showed no certificate"}


class TlsError(Exception):
    """The peer broke TLS, or turned us down; the message is OpenSSL's reason."""


class TlsSession:
    """The server's side of one TLS connection.

    Args:
        context: how to shake hands.
        refusal: given a verified client's certificate in DER, returns why the client is not let in, or "". None where
            clients show none.

    Attributes:
        ready: the handshake is over.
        ended: the peer has said that it sends no more (close_notify).
    """

    def __init__(self, context: ssl.SSLContext, refusal: Callable[[bytes], str] | None = None) -> None:
        self._refusal = refusal
        self.ready = False
        self.ended = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._early = b""

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

    def receive(self, octets: bytes) -> bytes:
        """Take octets off the wire; return those of the application, of whole records only.

        What this calls for (the handshake, an alert) is in the next `send`.

        Raises:
            TlsError: the connection is over, but for what `send` still returns.
        """
        self._incoming.write(octets)
        try:
            if not self.ready:
                self._tls.do_handshake()
                self.ready = True
            return self._read()
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLCertVerificationError as error:
            raise TlsError(f"the client's certificate: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise TlsError(
                _REASONS.get(error.reason) or (error.reason or str(error)).lower().replace("_", " ")
            ) from None

    def send(self, octets: bytes) -> bytes:
        """Return what goes on the wire: what `receive` has called for, then `octets`, which wait for the handshake."""
        if not self.ready:
            self._early += octets
            return self._outgoing.read()
        if self._early:
            octets, self._early = self._early + octets, b""
        if octets:
            self._tls.write(octets)
        return self._outgoing.read()

    def close(self) -> bytes:
        """Return the octets that tell the peer that no more will come (close_notify)."""
        if self.ready:
            with contextlib.suppress(ssl.SSLError):  # it wants the peer's own close_notify, which nobody waits for
                self._tls.unwrap()
        return self._outgoing.read()

    def _read(self) -> bytes:
        records = []
        try:
            while not self.ended and (self._incoming.pending or self._tls.pending()):
                record = self._tls.read(_RECORD_BYTES)
                records.append(record)
                self.ended = not record
        except ssl.SSLWantReadError:
            pass  # the rest is a part of a record
        except ssl.SSLZeroReturnError:
            self.ended = True
        return b"".join(records)
