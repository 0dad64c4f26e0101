"""What a connection tells its owner after it has received octets."""

from typing import NamedTuple

from bbr.http2.fields import FieldSection
from bbr.http2.frames import ErrorCode


class RequestReceived(NamedTuple):
    """A request's header section; well-formed."""

    stream_id: int
    section: FieldSection
    end_stream: bool


class DataReceived(NamedTuple):
    """DATA without its padding; may be empty."""

    stream_id: int
    data: bytes
    end_stream: bool


class TrailersReceived(NamedTuple):
    """The request has ended by a trailer section."""

    stream_id: int
    section: FieldSection


class StreamReset(NamedTuple):
    """A stream is gone before both sides had ended it: by its peer's RST_STREAM, or by a fault of the peer's.

    `reason` is "" for the peer's own RST_STREAM; else it names the fault, and our RST_STREAM is on its way.
    """

    stream_id: int
    code: int
    reason: str


class ConnectionFailed(NamedTuple):
    """GOAWAY is in the output; send it, then close. A StreamReset for each open stream has come before."""

    code: ErrorCode
    reason: str


Event = RequestReceived | DataReceived | TrailersReceived | StreamReset | ConnectionFailed
