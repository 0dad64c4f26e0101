"""What a connection reports to its owner after it has received bytes."""

from bbr.http2.fields import FieldSection
from bbr.http2.frames import ErrorCode
from bbr.http2.record import Record
from bbr.native import mypyc_attr


@mypyc_attr(free_list_len=1)
class RequestReceived(Record):
    """A request's header section; well-formed."""

    __slots__ = ("end_stream", "section", "stream_id")
    __match_args__ = ("stream_id", "section", "end_stream")

    def __init__(self, stream_id: int, section: FieldSection, end_stream: bool) -> None:
        self.stream_id = stream_id
        self.section = section
        self.end_stream = end_stream


@mypyc_attr(free_list_len=1)
class DataReceived(Record):
    """DATA without its padding; may be empty."""

    __slots__ = ("data", "end_stream", "stream_id")
    __match_args__ = ("stream_id", "data", "end_stream")

    def __init__(self, stream_id: int, data: bytes | memoryview, end_stream: bool) -> None:
        self.stream_id = stream_id
        self.data = data
        self.end_stream = end_stream


@mypyc_attr(free_list_len=1)
class TrailersReceived(Record):
    """The request has ended by a trailer section."""

    __slots__ = ("section", "stream_id")
    __match_args__ = ("stream_id", "section")

    def __init__(self, stream_id: int, section: FieldSection) -> None:
        self.stream_id = stream_id
        self.section = section


@mypyc_attr(free_list_len=1)
class StreamReset(Record):
    """A stream is gone before both sides had ended it: by its peer's RST_STREAM, or by a fault of the peer's.

    `reason` is "" for the peer's own RST_STREAM; else it names the fault, and our RST_STREAM is on its way.
    """

    __slots__ = ("code", "reason", "stream_id")
    __match_args__ = ("stream_id", "code", "reason")

    def __init__(self, stream_id: int, code: int, reason: str) -> None:
        self.stream_id = stream_id
        self.code = code
        self.reason = reason


class ConnectionFailed(Record):
    """GOAWAY is in the output; send it, then close. A StreamReset for each open stream has come before."""

    __slots__ = ("code", "reason")
    __match_args__ = ("code", "reason")

    def __init__(self, code: ErrorCode, reason: str) -> None:
        self.code = code
        self.reason = reason


Event = RequestReceived | DataReceived | TrailersReceived | StreamReset | ConnectionFailed
