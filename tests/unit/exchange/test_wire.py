import pytest
from google.protobuf.message import DecodeError

from bbr.exchange import wire
from bbr.exchange.policy import BodyMode
from bbr.exchange.wire import Wanted, number, read_opening, read_piece
from bbr.pb.ext_proc_pb2 import ProcessingRequest
from bbr.reading.head import wanted
from bbr.reading.header_names import BEGINNING_BYTES, NO_NAMES
from bench.harness import messages
from tests.fuzz.wire import check

FDS, BUFFERED = BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED
FIELDS = [(":path", "/v1/chat"), ("x-request-id", "7"), ("content-type", "application/json"), ("cookie", "a" * 300)]
HEADERS = messages.request_headers(FIELDS, mode=FDS, response_mode=BUFFERED)
PIECE = messages.request_body(b"body")


def opening(message: bytes):
    return read_opening(message, Wanted(wanted(NO_NAMES), BEGINNING_BYTES))


def test_pieces_of_more_sizes_than_are_remembered() -> None:
    for size in range(1, 1_200):
        assert read_piece(messages.request_body(b"x" * size)) == (b"x" * size, False)
        assert len(wire._known_beginnings) <= 1_024


@pytest.mark.parametrize("size", [1, 125, 126, 127, 128, 129, 16_378, 16_379, 16_380, 16_384, 62_000, 3 << 20])
@pytest.mark.parametrize("ended", [True, False])
def test_a_piece_of_a_body(size: int, ended: bool) -> None:
    assert read_piece(messages.request_body(b"x" * size, end_of_stream=ended)) == (b"x" * size, ended)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        HEADERS,
        messages.request_body(),
        messages.request_body(end_of_stream=True),
        messages.response_body(b"body"),
        messages.request_body(b"body", mode=FDS),
        PIECE[:-1],
        PIECE + b"\x50\x01",
        messages.request_body(b"body", end_of_stream=True)[:-1] + b"\x00",
        b"\x22\x06\x0a\x84\x00body",  # a number with a byte too many
        b"\x22\x80" + b"x" * 128,  # no message with a body is of this size
    ],
)
def test_what_is_no_plain_piece(message: bytes) -> None:
    assert read_piece(message) is None
    check(message)


def test_headers() -> None:
    read = opening(HEADERS)
    assert read is not None
    headers = ProcessingRequest.FromString(HEADERS).request_headers.headers
    assert read.section == headers.SerializeToString()
    assert read.wanted == [headers.headers[0], headers.headers[2]]
    assert (read.end_of_stream, read.modes) == (False, (FDS, BUFFERED))


def test_headers_that_tell_no_mode_and_no_body() -> None:
    read = opening(messages.request_headers(FIELDS[1:2], end_of_stream=True))
    assert read is not None
    assert (read.wanted, read.end_of_stream, read.modes) == ([], True, None)


def test_a_section_without_fields() -> None:
    read = opening(b"\x12\x02\x0a\x00")
    assert read is not None
    assert (read.section, read.wanted) == (b"", [])


MOST = messages.request_headers([("x", "")] * 128)


def test_a_field_that_is_shorter_than_the_beginnings_that_are_asked_for() -> None:
    message = messages.request_headers([("a", ""), ("b", ""), ("abc", "1"), ("xyz", "2")])
    asked = Wanted(frozenset((b"\n\x01a", b"\n\x03abc")), BEGINNING_BYTES)
    found = read_opening(message, asked)
    assert found is not None
    assert found.wanted == [b"\n\x01a", b"\n\x03abc\x1a\x011"]


def test_a_section_of_many_fields() -> None:
    assert opening(MOST) is not None
    assert opening(messages.request_headers([("x", "")] * 129)) is None


@pytest.mark.parametrize(
    "message",
    [
        b"",
        PIECE,
        messages.response_headers(),
        b"\x12",
        b"\x12\x00",
        b"\x12\x80\x00",  # a number with a byte too many
        b"\x12\x80\x80\x80\x80\x00",
        b"\x12\x02\x18\x01",
        b"\x12\x02\x0a\x01",
        b"\x12\x04\x0a\x02\x12\x00",  # a field of a section that the router does not know
        b"\x12\x04\x0a\x02\x0a\x07",
        b"\x12\x04\x0a\x00\x18\x00",
        b"\x12\x06\x0a\x00\x18\x01\x18\x01",
        b"\x12\x02\x0a\x00\x50\x01",  # observability_mode
        b"\x12\x02\x0a\x00\x12\x00",  # headers twice
        HEADERS + b"\x9a\x06\x1f" + b"x" * 31,  # attributes, or whatever else follows
    ],
)
def test_what_are_no_plain_headers(message: bytes) -> None:
    assert opening(message) is None
    check(message)


def test_what_follows_the_headers_is_no_message() -> None:
    with pytest.raises(DecodeError):
        opening(b"\x12\x02\x0a\x00\x5a\x05")


@pytest.mark.parametrize(
    ("value", "encoded"), [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (1 << 21, b"\x80\x80\x80\x01")]
)
def test_numbers(value: int, encoded: bytes) -> None:
    assert number(value) == encoded


def test_a_long_piece_is_a_view_of_its_message() -> None:
    for ended in (False, True):
        for size, kind in ((1_000, bytes), (16_384, memoryview)):
            piece = read_piece(messages.request_body(b"x" * size, end_of_stream=ended))
            assert piece is not None
            assert type(piece[0]) is kind
