"""A gRPC client of a few calls on one connection, blocking, for `bbr probe`: h2 speaks HTTP/2.

Not grpcio: it loads for longer than the probe takes, cannot leave a certificate unverified, and hides which certificate
it was shown and why a connection failed.
"""

import contextlib
from collections import deque
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote

from h2 import events
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.errors import ErrorCodes
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from bbr.commands.probe.wire import ProbeError, Wire
from bbr.rpc.messages import MessageError, MessageReader, frame
from bbr.text import brief

# What a peer may make us hold, besides a header section, which h2 bounds: one message.
MAX_MESSAGE_BYTES: Final = 1 << 20

# RFC 9113, section 4.1: length (3 bytes), type, flags, stream; and section 4.2: what we never allow to be exceeded.
_FRAME_HEAD_BYTES: Final = 9
_MAX_FRAME_BYTES: Final = 16_384
_SETTINGS: Final = b"\x04\x00"  # type and flags of a peer's first frame, section 3.4

_TLS_RECORD: Final = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake
# gRPC has 17 codes; Python refuses to read thousands of digits.
_CODE_DIGITS: Final = 9
_UNKNOWN: Final = 2  # gRPC's status code for a call that ended without one


class CallEndedError(ProbeError):
    """A call ended where a message was due.

    Attributes:
        code: the gRPC status code.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"the call ended with gRPC status {code}" + (f": {brief(message)}" if message else ""))
        self.code = code


class _Machine(H2ConnectionStateMachine):
    """h2 takes a GOAWAY for the end; by RFC 9113, section 6.8, streams up to the one that it names may still end."""

    def process_input(self, input_: ConnectionInputs) -> list[events.Event]:
        return [] if input_ is ConnectionInputs.RECV_GOAWAY else super().process_input(input_)


class Call:
    """One call: a stream of the connection.

    Attributes:
        status: the gRPC status and its message, once the peer has ended the call.
    """

    def __init__(self, client: "Client", stream_id: int) -> None:
        self._client = client
        self.stream_id = stream_id
        self.status: tuple[int, str] | None = None
        self._reader = MessageReader(MAX_MESSAGE_BYTES)
        self._messages: deque[bytes] = deque()

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

    def take(self, event: events.Event) -> None:
        """Take what has happened on the stream.

        Raises:
            ProbeError: the peer is no gRPC server, breaks gRPC, or gives the call up.
        """
        match event:
            case events.ResponseReceived():
                self._take_headers(event)
            case events.TrailersReceived():
                self._take_status(_section(event))
            case events.DataReceived():
                self._take_data(event.data)
            case events.StreamEnded():
                self.status = self.status or (_UNKNOWN, "the call ended without a gRPC status")
            case events.StreamReset() if self.status is None:  # an ended call may be reset behind its end
                raise ProbeError(f"it reset the call: {_name(event.error_code)}")

    def _take_headers(self, event: events.ResponseReceived) -> None:
        section = _section(event)
        if section[":status"] != "200":
            raise ProbeError(f"it is not a gRPC server: it answered with HTTP status {brief(section[':status'])}")
        self._take_status(section)

    def _take_status(self, section: dict[str, str]) -> None:
        if "grpc-status" in section:
            code = section["grpc-status"]
            known = code.isascii() and code.isdecimal() and len(code) <= _CODE_DIGITS
            self.status = (int(code) if known else _UNKNOWN, unquote(section.get("grpc-message", "")))

    def _take_data(self, data: bytes) -> None:
        try:
            self._messages += self._reader.feed(data)
        except MessageError as error:
            raise ProbeError(f"it broke gRPC: {error.message}") from None


class Client:
    """A connection with its HTTP/2 preface exchanged; it closes its wire."""

    def __init__(self, wire: Wire) -> None:
        """Exchange the preface.

        Raises:
            ProbeError: the peer does not speak HTTP/2, or not in time.
        """
        self._wire = wire
        self._calls: dict[int, Call] = {}
        self._goaway: events.ConnectionTerminated | None = None
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._h2.state_machine = _Machine()
        self._h2.local_settings = Settings(client=True, initial_values={SettingCodes.ENABLE_PUSH: 0})
        try:
            self._h2.initiate_connection()
            self._flush()
            while not wire.speaks_http2:
                self.pump()
        except BaseException:
            wire.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        # What is still running ends here, as a gateway ends it: by a reset; then goodbye.
        with contextlib.suppress(H2Error, ProbeError):
            for call in self._calls.values():
                if call.status is None:
                    self._h2.reset_stream(call.stream_id, ErrorCodes.CANCEL)
            self._h2.close_connection()
            self._flush()
        self._wire.close()

    def open(self, path: str) -> Call:
        """Begin a call of a gRPC method.

        Raises:
            ProbeError: the peer takes no further call.
        """
        call = Call(self, self._h2.get_next_available_stream_id())
        self._calls[call.stream_id] = call
        self._check_goaway()
        self._h2.send_headers(
            call.stream_id,
            [
                (":method", "POST"),
                (":scheme", self._wire.scheme),
                (":path", path),
                (":authority", self._wire.authority),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("user-agent", "bbr-probe"),
            ],
        )
        self._flush()
        return call

    def send_data(self, call: Call, data: bytes, *, end: bool) -> None:
        """Send DATA on a call's stream, in pieces as the windows allow."""
        while call.status is None:  # else nobody reads on; what the status says is for `receive`
            room = min(self._h2.local_flow_control_window(call.stream_id), self._h2.max_outbound_frame_size)
            if room <= 0 and data:
                self.pump()
                continue
            piece, data = data[: max(room, 0)], data[max(room, 0) :]
            self._h2.send_data(call.stream_id, piece, end_stream=end and not data)
            self._flush()
            if not data:
                return

    def pump(self) -> None:
        """Read one frame and do what it says.

        Frames reach h2 one by one: so none is held that is too long, and no answer of h2's to one is lost by the next.

        Raises:
            ProbeError: it is wrong, says that all is over, or does not come in time.
        """
        head = self._wire.read(_FRAME_HEAD_BYTES)
        length = int.from_bytes(head[:3], "big")
        if not self._wire.speaks_http2:
            _check_first_frame(head, length)
            self._wire.speaks_http2 = True
        if length > _MAX_FRAME_BYTES:
            raise ProbeError(f"it broke HTTP/2: a frame of {length} bytes")
        try:
            for event in self._h2.receive_data(head + self._wire.read(length)):
                self._take(event)
        except H2Error as error:
            why = brief(str(error).partition(":")[0])  # behind a colon stand words for h2's own developers
            raise ProbeError(f"it broke HTTP/2: {type(error).__name__}, {why}") from error
        self._flush()

    def _take(self, event: events.Event) -> None:
        if isinstance(event, events.ConnectionTerminated):
            self._goaway = event
            self._check_goaway()
        elif (call := self._calls.get(getattr(event, "stream_id", None) or 0)) is not None:
            if isinstance(event, events.DataReceived) and event.flow_controlled_length:
                self._h2.acknowledge_received_data(event.flow_controlled_length, call.stream_id)
            call.take(event)

    def _check_goaway(self) -> None:
        if (goaway := self._goaway) is None:
            return
        if goaway.error_code != ErrorCodes.NO_ERROR or max(self._calls, default=0) > (goaway.last_stream_id or 0):
            debug = (goaway.additional_data or b"").decode("latin-1")
            words = f" ({brief(debug)})" if debug else ""
            raise ProbeError(f"it closes the connection: GOAWAY {_name(goaway.error_code)}{words}")

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._wire.send(data)


def _check_first_frame(head: bytes, length: int) -> None:
    """Refuse a peer whose first frame is no SETTINGS, and say what it seems to speak instead."""
    if head.startswith(_TLS_RECORD):
        raise ProbeError("it speaks TLS here: give --tls")
    if head.startswith(b"HTTP/"):
        raise ProbeError("it speaks HTTP/1, and gRPC is HTTP/2")
    if head[3:5] != _SETTINGS or length > _MAX_FRAME_BYTES:
        raise ProbeError(f"it does not speak HTTP/2: its answer begins with {brief(head[:5].decode('latin-1'))}")


def _section(event: events.ResponseReceived | events.TrailersReceived) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in event.headers or ()}


def _text(data: bytes | str) -> str:
    return data if isinstance(data, str) else data.decode("utf-8", "replace")


def _name(code: ErrorCodes | int | None) -> str:
    return code.name if isinstance(code, ErrorCodes) else str(code)
