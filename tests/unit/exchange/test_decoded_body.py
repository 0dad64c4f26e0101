import gzip
import random

import pytest

from bbr.exchange.decoded_body import DecodedBody
from bbr.exchange.replies import MAX_BODY_CHUNK_BYTES
from bbr.reading.decoding import DecodingReading
from bbr.reading.document import DocumentReading
from bbr.reading.encodings import Limits
from bbr.refusal import Refusal

NOISE = random.Random(7).randbytes(200_000).hex().encode()
DOCUMENT = b'{"model":"qwen","x":"' + NOISE + b'"}'
ENCODED = gzip.compress(DOCUMENT, 1)


def body() -> DecodedBody:
    return DecodedBody(DecodingReading(("gzip",), Limits(), DocumentReading(256, 0)))


def read_all(long: DecodedBody) -> None:
    while long.reading:
        long.work()


def drive(long: DecodedBody) -> bytes:
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


@pytest.mark.parametrize("step", [1_000, 16_384, 62_000, 1 << 20])
def test_every_decoded_octet_goes_on_and_the_last_not_before_the_end(step: int) -> None:
    long, back = body(), b""
    for start in range(0, len(ENCODED), step):
        long.feed(ENCODED[start : start + step])
        back += drive(long)
        assert DOCUMENT.startswith(back)
        assert long.held_bytes < 200_000  # a piece that is not all scanned, and the decoder
    assert len(back) < len(DOCUMENT)
    long.close()
    back += drive(long)
    assert (back, long.size, long.result()) == (DOCUMENT, len(DOCUMENT), "qwen")
    assert (long.read, long.empty, long.takeable) == (True, True, False)


def test_the_whole_of_it_for_a_gateway_that_holds_the_body() -> None:
    long = body()
    long.feed(ENCODED)
    assert long.whole is None
    long.close()
    while long.reading:
        assert long.whole is None
        long.work()
    assert long.whole == DOCUMENT
    assert long.held_bytes >= len(DOCUMENT)
    long.open()
    long.take()
    assert long.whole is None  # some of it has gone on


def test_there_is_no_whole_of_what_is_faulty() -> None:
    long = body()
    long.feed(gzip.compress(b"no JSON"))
    long.close()
    with pytest.raises(Refusal):
        read_all(long)
    assert long.whole is None


def test_what_may_pass_in_spite_of_a_fault_is_decoded_to_its_end() -> None:
    text = b"".join(b"no JSON %d, " % number for number in range(30_000))
    encoded = gzip.compress(text)
    long = body()
    long.feed(encoded[:9_000])
    with pytest.raises(Refusal):
        read_all(long)
    long.open()
    assert (long.released, long.read) == (True, False)
    back = drive(long)
    long.feed(encoded[9_000:])
    back += drive(long)
    assert not long.read
    long.open()
    long.close()
    assert back + drive(long) == text
    assert long.read
