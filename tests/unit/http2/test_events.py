from bbr.http2.events import ConnectionFailed, DataReceived, RequestReceived, StreamReset, TrailersReceived
from bbr.http2.fields import FieldSection, entry
from bbr.http2.frames import ErrorCode

SECTION = FieldSection((entry(b":method", b"GET"),), "", None, False)


def test_events_can_be_taken_apart():
    match RequestReceived(1, SECTION, True):
        case RequestReceived(stream_id, section, end_stream):
            assert (stream_id, section, end_stream) == (1, SECTION, True)
    match DataReceived(1, b"octets", False):
        case DataReceived(stream_id, octets, end_stream):
            assert (stream_id, octets, end_stream) == (1, b"octets", False)


def test_kinds_are_told_apart_by_their_class():
    events = [TrailersReceived(1, SECTION), StreamReset(1, 8, ""), ConnectionFailed(ErrorCode.CANCEL, "reason")]
    assert [type(each).__name__ for each in events] == ["TrailersReceived", "StreamReset", "ConnectionFailed"]
