import gzip
import zlib

import brotli
import pytest

from bbr.reading.decoding import DecodingReading
from bbr.reading.document import DocumentReading
from bbr.reading.encodings import Limits
from bbr.reading.zstd import zstd
from bbr.refusal import Refusal
from tests.support.readings import cuts

BODY = b'{"model":"qwen","x":"' + bytes(range(48, 90)) * 3 + b'"} '
ENCODERS = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}


def reading(*codings: str, whole_bytes: int = 0, limits: Limits | None = None) -> DecodingReading:
    return DecodingReading(codings, limits or Limits(), DocumentReading(256, whole_bytes))


def work(read: DecodingReading) -> None:
    while read.pending:
        read.work()


def drive(read: DecodingReading) -> bytes:
    """Do all the work that there is, and return what was decoded."""
    work(read)
    return b"".join(read.taken())


@pytest.mark.parametrize("whole_bytes", [0, 1 << 20])
@pytest.mark.parametrize("coding", ENCODERS)
def test_every_split_gives_the_same_model_and_the_same_octets(coding: str, whole_bytes: int) -> None:
    for pieces in cuts(ENCODERS[coding](BODY)):
        read, decoded = reading(coding, whole_bytes=whole_bytes), b""
        for piece in pieces:
            read.feed(piece)
            decoded += drive(read)
            assert read.passable_bytes <= len(decoded)
        read.close()
        decoded += drive(read)
        assert (read.result(), decoded, read.taken()) == ("qwen", BODY, [])


def test_a_document_that_goes_on_is_not_held_by_the_reading() -> None:
    body = b'{"model":"qwen","x":"' + b"y" * 3_000_000 + b'"}'
    read = reading("gzip", limits=Limits(max_ratio=10_000))
    read.feed(gzip.compress(body))
    held = 0
    while read.pending:
        read.work()
        read.taken()
        held = max(held, read.memory_bytes)
    assert held < 150_000
    assert len(body) - 2 <= read.passable_bytes < len(body)


def test_what_is_released_is_only_decoded() -> None:
    body = b"".join(b"no JSON %d, " % number for number in range(20_000))
    encoded = gzip.compress(body)
    read = reading("gzip")
    read.feed(encoded[:9_000])
    with pytest.raises(Refusal):
        work(read)
    decoded = b"".join(read.taken())
    read.release()
    decoded += drive(read)
    read.feed(encoded[9_000:])
    read.close()
    assert decoded + drive(read) == body
    assert read.result() is None


def test_what_is_released_is_held_to_its_limits() -> None:
    read = reading("gzip", limits=Limits(max_decoded_bytes=1_000))
    read.release()
    assert not read.pending
    read.feed(gzip.compress(b"x" * 2_000))
    with pytest.raises(Refusal) as refused:
        drive(read)
    assert refused.value.reason == "decoded-too-large"
