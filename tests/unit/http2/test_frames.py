import pytest
from hyperframe.frame import Frame, GoAwayFrame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from bbr.http2 import frames
from bbr.http2.frames import ErrorCode, Flag, FrameType, SettingId


def read(octets: bytes) -> Frame:
    parsed, length = Frame.parse_frame_header(memoryview(octets[:9]), strict=True)
    assert length == len(octets) - 9
    parsed.parse_body(memoryview(octets[9:]))
    return parsed


@pytest.mark.parametrize(
    "octets",
    [bytes(9), b"\xff" * 9, bytes(range(9)), bytes(range(255, 246, -1)), b"\x00\x40\x00\x00\x01\x80\x00\x00\x03"],
)
def test_a_header_read_by_hand(octets: bytes) -> None:
    assert frames.read_header(octets, 0) == frames.HEADER.unpack(octets)
    assert frames.read_header(b"xy" + octets + b"z", 2) == frames.HEADER.unpack(octets)


def test_settings():
    parsed = read(frames.settings([(SettingId.INITIAL_WINDOW_SIZE, 1 << 20), (SettingId.HEADER_TABLE_SIZE, 0)]))
    assert isinstance(parsed, SettingsFrame)
    assert parsed.settings == {4: 1 << 20, 1: 0}
    assert read(frames.settings([])).flags == set()


def test_settings_ack():
    assert read(frames.SETTINGS_ACK).flags == {"ACK"}


def test_ping_ack():
    parsed = read(frames.ping_ack(b"12345678"))
    assert isinstance(parsed, PingFrame)
    assert (parsed.opaque_data, parsed.flags) == (b"12345678", {"ACK"})


def test_rst_stream():
    parsed = read(frames.rst_stream(7, ErrorCode.REFUSED_STREAM))
    assert isinstance(parsed, RstStreamFrame)
    assert (parsed.stream_id, parsed.error_code) == (7, 7)


@pytest.mark.parametrize("debug", [b"", b"control-flood"])
def test_goaway(debug):
    parsed = read(frames.goaway(2**31 - 1, ErrorCode.ENHANCE_YOUR_CALM, debug))
    assert isinstance(parsed, GoAwayFrame)
    assert (parsed.last_stream_id, parsed.error_code, parsed.additional_data) == (2**31 - 1, 11, debug)


@pytest.mark.parametrize("stream_id", [0, 9])
def test_window_update(stream_id):
    parsed = read(frames.window_update(stream_id, 70_000))
    assert isinstance(parsed, WindowUpdateFrame)
    assert (parsed.stream_id, parsed.window_increment) == (stream_id, 70_000)


@pytest.mark.parametrize("length", [0, 1, 16_384, (1 << 24) - 1])
def test_header(length):
    octets = frames.header(FrameType.DATA, Flag.END_STREAM, 2**31 - 1, length)
    parsed, announced = Frame.parse_frame_header(memoryview(octets), strict=True)
    assert (announced, parsed.stream_id, parsed.flags) == (length, 2**31 - 1, {"END_STREAM"})


def test_numbers_of_the_specification():
    names = [
        "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
        "CONTINUATION",
    ]  # fmt: skip
    assert {name: value for name, value in vars(FrameType).items() if name.isupper()} == {
        name: number for number, name in enumerate(names)
    }
    assert [each.value for each in ErrorCode] == list(range(14))
    assert [each.value for each in SettingId] == list(range(1, 7))
