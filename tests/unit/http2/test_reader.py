import pytest

from bbr.http2.faults import ConnectionFault
from bbr.http2.held import Held
from bbr.http2.reader import FrameReader
from bbr.pieces import VIEWED_BYTES
from bench.harness.h2_frames import CONTINUATION, DATA, PING, PING_FRAME, PREFACE, data, frame, settings

SENT = PREFACE + settings((1, 0)) + data(1, b"abc") + frame(0xFA, 3, 5, b"skipped") + PING_FRAME + frame(0xFB) + data(3)
FRAMES = [
    (4, 0, 0, b"\x00\x01\x00\x00\x00\x00"),
    (DATA, 0, 1, b"abc"),
    (0xFA, 3, 5, b""),
    (PING, 0, 0, b"pingping"),
    (0xFB, 0, 0, b""),
    (DATA, 0, 3, b""),
]


@pytest.mark.parametrize("size", [*range(1, 40), 1000])
def test_any_reads_give_the_same_frames(size):
    reader = FrameReader()
    found = [each for start in range(0, len(SENT), size) for each in reader.feed(SENT[start : start + size])]
    assert found == FRAMES
    assert reader.preface_received


def test_empty_reads():
    reader = FrameReader()
    found = []
    for place in range(len(SENT)):
        assert list(reader.feed(b"")) == []
        found += reader.feed(SENT[place : place + 1])
    assert found == FRAMES


@pytest.mark.parametrize("size", range(24))
def test_a_preface_that_is_not_complete(size):
    reader = FrameReader()
    assert list(reader.feed(PREFACE[:size])) == []
    assert not reader.preface_received


@pytest.mark.parametrize("place", range(24))
def test_a_wrong_preface_is_refused_at_its_first_wrong_octet(place):
    reader = FrameReader()
    for octet in PREFACE[:place]:
        assert list(reader.feed(bytes([octet]))) == []
    with pytest.raises(ConnectionFault, match="preface"):
        list(reader.feed(b"\x00"))


@pytest.mark.parametrize("kind", [DATA, CONTINUATION, 0xFA])
def test_a_length_is_refused_when_it_is_known(kind):
    reader = FrameReader()
    head = frame(kind, 0, 1, bytes(16_385))[:9]
    assert list(reader.feed(PREFACE + head[:8])) == []
    with pytest.raises(ConnectionFault, match="frame-too-long"):
        list(reader.feed(head[8:]))


def test_the_reserved_bit_is_not_seen():
    reader = FrameReader()
    assert list(reader.feed(PREFACE + frame(DATA, 0, 1 | 1 << 31) + frame(0xFA, 0, 1 << 31))) == [
        (DATA, 0, 1, b""),
        (0xFA, 0, 0, b""),
    ]


def test_frames_before_a_fault_are_given():
    reader = FrameReader()
    given = reader.feed(PREFACE + data(1, b"x") + frame(DATA, 0, 1, bytes(16_385)))
    assert next(given) == (DATA, 0, 1, b"x")
    with pytest.raises(ConnectionFault):
        next(given)


def test_one_unfinished_frame_is_held_and_no_more():
    reader = FrameReader()
    list(reader.feed(PREFACE))
    whole = data(1, bytes(16_384))
    assert list(reader.feed(whole + whole[:-1])) == [(DATA, 0, 1, bytes(16_384))]
    assert reader._held_bytes == len(whole) - 1
    assert list(reader.feed(whole[-1:])) == [(DATA, 0, 1, bytes(16_384))]
    assert reader._parts == []
    list(reader.feed(frame(0xFA, 0, 0, bytes(16_384))[:-1]))
    assert reader._parts == []


def test_the_parts_of_a_frame_are_joined_once_however_many_and_tiny_ones_to_each_other():
    held = Held()
    reader = FrameReader(held)
    octets = PREFACE + b"\x00\x04\x00\x00\x00\x00\x00\x00\x01"  # DATA of 1,024 octets
    list(reader.feed(octets))
    for count in range(1, 1024):
        assert list(reader.feed(b"x")) == []
        assert (len(reader._parts), held.octets) == (1, 9 + count)
    assert list(reader.feed(b"x")) == [(0, 0, 1, b"x" * 1024)]
    assert (reader._parts, held.octets) == ([], 0)
    octets = b"\x00\x40\x00\x00\x00\x00\x00\x00\x01" + bytes(16_384)
    for start in range(0, len(octets) - 1000, 1000):
        assert list(reader.feed(octets[start : start + 1000])) == []
        assert len(reader._parts) == start // 1000 + 1
    assert list(reader.feed(octets[start + 1000 :])) == [(0, 0, 1, bytes(16_384))]
    assert (reader._parts, held.octets) == ([], 0)


def test_what_is_unfinished_is_the_same_from_its_header_on():
    reader = FrameReader()
    list(reader.feed(PREFACE))
    assert reader.unfinished is None
    octets = data(1, b"abc")
    seen = []
    for each in octets[:-1]:
        assert list(reader.feed(bytes([each]))) == []
        assert reader.unfinished is not None
        seen.append(reader.unfinished)
    assert len({id(each) for each in seen}) == 2  # a header, and what follows it
    assert list(reader.feed(octets[-1:] + octets[:5])) == [(DATA, 0, 1, b"abc")]
    assert reader.unfinished is not None
    assert all(reader.unfinished is not each for each in seen)
    list(reader.feed(octets[5:]))
    assert reader.unfinished is None


def test_what_is_fed_before_all_was_given_comes_after_it():
    reader = FrameReader()
    octets = PREFACE + data(1, b"a") + data(1, b"b")
    first, later = reader.feed(octets[:-5]), reader.feed_later(octets[-5:])
    assert [*first, *later] == [(DATA, 0, 1, b"a"), (DATA, 0, 1, b"b")]


@pytest.mark.parametrize("size", [1 << 20, 20_000, 7_000])
def test_long_data_comes_as_views_of_the_read(size):
    reader = FrameReader()
    long = bytes(range(256)) * 64
    sent = (
        PREFACE + data(1, long) + data(3, long[:VIEWED_BYTES]) + data(3, long[1:VIEWED_BYTES]) + data(1, long, end=True)
    )
    sent += frame(CONTINUATION, 0, 1, long)
    found = [each for start in range(0, len(sent), size) for each in reader.feed(sent[start : start + size])]
    assert [(kind, type(payload)) for kind, _, _, payload in found] == [
        (DATA, memoryview),
        (DATA, memoryview),
        (DATA, bytes),
        (DATA, memoryview),
        (CONTINUATION, bytes),
    ]
    assert [each[3] for each in found] == [long, long[:VIEWED_BYTES], long[1:VIEWED_BYTES], long, long]
