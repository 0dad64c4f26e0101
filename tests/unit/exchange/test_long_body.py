import random

import pytest

from bbr.exchange.long_body import LongBody
from bbr.exchange.replies import MAX_BODY_CHUNK_BYTES
from bbr.reading.document import DocumentReading
from bbr.reading.several import Unread

DOCUMENT = b'{"model":"qwen","x":"' + b"y" * 300_000 + b'"}'


def body(*, kept: bool = True) -> LongBody:
    return LongBody(DocumentReading(256, 0), kept=kept)


def drive(long: LongBody) -> bytes:
    """Read and take all that there is, and return it."""
    taken = b""
    while long.reading or long.takeable:
        if long.reading and long.work():
            long.open()
        for parts, size in long.take():
            chunk = b"".join(parts)
            assert 0 < len(chunk) == size <= MAX_BODY_CHUNK_BYTES
            taken += chunk
    return taken


@pytest.mark.parametrize("step", [1_000, 16_384, 62_000, 100_000, 1 << 20])
def test_every_octet_comes_back_and_the_last_not_before_the_end(step: int) -> None:
    long = body()
    back = b""
    for start in range(0, len(DOCUMENT), step):
        long.feed(DOCUMENT[start : start + step])
        back += drive(long)
        assert DOCUMENT.startswith(back)
    assert len(back) < len(DOCUMENT)
    assert long.held_bytes == len(DOCUMENT) - len(back)
    long.close()
    back += drive(long)
    assert back == DOCUMENT
    assert long.result() == "qwen"
    assert (long.empty, long.held_bytes, long.takeable) == (True, 0, False)


def test_what_is_open_is_read_no_further() -> None:
    long = body()
    long.feed(b"no JSON")
    long.open()
    long.feed(b", and more")
    long.close()
    assert not long.reading
    assert (long.held_bytes, drive(long), long.held_bytes) == (17, b"no JSON, and more", 0)


def test_pieces_of_a_few_octets_cost_little_more_than_their_octets() -> None:
    long = body()
    rng = random.Random(1)
    sent = b""
    while len(sent) < 100_000:
        piece = bytes(rng.randrange(1, 8))
        sent += piece
        long.feed(piece)
        long.feed(b"")
    assert len(long._pieces) < 100
    assert max(map(len, long._pieces)) < (4 << 10) + 8  # to join costs a copy of what is joined
    long.open()
    assert drive(long) == sent


def test_a_body_that_need_not_go_back_is_kept_while_it_is_unread() -> None:
    long = body(kept=False)
    long.feed(DOCUMENT)
    assert long.held_bytes == len(DOCUMENT)
    while long.reading:
        long.work()
    assert (long.model, long.held_bytes, long.empty) == ("qwen", 0, True)
    long.close()
    assert long.work()
    assert long.work()  # nothing is left to do


@pytest.mark.parametrize("kept", [True, False])
def test_views_are_kept_as_they_are_and_copied_for_who_takes_none(kept: bool) -> None:
    long = body(kept=kept)
    for start in range(0, len(DOCUMENT), 16_384):
        long.feed(memoryview(DOCUMENT)[start : start + 16_384])
    assert {type(piece) for piece in long._pieces} == ({memoryview} if kept else set())
    long.close()
    assert drive(long) == (DOCUMENT if kept else b"")
    assert long.result() == "qwen"
    other = LongBody(Unread(), kept=True)
    other.feed(memoryview(DOCUMENT))
    (piece,) = other._pieces
    assert type(piece) is bytes
