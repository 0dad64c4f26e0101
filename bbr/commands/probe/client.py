"""A gRPC client of a few calls on one connection, blocking, for `bbr probe`.

Not grpcio's: to load it takes longer than to ask, it can't leave a certificate unverified, and it hides which
certificate it was shown and why a connection failed.
"""

import contextlib
import hashlib
import socket
import ssl
import struct
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self
from urllib.parse import unquote

import hpack

from bbr.http2 import fields, frames
from bbr.http2.frames import ErrorCode, Flag, FrameType, SettingId
from bbr.rpc.messages import MessageError, MessageReader, frame
from bbr.text import printable

ALPN: Final = "h2"

# What a peer may make us hold: one message, and one header section as it came (hpack bounds the decoded one).
MAX_MESSAGE_BYTES: Final = 1 << 20
_MAX_BLOCK_BYTES: Final = 64 << 10
_READ_BYTES: Final = 64 << 10
_DEFAULT_WINDOW: Final = 65_535
_TLS_RECORD: Final = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake

# HPACK: our encoder keeps no table, as a peer with SETTINGS_HEADER_TABLE_SIZE=0 must hear (RFC 7541, section 4.2).
_NO_TABLE: Final = b"\x20"

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
        context.set_alpn_protocols([ALPN])
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


class Call:
    """One call: a stream of the connection.

    Attributes:
        status: the gRPC status and its message, once the peer has ended the call.
    """

    def __init__(self, client: "Client", stream_id: int, window: int) -> None:
        self._client = client
        self.stream_id = stream_id
        self.window = window
        self.status: tuple[int, str] | None = None
        self._reader = MessageReader(MAX_MESSAGE_BYTES)
        self._messages: deque[bytes] = deque()
        self._answered = False

    def send(self, message: bytes, *, end: bool = False) -> None:
        """Send a message, as the peer's windows allow; `end` is the last."""
        self._client.send_data(self, frame([message]), end=end)

    def receive(self) -> bytes:
        """Await the next message.

        Raises:
            ProbeError: the call ended without one, or the deadline has passed.
        """
        while not self._messages:
            if self.status is not None:
                raise CallEndedError(*self.status)
            self._client.pump()
        return self._messages.popleft()

    def take_data(self, octets: bytes) -> None:
        """Take DATA off the wire."""
        try:
            self._messages += self._reader.feed(octets)
        except MessageError as error:
            raise ProbeError(f"it broke gRPC: {error.message}") from None

    def take_headers(self, section: dict[str, str]) -> None:
        """Take a response's headers or trailers."""
        if not self._answered and section.get(":status") != "200":
            raise ProbeError(f"it is no gRPC server: it answered with HTTP status {plain(section.get(':status', ''))}")
        self._answered = True
        if "grpc-status" in section:
            code = section["grpc-status"]
            self.status = (int(code) if code.isdecimal() else 2, unquote(section.get("grpc-message", "")))

    def take_end(self) -> None:
        """Take the end of the stream."""
        if self.status is None:
            self.status = (2, "the call ended without a gRPC status")


class CallEndedError(ProbeError):
    """A call ended where a message was due.

    Attributes:
        code: the gRPC status code.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"the call ended with gRPC status {code}" + (f": {plain(message)}" if message else ""))
        self.code = code


class Client:
    """A connection with its HTTP/2 preface exchanged.

    Attributes:
        handshake: of TLS; None in plaintext.
    """

    def __init__(self, address: Address, tls: Tls | None, deadline: Deadline) -> None:
        """Connect.

        Raises:
            ProbeError: it can't be reached, or does not speak what we do.
            OSError: a file of `tls` can't be used.
        """
        context = tls.context() if tls else None
        name = (tls.server_name if tls else None) or address.host
        if context is not None:
            _check_name(context, name)
        self._authority = str(address) if tls is None or tls.server_name is None else tls.server_name
        self._scheme = "https" if tls else "http"
        self._deadline = deadline
        self._held = bytearray()
        self._calls: dict[int, Call] = {}
        self._window = _DEFAULT_WINDOW
        self._stream_window = _DEFAULT_WINDOW
        self._greeted = False
        self._block: tuple[int, int, bytes] | None = None
        self._decoder = hpack.Decoder()
        self.handshake: Handshake | None = None
        self._socket = self._connect(address)
        try:
            if context is not None:
                self._start_tls(context, name)
            self._greet()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        # What is still running ends here, as a gateway ends it: by a reset; then goodbye.
        parts = [
            frames.rst_stream(each.stream_id, ErrorCode.CANCEL) for each in self._calls.values() if not each.status
        ]
        with contextlib.suppress(OSError, ProbeError):
            self._send(b"".join([*parts, frames.goaway(0, ErrorCode.NO_ERROR)]))
        self._socket.close()

    def open(self, path: str) -> Call:
        """Begin a call of a gRPC method."""
        call = Call(self, 2 * len(self._calls) + 1, self._stream_window)
        self._calls[call.stream_id] = call
        block = _NO_TABLE + fields.encode(
            [
                (b":method", b"POST"),
                (b":scheme", self._scheme.encode()),
                (b":path", path.encode()),
                (b":authority", self._authority.encode()),
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
                (b"user-agent", b"bbr-probe"),
            ]
        )
        self._send(frames.header(FrameType.HEADERS, Flag.END_HEADERS, call.stream_id, len(block)) + block)
        return call

    def send_data(self, call: Call, octets: bytes, *, end: bool) -> None:
        """Send DATA on a call's stream, in pieces as the windows allow."""
        position = 0
        while True:
            room = min(len(octets) - position, self._window, call.window, frames.MIN_MAX_FRAME_SIZE)
            if room <= 0 and position < len(octets):
                if call.status is not None:
                    return  # nobody reads on; what it says is for `receive`
                self.pump()
                continue
            piece = octets[position : position + room]
            position += room
            self._window -= room
            call.window -= room
            last = position == len(octets)
            flags = Flag.END_STREAM if last and end else 0
            self._send(frames.header(FrameType.DATA, flags, call.stream_id, room) + piece)
            if last:
                return

    def pump(self) -> None:
        """Read one frame and do what it says.

        Raises:
            ProbeError: it is wrong, says that all is over, or does not come in time.
        """
        word, flags, stream_id = frames.HEADER.unpack(self._read(frames.HEADER_BYTES))
        length, frame_type = word >> 8, word & 0xFF
        if not self._greeted:
            self._check_greeting(length, frame_type, flags)
        if length > frames.MIN_MAX_FRAME_SIZE:
            raise ProbeError(f"it broke HTTP/2: a frame of {length} bytes")
        payload = self._read(length)
        call = self._calls.get(stream_id & frames.STREAM_ID_MASK)
        try:
            self._take(frame_type, flags, payload, call)
        except (IndexError, ValueError, struct.error) as error:  # a payload that is too short, say
            raise ProbeError(f"it broke HTTP/2: an unusable frame of type {frame_type}") from error

    def _take(self, frame_type: int, flags: int, payload: bytes, call: Call | None) -> None:
        if frame_type == FrameType.SETTINGS:
            if not flags & Flag.ACK:
                self._take_settings(payload)
        elif frame_type == FrameType.PING:
            if not flags & Flag.ACK:
                self._send(frames.ping_ack(payload))
        elif frame_type == FrameType.WINDOW_UPDATE:
            (increment,) = frames.UINT32.unpack(payload)
            if call is None:
                self._window += increment
            else:
                call.window += increment
        elif frame_type == FrameType.GOAWAY:
            self._take_goaway(payload)
        elif call is not None:
            self._take_of_call(frame_type, flags, payload, call)

    def _take_of_call(self, frame_type: int, flags: int, payload: bytes, call: Call) -> None:
        if frame_type == FrameType.DATA:
            call.take_data(_unpadded(payload, flags))
            if flags & Flag.END_STREAM:
                call.take_end()
        elif frame_type == FrameType.HEADERS:
            payload = _unpadded(payload, flags)
            if flags & Flag.PRIORITY:
                payload = payload[5:]
            self._take_block(call, flags & Flag.END_STREAM, payload, flags)
        elif frame_type == FrameType.CONTINUATION and self._block is not None:
            _, end_stream, before = self._block
            self._take_block(call, end_stream, before + payload, flags)
        elif frame_type == FrameType.RST_STREAM and call.status is None:  # an ended call may be reset behind its end
            raise ProbeError(f"it reset the call: {_code(payload)}")

    def _take_block(self, call: Call, end_stream: int, block: bytes, flags: int) -> None:
        if len(block) > _MAX_BLOCK_BYTES:
            raise ProbeError(f"its header section is longer than {_MAX_BLOCK_BYTES} bytes")
        if not flags & Flag.END_HEADERS:
            self._block = (call.stream_id, end_stream, block)
            return
        self._block = None
        try:
            section = {str(name): str(value) for name, value in self._decoder.decode(block)}
        except (hpack.HPACKError, UnicodeDecodeError) as error:
            raise ProbeError("it broke HTTP/2: a header section that can't be decoded") from error
        call.take_headers(section)
        if end_stream:
            call.take_end()

    def _take_settings(self, payload: bytes) -> None:
        for identifier, value in frames.SETTING.iter_unpack(payload):
            if identifier == SettingId.INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.window += value - self._stream_window
                self._stream_window = value
        self._send(frames.SETTINGS_ACK)

    def _take_goaway(self, payload: bytes) -> None:
        (last,) = frames.UINT32.unpack_from(payload)
        code = _code(payload[4:8])
        if code != ErrorCode.NO_ERROR.name or any(stream_id > last for stream_id in self._calls):
            debug = payload[8:].decode("latin-1")
            raise ProbeError(f"it closes the connection: GOAWAY {code}" + (f" ({plain(debug)})" if debug else ""))

    def _connect(self, address: Address) -> socket.socket:
        try:
            connected = socket.create_connection(address, self._deadline.left())
        except TimeoutError:
            raise self._deadline.passed() from None
        except socket.gaierror as error:
            raise ProbeError(f"the name can't be resolved: {error.strerror}") from None
        except UnicodeError:  # of Python's own, before anybody is asked
            raise ProbeError("the name can't be resolved: it is no host name") from None
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

    def _greet(self) -> None:
        """Send the preface and await the peer's SETTINGS, which bound what we may send."""
        window = frames.MAX_WINDOW  # messages are bounded instead, and the connection lives for two calls
        settings = frames.settings([(SettingId.ENABLE_PUSH, 0), (SettingId.INITIAL_WINDOW_SIZE, window)])
        self._send(frames.PREFACE + settings + frames.window_update(0, window - _DEFAULT_WINDOW))
        while not self._greeted:
            self.pump()

    def _check_greeting(self, length: int, frame_type: int, flags: int) -> None:
        head = length.to_bytes(3, "big") + bytes([frame_type, flags])
        if head.startswith(_TLS_RECORD):
            raise ProbeError("it speaks TLS here: give --tls")
        if head.startswith(b"HTTP/"):
            raise ProbeError("it speaks HTTP/1, and gRPC is HTTP/2")
        if frame_type != FrameType.SETTINGS or flags & Flag.ACK or length > frames.MIN_MAX_FRAME_SIZE:
            raise ProbeError(f"it does not speak HTTP/2: its answer begins with {plain(head.decode('latin-1'))}")
        self._greeted = True

    def _read(self, size: int) -> bytes:
        while len(self._held) < size:
            self._socket.settimeout(self._deadline.left())
            try:
                octets = self._socket.recv(_READ_BYTES)
            except OSError as error:
                raise self._failure(error) from None
            if not octets:
                raise ProbeError(self._closed())
            self._held += octets
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    def _send(self, octets: bytes) -> None:
        self._socket.settimeout(self._deadline.left())
        try:
            self._socket.sendall(octets)
        except OSError as error:
            raise self._failure(error) from None

    def _closed(self, when: str = "") -> str:
        if self._greeted:
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
            return ProbeError(f"its certificate is not to be trusted: {error.verify_message}")
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionResetError | BrokenPipeError):
            return ProbeError(self._closed(when))
        if isinstance(error, ssl.SSLError):
            reason = error.reason or "an error"
            return ProbeError(_TLS_REASONS.get(reason, f"TLS failed: {reason.replace('_', ' ').lower()}"))
        return ProbeError(f"the connection failed {when}: {error}".replace(" :", ":"))


def plain(text: str, limit: int = 300) -> str:
    """Return a peer's text for a terminal: no control characters, and not too much of it."""
    return printable(text[:limit]) + ("..." if len(text) > limit else "")


def _check_name(context: ssl.SSLContext, name: str) -> None:
    """Refuse a name that TLS can't ask for, before there is a socket that wrapping it would leave open."""
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except ValueError:
        raise ProbeError(f"{plain(name)} is no name to ask for in TLS") from None


def _code(payload: bytes) -> str:
    (number,) = frames.UINT32.unpack(payload)
    try:
        return ErrorCode(number).name
    except ValueError:
        return str(number)


def _unpadded(payload: bytes, flags: int) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & Flag.PADDED else payload
