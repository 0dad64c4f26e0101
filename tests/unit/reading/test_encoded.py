import gzip
import random
import zlib

import brotli
import pytest

from bbr.reading.document import DocumentReading
from bbr.reading.encoded import EncodedReading, FormWatch, Watch
from bbr.reading.encodings import Limits
from bbr.reading.forms import FormReading, MultipartReading
from bbr.reading.multipart import BoundaryWatch
from bbr.reading.zstd import zstd
from bbr.refusal import Refusal
from tests.support.readings import cuts, read, reason, work

BODY = b'{"model":"qwen","x":"' + bytes(range(48, 90)) * 3 + b'"} '
ENCODERS = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}


def document(*codings: str, whole_bytes: int = 0, limits: Limits | None = None, watch: Watch | None = None):
    return EncodedReading(codings, limits or Limits(), DocumentReading(256, whole_bytes), watch)


@pytest.mark.parametrize("whole_bytes", [0, 1 << 20])
@pytest.mark.parametrize("coding", ENCODERS)
def test_every_split_gives_the_same_model(coding: str, whole_bytes: int) -> None:
    for pieces in cuts(ENCODERS[coding](BODY)):
        assert read(document(coding, whole_bytes=whole_bytes), pieces) == "qwen"


def test_layers() -> None:
    encoded = gzip.compress(zstd.compress(BODY))
    assert read(document("zstd", "gzip"), [encoded]) == "qwen"


def test_what_may_pass_does_not_decode_to_the_closing_brace() -> None:
    body = b'{"model":"qwen","x":[' + b",".join(b"%d" % (number * 7919 % 10007) for number in range(30_000)) + b"]}"
    encoded = gzip.compress(body)
    passed: list[int] = []
    pieces = [encoded[start : start + 1000] for start in range(0, len(encoded), 1000)]
    assert read(document("gzip"), pieces, passed.append) == "qwen"
    assert max(passed) > len(encoded) // 2
    decoded = zlib.decompressobj(31).decompress(encoded[: max(passed)])
    assert body.startswith(decoded)
    assert len(decoded) < len(body) - 1


def test_nothing_passes_while_the_decoder_has_more_to_give() -> None:
    body = b'{"model":"qwen","x":"' + bytes(range(48, 90)) * 3_000 + b'"}'
    encoded = gzip.compress(body)
    reading = document("gzip")
    reading.feed(encoded)
    reading.close()
    for _ in range(1_000):
        decoded = zlib.decompressobj(31).decompress(encoded[: reading.passable_bytes])
        assert len(decoded) < len(body) - 1
        if not reading.pending:
            break
        reading.work()
    assert reading.result() == "qwen"


def test_what_is_held() -> None:
    reading = document("gzip", whole_bytes=1 << 20)
    reading.feed(b"")
    assert not reading.pending
    reading.feed(gzip.compress(BODY))
    assert reading.unread_bytes > 0
    work(reading)
    assert reading.unread_bytes == 0
    assert reading.memory_bytes >= len(BODY)  # decoded, and not read before its end


def test_faults() -> None:
    encoded = gzip.compress(BODY)
    assert reason(document("gzip"), encoded[:-9]) == "encoding-cut-off"
    assert reason(document("gzip"), b"\x1f\x8b" + b"!" * 40) == "encoding-corrupt"
    assert reason(document("br"), BODY) == "encoding-ambiguous"
    assert reason(document("gzip", limits=Limits(max_decoded_bytes=20)), encoded) == "decoded-too-large"
    blanks = gzip.compress(b" " * (64 << 20))
    with pytest.raises(Refusal) as caught:
        read(document("gzip"), [blanks])
    assert (caught.value.reason, caught.value.status) == ("decoded-ratio", 413)
    assert reason(document("gzip"), gzip.compress(b'{"model":')) == "invalid-json"
    assert read(document("gzip"), []) is None


def stored(body: bytes) -> bytes:
    """Return gzip data in which the body can be read as it stands."""
    return gzip.compress(body, 0)


def test_a_form_that_can_be_read_without_decoding() -> None:
    def form(watch: Watch | None) -> EncodedReading:
        return EncodedReading(("gzip",), Limits(max_members=1), FormReading(256, 0), watch)

    assert read(form(None), [stored(b"x=1&model=qwen&y=2")]) == "qwen"
    for body in (b"x=1&model=qwen&y=" + b"2" * 99, b"x=1&model[]=qwen&y=" + b"2" * 99, b"x=1&model=qwen"):
        assert reason(form(FormWatch(256)), stored(body)) == "encoding-ambiguous"
    compressed = gzip.compress(b"model=qwen&text=" + b"abc" * 999)
    assert read(form(FormWatch(256)), [compressed]) == "qwen"
    assert reason(form(FormWatch(256)), compressed * 2) == "encoding-members"


@pytest.mark.parametrize("octets", [b"x&model", b"x&model=", b"x&[model", b"\x1f\x8b&model=a\xff"])
def test_a_form_that_can_be_read_at_the_end(octets: bytes) -> None:
    watch = FormWatch(256)
    with pytest.raises(Refusal) as caught:  # noqa: PT012
        watch.feed(octets)
        watch.end()
    assert caught.value.reason == "encoding-ambiguous"


def test_a_multipart_body_whose_boundary_can_be_seen() -> None:
    body = b'--bound\r\nContent-Disposition: form-data; name="model"\r\n\r\nqwen\r\n--bound--\r\n'
    for watch, encoded, refused in (
        (BoundaryWatch(b"bound"), stored(body), True),
        (None, stored(body), False),
    ):
        reading = EncodedReading(("gzip",), Limits(), MultipartReading(b"bound", 256), watch)
        if refused:
            assert reason(reading, encoded) == "encoding-ambiguous"
        else:
            assert read(reading, [encoded]) == "qwen"


def test_a_list_is_told() -> None:
    reading = EncodedReading(("gzip",), Limits(), DocumentReading(256, 0))
    assert not reading.serde_differs
    reading.feed(gzip.compress(b"[1]"))
    work(reading)
    assert reading.serde_differs


def test_bytes_that_come_one_by_one_leave_few_marks() -> None:
    body = b'{"model":"qwen","x":"' + bytes(random.Random(1).choices(b"abcdefghijklmnop", k=40_000)) + b'"}'
    encoded = gzip.compress(body)
    reading = EncodedReading(("gzip",), Limits(), DocumentReading(256, 1 << 20))
    passed = 0
    for at in range(len(encoded)):
        reading.feed(encoded[at : at + 1])
        work(reading)
        # The inner document is read at its end, so that nothing of it may pass, and all marks are kept.
        assert reading.passable_bytes < 64
    assert len(reading._marks) <= len(encoded) // 1024 + 2
    reading = EncodedReading(("gzip",), Limits(), DocumentReading(256, 0))
    for at in range(len(encoded)):
        reading.feed(encoded[at : at + 1])
        work(reading)
        assert passed <= reading.passable_bytes <= at + 1
        passed = reading.passable_bytes
    assert passed > len(encoded) - 4_096
