import struct

import pytest

from bbr.http2.held import Held
from bbr.rpc.messages import PREFIX, MessageError, MessageReader, frame, read_prefix
from bbr.rpc.status import StatusCode


def message(octets: bytes, flag: int = 0) -> bytes:
    return bytes((flag,)) + struct.pack(">I", len(octets)) + octets


MESSAGES = [b"", b"a", b"", b"bc" * 500, b"\x00\x00\x00\x00\x01"]
WIRE = b"".join(map(message, MESSAGES))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 9, 500, 10_000], ids="chunk={}".format)
def test_messages_across_any_split_h1(size: int) -> None:
    reader = MessageReader(1000)
    got = []
    for start in range(0, len(WIRE), size):
        got += reader.feed(WIRE[start : start + size])
    assert got == MESSAGES
    assert not reader.unfinished


@pytest.mark.parametrize("cut", range(1, 5 + 3))
def test_unfinished_inside_of_a_message_h3(cut: int) -> None:
    reader = MessageReader(10)
    assert list(reader.feed(message(b"abc")[:cut])) == []
    assert reader.unfinished
    assert list(reader.feed(message(b"abc")[cut:])) == [b"abc"]
    assert not reader.unfinished


def test_no_octets_are_no_message() -> None:
    reader = MessageReader(10)
    assert list(reader.feed(b"")) == []
    assert not reader.unfinished


@pytest.mark.parametrize("length", [11, 2**32 - 1])
def test_too_long_a_message_is_refused_at_its_prefix_h2(length: int) -> None:
    reader = MessageReader(10)
    assert list(reader.feed(message(b"x" * 10))) == [b"x" * 10]
    with pytest.raises(MessageError, match=f"{length} bytes is larger than 10") as caught:
        reader.feed(b"\x00" + struct.pack(">I", length))
    assert (caught.value.code, caught.value.reason) == (StatusCode.RESOURCE_EXHAUSTED, "message-too-large")


@pytest.mark.parametrize(
    ("flag", "encoding", "code"),
    [
        (1, None, StatusCode.INTERNAL),
        (1, b"identity", StatusCode.INTERNAL),
        (1, b"gzip", StatusCode.UNIMPLEMENTED),
        (2, None, StatusCode.INTERNAL),
        (255, b"gzip", StatusCode.INTERNAL),
    ],
)
def test_compressed_flag_h4(flag: int, encoding: bytes | None, code: StatusCode) -> None:
    with pytest.raises(MessageError) as caught:
        MessageReader(10, encoding).feed(message(b"x", flag))
    assert caught.value.code is code
    assert str(caught.value) == caught.value.message


def test_uncompressed_message_of_a_call_with_an_encoding() -> None:
    assert list(MessageReader(10, b"gzip").feed(message(b"x"))) == [b"x"]


def test_frame_is_what_the_reader_reads() -> None:
    assert frame(MESSAGES) == WIRE
    assert frame([]) == b""


@pytest.mark.parametrize("size", [700, 4_096, 10_000, 16_384, 100_000])
@pytest.mark.parametrize("read", [1, 3])
def test_messages_in_views_of_reads(size: int, read: int) -> None:
    messages = [bytes((number,)) * length for number, length in enumerate([5, 20_000, 0, 40_000, 511, 9_000])]
    wire = memoryview(frame(messages))
    viewing: list[MessageReader] = []
    held = Held()
    reader, got = MessageReader(100_000, held=held, viewing=viewing), []
    for number, start in enumerate(range(0, len(wire), size)):
        got += reader.feed(wire[start : start + size])
        assert held.octets == held.bulk == reader.held_bytes
        if number % read == read - 1:
            for each in viewing:
                each.own()
            viewing.clear()
            assert all(type(part) is bytes for part in reader._parts)
    assert got == messages
    assert all(type(each) is bytes for each in got)
    assert not reader.unfinished


def test_parts_in_views_are_copied_if_nobody_takes_note_of_them() -> None:
    reader = MessageReader(10_000)
    (whole,) = reader.feed(memoryview(frame([b"y" * 9_000])))
    assert (type(whole), whole) == (bytes, b"y" * 9_000)
    octets = memoryview(bytearray(frame([b"x" * 9_000])))
    assert list(reader.feed(octets[:5_000])) == []
    assert [type(part) for part in reader._parts] == [bytes]
    assert list(reader.feed(octets[5_000:])) == [b"x" * 9_000]


def test_copies_are_made_of_what_came_as_views_alone() -> None:
    viewing: list[MessageReader] = []
    reader = MessageReader(10_000, viewing=viewing)
    octets = frame([b"x" * 9_000])
    reader.feed(octets[:2_000])
    before = reader._parts[0]
    reader.feed(memoryview(octets)[2_000:4_000])
    reader.feed(octets[4_000:5_000])
    reader.feed(memoryview(octets)[5_000:8_000])
    assert viewing == [reader]
    reader.own()
    assert [len(part) for part in reader._parts] == [1_995, 6_000]
    assert reader._parts[0] is before
    reader.drop()
    reader.own()
    assert reader._parts == []


@pytest.mark.parametrize("octets", [bytes(5), b"\xff" * 5, bytes(range(5)), bytes(range(255, 250, -1))])
def test_a_prefix_read_by_hand(octets: bytes) -> None:
    assert read_prefix(octets, 0) == PREFIX.unpack(octets)
    assert read_prefix(b"xy" + octets + b"z", 2) == PREFIX.unpack(octets)
