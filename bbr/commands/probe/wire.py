"""The probe's connection, over TCP or TLS. One deadline covers everything. Explains why a connection failed."""

import hashlib
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from bbr.text import brief

_ALPN: Final = "h2"
_READ_BYTES: Final = 64 << 10

# OpenSSL's reasons that mean something else to whoever reads them.
_TLS_REASONS: Final = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS here: leave --tls out",
    "RECORD_LAYER_FAILURE": "it does not speak TLS here: leave --tls out",
    "HTTP_REQUEST": "it does not speak TLS here: leave --tls out",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a client's certificate: give --tls-cert and --tls-key",
}


class ProbeError(Exception):
    """The peer can't be reached, or does not do what it must; the message says what, without its address."""


class Address(NamedTuple):
    """Where to connect to."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How to speak TLS.

    Attributes:
        ca: PEM file with what to verify the server's certificate by; None verifies nothing.
        cert: PEM file with the client's certificate, for servers that want one.
        key: PEM file with its key.
        server_name: in the handshake, and verified against the certificate (default: the host).
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def context(self) -> ssl.SSLContext:
        """Return a client's context.

        Raises:
            OSError: a file can't be read, or (ssl.SSLError) used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([_ALPN])
        if self.ca is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            # Not the system's own authorities as well; and a self-signed server's certificate is one to trust.
            context.load_verify_locations(self.ca)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key, password=lambda: b"")
        return context


class Handshake(NamedTuple):
    """What was agreed on."""

    version: str
    alpn: str | None
    fingerprint: str


class Deadline:
    """One point in time for all that is done."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left.

        Raises:
            ProbeError: there are none.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> ProbeError:
        """Return what to raise when it is over."""
        return ProbeError(f"no answer within {self.seconds:g} s")


class Wire:
    """A connection that blocks.

    Attributes:
        authority: what a request names its server by.
        scheme: of a request's URL.
        handshake: of TLS; None in plaintext.
        speaks_http2: whether the peer has begun to; set by whoever reads. Failures mean other things before.
    """

    def __init__(self, address: Address, tls: Tls | None, deadline: Deadline) -> None:
        """Connect.

        Raises:
            ProbeError: the peer can't be reached, or TLS can't be agreed on.
            OSError: a file of `tls` can't be used.
        """
        context = tls.context() if tls else None
        name = (tls.server_name if tls else None) or address.host
        if context is not None:
            _check_name(context, name)
        self._deadline = deadline
        self._held = bytearray()
        self.authority = str(address) if tls is None or tls.server_name is None else tls.server_name
        self.scheme = "https" if tls else "http"
        self.handshake: Handshake | None = None
        self.speaks_http2 = False
        self._socket = self._connect(address)
        try:
            if context is not None:
                self._start_tls(context, name)
        except BaseException:
            self._socket.close()
            raise

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes.

        Raises:
            ProbeError: they do not come, or not in time.
        """
        while len(self._held) < size:
            self._socket.settimeout(self._deadline.left())
            try:
                data = self._socket.recv(_READ_BYTES)
            except OSError as error:
                raise self._failure(error) from None
            if not data:
                raise ProbeError(self._closed())
            self._held += data
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    def send(self, data: bytes) -> None:
        """Send.

        Raises:
            ProbeError: the connection is gone, or the peer does not read in time.
        """
        self._socket.settimeout(self._deadline.left())
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _connect(self, address: Address) -> socket.socket:
        try:
            connected = socket.create_connection(address, self._deadline.left())
        except TimeoutError:
            raise self._deadline.passed() from None
        except socket.gaierror as error:
            raise ProbeError(f"the name can't be resolved: {error.strerror}") from None
        except UnicodeError:  # of Python's own, before anybody is asked
            raise ProbeError("the name can't be resolved: it is not a host name") from None
        except OSError as error:
            raise ProbeError(f"can't connect: {error.strerror or error}") from None
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a second message waits 40 ms for an ACK
        return connected

    def _start_tls(self, context: ssl.SSLContext, name: str) -> None:
        self._socket.settimeout(self._deadline.left())
        try:
            tls = context.wrap_socket(self._socket, server_hostname=name)
        except OSError as error:
            raise self._failure(error, "during the TLS handshake") from None
        self._socket = tls
        certificate = tls.getpeercert(binary_form=True) or b""
        fingerprint = hashlib.sha256(certificate).hexdigest().upper()
        pairs = ":".join(fingerprint[at : at + 2] for at in range(0, len(fingerprint), 2))
        self.handshake = Handshake(tls.version() or "", tls.selected_alpn_protocol(), pairs)

    def _closed(self, when: str = "") -> str:
        if self.speaks_http2:
            return "it closed the connection"
        if when:
            return f"it closed the connection {when}: it may not speak TLS here"
        hint = "" if self.handshake else "; if it speaks TLS here, give --tls"
        return f"it closed the connection before it said anything{hint}"

    def _failure(self, error: Exception, when: str = "") -> ProbeError:
        """Say what a failed read, write or handshake means."""
        if isinstance(error, TimeoutError):
            return self._deadline.passed()
        if isinstance(error, ssl.SSLCertVerificationError):
            return ProbeError(f"its certificate is not trusted: {error.verify_message}")
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionResetError | BrokenPipeError):
            return ProbeError(self._closed(when))
        if isinstance(error, ssl.SSLError):
            reason = error.reason or "an error"
            return ProbeError(_TLS_REASONS.get(reason, f"TLS failed: {reason.replace('_', ' ').lower()}"))
        return ProbeError(f"the connection failed {when}: {error}".replace(" :", ":"))


def _check_name(context: ssl.SSLContext, name: str) -> None:
    """Refuse a name that TLS can't ask for, before there is a socket that wrapping it would leave open."""
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except ValueError:
        raise ProbeError(f"{brief(name)} is not a name that TLS can ask for") from None
