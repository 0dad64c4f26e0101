"""One gRPC call: what its HEADERS must say, and what its ends look like on the wire.

Source: gRPC over HTTP/2 (PROTOCOL-HTTP2.md).
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, Protocol

from bbr.http2.fields import FieldSection, encode
from bbr.native import mypyc_attr
from bbr.rpc.messages import COMPRESSED, MessageReader
from bbr.rpc.status import Status

# At most eight digits, by the specification; so no value is too long for int() or overflows a float.
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_SECONDS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

# HTTP status 200 whatever the call's status is: gRPC has its own in the trailers.
_OK: Final = (b":status", b"200")
# A client needs no more than this: the suffix (+proto) is optional.
_CONTENT_TYPE: Final = (b"content-type", b"application/grpc")

# Response HEADERS; they leave with the first message, so that Envoy may still retry a call on another replica.
HEADERS: Final = encode([_OK, _CONTENT_TYPE])

# What we would decode: nothing. Told to a client that sends compressed messages.
_ACCEPT_ENCODING: Final = (b"grpc-accept-encoding", b"identity")


class Handler(Protocol):
    """What answers a call: fed with messages, it returns messages. An Exchange is one."""

    @property
    def end(self) -> Status | None:
        """Once set, the status to end the call with, after the messages already returned."""

    @property
    def pending(self) -> bool:
        """Whether `work` has something to do. It may still be sent messages."""

    @property
    def held_bytes(self) -> int:
        """What it holds of what the call has sent, beside what the call itself holds. It lets go of it in `give_up`."""

    @property
    def patience_seconds(self) -> float | None:
        """How long to wait for the next message before `expire`; None is for ever."""

    def receive(self, message: bytes) -> Sequence[bytes]:
        """Take a message and return the answers."""

    def work(self) -> Sequence[bytes]:
        """Do a bit of what is pending, about half a millisecond's, and return the answers that came of it."""

    def expect(self, size: int) -> Sequence[bytes]:
        """Take note that a long message of `size` bytes has begun; return answers, if that calls for any."""

    def give_up(self) -> Sequence[bytes]:
        """Return the answers for a call without room: the process can't hold what the call has sent, or will send."""

    def expire(self) -> Sequence[bytes]:
        """Return the answers for a message that did not come in time."""

    def finish(self) -> Status | None:
        """Return the status for a call that the client has half-closed; None if it goes on until ended from outside."""

    def over(self) -> None:
        """Let go of everything: the call is over, however it ended. Called once."""


# Makes the handler of a new call, whose header section it is given.
NewHandler = Callable[[FieldSection], Handler]


@mypyc_attr(free_list_len=1)
class Call:
    """A running call.

    Attributes:
        stream_id: its stream.
        handler: what answers it.
        reader: its messages.
        heard: when a message last came to its end, in seconds: a piece of one now and then is no sign of life.
        deadline: when grpc-timeout is over; None without one.
        begun: its first message has come.
        headers_sent: response HEADERS are out, so the end is trailers.
        half_closed: the client has no more to say, and `finish` waits until the handler has no more work.
    """

    __slots__ = ("begun", "deadline", "half_closed", "handler", "headers_sent", "heard", "reader", "stream_id")

    def __init__(
        self, stream_id: int, handler: Handler, reader: MessageReader, now: float, deadline: float | None
    ) -> None:
        self.stream_id = stream_id
        self.handler = handler
        self.reader = reader
        # The wait for the first message begins with the call: HEADERS alone must not keep a call for ever.
        self.heard = now
        self.deadline = deadline
        self.begun = False
        self.headers_sent = False
        self.half_closed = False


def http_refusal(section: FieldSection) -> bytes | None:
    """Return the field block that answers a request which is no gRPC call; None if it is one."""
    # gRPC calls are POST. A plain HTTP answer says so to a browser or a probe, which does not read grpc-status.
    if section.get(b":method") != b"POST":
        return encode([(b":status", b"405"), (b"allow", b"POST")])
    # The specification asks for 415 here: a client that speaks no gRPC would take a 200 for success.
    content_type = section.get(b"content-type") or b""
    # The next byte matters: application/grpc-web is another protocol, with its trailers in the body.
    if content_type != b"application/grpc" and not content_type.startswith(
        (b"application/grpc+", b"application/grpc;")
    ):
        return encode([(b":status", b"415"), (b"accept", b"application/grpc")])
    return None


def timeout_seconds(value: bytes) -> float | None:
    """Return the seconds of a grpc-timeout; None if it is malformed."""
    # Not search or match: a value with anything behind the unit is malformed.
    match = _TIMEOUT.fullmatch(value)
    return int(match[1]) * _UNIT_SECONDS[match[2]] if match else None


@lru_cache(256)
def trailers(status: Status, *, alone: bool) -> bytes:
    """Return the field block that ends a call; `alone`, without HEADERS before it (Trailers-Only)."""
    # Trailers-Only is one HEADERS frame, so it must hold what the response's HEADERS would have.
    fields = [_OK, _CONTENT_TYPE] if alone else []
    fields.append((b"grpc-status", str(int(status.code)).encode()))
    # grpc-message is optional, and an empty one says nothing.
    if status.message:
        fields.append((b"grpc-message", percent_encode(status.message)))
    # The compression document asks for it with UNIMPLEMENTED: the client learns what to send instead.
    if status == COMPRESSED:
        fields.append(_ACCEPT_ENCODING)
    return encode(fields)


def percent_encode(text: str) -> bytes:
    """Return `text` as a grpc-message: bytes outside of 0x20-0x7e, and the percent sign, as %XX."""
    # Field values cannot hold CR, LF or NUL (RFC 9113, section 8.2.1), and a message may quote a client's text.
    return b"".join(
        bytes((octet,)) if 0x20 <= octet <= 0x7E and octet != 0x25 else b"%%%02X" % octet for octet in text.encode()
    )
