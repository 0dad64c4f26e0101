import functools
import gzip
import random
import subprocess
import sys
import zlib
from pathlib import Path

import brotli
import pytest

from bbr.reading import encodings
from bbr.reading.encodings import MAX_LAYERS, STEP_BYTES, Decoder, Limits, parse
from bbr.reading.zstd import zstd
from bbr.refusal import Refusal
from tests.support.bodies import decoded, pieces

SKIPPABLE = b"\x50\x2a\x4d\x18\x05\x00\x00\x00abcde"


def raw_deflate(octets: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(octets) + deflate.flush()


def with_window(octets: bytes, log: int) -> bytes:
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: log})
    return compressor.compress(octets) + compressor.flush()


ENCODE = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw deflate": raw_deflate,
    "br": functools.partial(brotli.compress, quality=5),
    "zstd": zstd.compress,
}
SIZES = (1, 9, 5000, 1 << 20)
DATA = {
    "chat": b'{"model":"qwen","messages":[{"role":"user","content":"hello"}]}',
    "nothing": b"",
    "noise": random.Random(1).randbytes(12_000),
    "zeros": bytes(70_000),
    "text": (random.Random(2).randbytes(6_000).hex() * 3).encode(),
}

# Few bytes of which decoders make as much as they may of anything: a frame of zstd with 128 KiB of one byte twice.
FULL_OF = {
    "zstd": bytes.fromhex("28b52ffd0068 02001061 02001061"),
    "br": brotli.compress(b"a" * 200_000)[:-1],
    "gzip": gzip.compress(b"a" * 200_000)[:-9],
}
# Prints what decoders say that they hold, and what the process takes for each.
MEASURE = """
import resource, sys
from pathlib import Path
from bbr.reading.encodings import Decoder
from bbr.system import allocator

def decoder():
    made = Decoder([sys.argv[1]])
    made.feed(bytes.fromhex(sys.argv[2]))
    while made.pending:
        made.read()
    return made

def used():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

allocator.keep({})
kept = [decoder()]
before = used()
kept += [decoder() for _ in range(300)]
print(kept[0].memory_bytes, (used() - before) // 300)
"""


def decode(octets: bytes, *codings: str, size: int = 1 << 20, limits: Limits | None = None) -> bytes:
    return b"".join(decoded(pieces(octets, size), codings, limits))


def refused(octets: bytes, *codings: str, size: int = 1 << 20, limits: Limits | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decode(octets, *codings, size=size, limits=limits)
    return caught.value


def fed_only(octets: bytes, size: int) -> Refusal:
    """Return the refusal of octets that no decoder has seen yet."""
    decoder = Decoder(["br"])
    for piece in pieces(octets, size):
        try:
            decoder.feed(piece)
        except Refusal as error:
            return error
    raise AssertionError("it was not refused")


class TestParse:
    @pytest.mark.parametrize(
        ("values", "codings"),
        [
            ([], ()),
            ([b""], ()),
            ([b"identity"], ()),
            ([b"gzip"], ("gzip",)),
            ([b"GZip"], ("gzip",)),
            ([b"x-gzip"], ("gzip",)),
            ([b" br ,\tzstd"], ("br", "zstd")),
            ([b"deflate", b"identity, ,gzip,"], ("deflate", "gzip")),
        ],
    )
    def test_codings(self, values: list[bytes], codings: tuple[str, ...]) -> None:
        assert parse(values) == codings

    @pytest.mark.parametrize("value", [b"compress", b"gzip;q=1", b"x-br", b"aws-chunked", b"gzip br", b"\xff"])
    def test_unknown(self, value: bytes) -> None:
        with pytest.raises(Refusal) as caught:
            parse([b"gzip", value])
        assert (caught.value.status, caught.value.reason) == (415, "encoding-unknown")
        assert caught.value.headers == (("accept-encoding", b"gzip, deflate, br, zstd"),)

    def test_too_many(self) -> None:
        assert parse([b"gzip"] * MAX_LAYERS + [b"identity"]) == ("gzip",) * MAX_LAYERS
        with pytest.raises(Refusal) as caught:
            parse([b"gzip"] * (MAX_LAYERS + 1))
        assert (caught.value.status, caught.value.reason) == (415, "encoding-layers")
        assert caught.value.headers


@pytest.mark.parametrize("values", [[b"," * 257], [b"gzip"] * 65])
def test_long_fields_are_refused(values: list[bytes]) -> None:
    with pytest.raises(Refusal) as caught:
        parse(values)
    assert (caught.value.status, caught.value.reason) == (415, "encoding-unknown")


class TestDecoded:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("data", DATA.values(), ids=DATA)
    @pytest.mark.parametrize("coding", ENCODE)
    def test_one_coding(self, coding: str, data: bytes, size: int) -> None:
        assert decode(ENCODE[coding](data), coding.removeprefix("raw "), size=size) == data

    @pytest.mark.parametrize("size", SIZES)
    def test_stacked(self, size: int) -> None:
        body = zstd.compress(ENCODE["br"](gzip.compress(DATA["text"])))
        assert decode(body, "gzip", "br", "zstd", size=size) == DATA["text"]

    @pytest.mark.parametrize("size", SIZES)
    def test_gzip_members(self, size: int) -> None:
        assert (
            decode(gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two"), "gzip", size=size) == b"onetwo"
        )

    @pytest.mark.parametrize("size", SIZES)
    def test_zstd_frames(self, size: int) -> None:
        body = SKIPPABLE + zstd.compress(b"one") + SKIPPABLE + zstd.compress(b"two") + SKIPPABLE
        assert decode(body, "zstd", size=size) == b"onetwo"

    def test_no_body(self) -> None:
        assert decode(b"", "gzip", "zstd") == b""
        decoder = Decoder(["br"])
        decoder.feed(b"")
        assert not decoder.pending
        assert decoder.read() == b""

    def test_fed_before_it_was_read(self) -> None:
        body = gzip.compress(DATA["noise"])
        decoder = Decoder(["gzip"])
        out = []
        for piece in pieces(body, 3000):
            decoder.feed(piece)
            out.append(decoder.read())
        while decoder.pending:
            out.append(decoder.read())
        decoder.end()
        assert b"".join(out) == DATA["noise"]

    def test_one_step_takes_no_more_than_it_may(self) -> None:
        decoder = Decoder(["gzip"])
        decoder.feed(gzip.compress(DATA["noise"]))
        assert 0 < len(decoder.read()) <= STEP_BYTES

    def test_largest_window_of_zstd(self) -> None:
        assert decode(with_window(b"x" * 100, 23), "zstd") == b"x" * 100

    def test_largest_window_of_brotli(self) -> None:
        for log in range(10, 23):
            assert decode(brotli.compress(DATA["noise"], lgwin=log), "br") == DATA["noise"]


class TestRefused:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("coding", ENCODE)
    def test_cut_off(self, coding: str, size: int) -> None:
        body = ENCODE[coding](DATA["chat"])
        error = refused(body[:-1], coding.removeprefix("raw "), size=size)
        assert (error.status, error.reason) == (400, "encoding-cut-off")

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("rest", [b"\x00", b"{}", b"\x1f\x8b\x07", b"garbage!"])
    @pytest.mark.parametrize("coding", ENCODE)
    def test_something_behind_the_end(self, coding: str, rest: bytes, size: int) -> None:
        error = refused(ENCODE[coding](DATA["chat"]) + rest, coding.removeprefix("raw "), size=size)
        # Of zstd's next frame and gzip's next member there may be too little to know better.
        assert (error.status, error.reason) in {(400, "encoding-corrupt"), (400, "encoding-cut-off")}

    def test_two_streams_of_a_coding_that_has_but_one(self) -> None:
        for coding in ("deflate", "br"):
            assert refused(ENCODE[coding](b"one") * 2, coding, size=1).reason == "encoding-corrupt"

    @pytest.mark.parametrize("coding", ENCODE)
    def test_spoilt(self, coding: str) -> None:
        body = bytearray(ENCODE[coding](DATA["text"]))
        body[len(body) // 2 : len(body) // 2 + 64] = bytes(64)
        if coding in ("raw deflate", "br", "zstd"):  # they have no checksum here
            body.append(0)
        error = refused(bytes(body), coding.removeprefix("raw "))
        assert error.reason in {"encoding-corrupt", "encoding-cut-off"}

    @pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
    def test_not_encoded_at_all(self, coding: str) -> None:
        assert refused(b"\xffplain text", coding).reason in {"encoding-corrupt", "encoding-cut-off"}

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize(
        "body",
        [
            b'{"model":"a"}',
            b' \r\n\t{"model":"a"}',
            b'\xef\xbb\xbf{"model":"a"}',
            '{"model":"a"}'.encode("utf-16"),
            '{"model":"a"}'.encode("utf-16-be"),
            b"\xfe\xff" + '{"model":"a"}'.encode("utf-16-be"),
            '{"model":"a"}'.encode("utf-32"),
            b" " * 200 + b'{"model":"a"}',
            b" " * 5000 + b'\x0b{"model":"a"}',
            b'\x0b\x16#\n{"x":1,"\\u006dodel":"a"}',
        ],
    )
    def test_could_be_json_as_it_stands(self, body: bytes, size: int) -> None:
        assert refused(body, "br", size=size).reason in {"encoding-ambiguous", "encoding-corrupt"}
        assert fed_only(body, size).reason == "encoding-ambiguous"

    def test_brotli_that_is_json_as_well(self) -> None:
        # A blank, then metadata blocks that hold the document: a decoder passes over them.
        assert refused(b'\x09{"model":"a"}', "br").reason == "encoding-ambiguous"

    @pytest.mark.parametrize("size", SIZES)
    def test_brotli_that_is_json_for_who_passes_over_its_header(self, size: int) -> None:
        # An empty metadata block, one that hides a document, and the document itself, as it stands: cJSON reads B.
        body = b'\x0c\x16\x03{"model":"B"}' + b'`\0\x08{"model":"A"}' + b"\x03"
        assert brotli.decompress(body) == b'{"model":"A"}'
        assert refused(body, "br", size=size).reason == "encoding-ambiguous"

    @pytest.mark.parametrize("size", SIZES)
    def test_a_length_that_is_a_brace(self, size: int) -> None:
        text = b'{"model":"a","x":"%b"}' % random.Random(1).randbytes(52).hex().encode()
        body = brotli.compress(text)
        assert body.startswith(b"\x1b{")
        assert decode(body, "br", size=size) == text

    @pytest.mark.parametrize("size", SIZES)
    def test_zlib_that_is_raw_deflate_as_well(self, size: int) -> None:
        # A window of 4 KiB, and a stored block. For a raw decoder the header is the beginning of a stored block, which
        # ends earlier: what follows there is a last block, of other text.
        start = b"x=" + b"a" * (0x200D - 2 - 2)
        hidden = raw_deflate(b"&model=B")
        start += hidden + b"a" * (0xDFF2 - len(start) - len(hidden))
        end = b"&model=A"
        body = b"\x48\x0d\x20\xf2\xdf\x0d\x20" + start + raw_deflate(end)
        body += zlib.adler32(start + end).to_bytes(4, "big")
        assert zlib.decompress(body) == start + end
        assert zlib.decompressobj(-zlib.MAX_WBITS).decompress(body).endswith(b"aa&model=B")
        assert refused(body, "deflate", size=size).reason == "encoding-ambiguous"
        assert refused(gzip.compress(body), "deflate", "gzip", size=size).reason == "encoding-ambiguous"

    def test_between_two_layers_as_well(self) -> None:
        assert refused(gzip.compress(b'\x09{"model":"a"}'), "br", "gzip").reason == "encoding-ambiguous"

    def test_window_too_large(self) -> None:
        for log in (24, 27):
            assert refused(with_window(b"x" * 100, log), "zstd").reason == "encoding-corrupt"

    def test_large_windows_of_brotli(self) -> None:
        for log in (23, 24):
            assert refused(brotli.compress(DATA["noise"], lgwin=log), "br").reason == "encoding-corrupt"
        assert refused(b"\x11\x1e" + bytes(20), "br").reason == "encoding-corrupt"

    def test_zlib_with_a_dictionary(self) -> None:
        deflate = zlib.compressobj(zdict=b"hello world")
        body = deflate.compress(b"hello world") + deflate.flush()
        assert refused(body, "deflate").reason == "encoding-corrupt"

    def test_inner_layer_missing(self) -> None:
        assert refused(gzip.compress(b""), "zstd", "gzip").reason == "encoding-cut-off"
        assert refused(gzip.compress(b"no zstd"), "zstd", "gzip").reason == "encoding-corrupt"


class TestLimits:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
    def test_ratio(self, coding: str, size: int) -> None:
        error = refused(ENCODE[coding](bytes(8 << 20)), coding, size=size)
        assert (error.status, error.reason) == (413, "decoded-ratio")

    def test_what_is_free_has_no_ratio(self) -> None:
        limits = Limits(max_ratio=1)
        free = limits.free_bytes + STEP_BYTES
        assert len(decode(gzip.compress(bytes(free)), "gzip", limits=limits)) == free
        assert refused(gzip.compress(bytes(free + 1)), "gzip", limits=limits).reason == "decoded-ratio"

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
    def test_bomb_behind_noise(self, coding: str, size: int) -> None:
        limits = Limits(burst_bytes=1 << 20)
        body = ENCODE[coding](DATA["noise"] + bytes(900 << 10) + DATA["noise"])
        assert len(decode(body, coding, size=size, limits=limits)) == 24_000 + (900 << 10)
        body = ENCODE[coding](DATA["noise"] + bytes(2 << 20))
        assert decode(body, coding, size=size)
        assert refused(body, coding, size=size, limits=limits).reason == "decoded-ratio"

    @pytest.mark.parametrize("size", SIZES)
    def test_bomb_in_a_bomb(self, size: int) -> None:
        body = gzip.compress(gzip.compress(bytes(64 << 20)))
        assert len(body) < 1000
        assert refused(body, "gzip", "gzip", size=size).reason == "decoded-ratio"

    def test_growth_that_a_layer_takes_back(self) -> None:
        empty = gzip.compress(gzip.compress(b"") * 500_000)
        assert refused(empty, "gzip", "gzip", limits=Limits(max_members=1 << 30)).reason == "decoded-ratio"

    @pytest.mark.parametrize("size", SIZES)
    def test_size(self, size: int) -> None:
        limits = Limits(max_decoded_bytes=12_000)
        assert decode(gzip.compress(DATA["noise"]), "gzip", size=size, limits=limits) == DATA["noise"]
        error = refused(gzip.compress(DATA["noise"] + b"x"), "gzip", size=size, limits=limits)
        assert (error.status, error.reason) == (413, "decoded-too-large")

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("coding", ["gzip", "zstd"])
    def test_members(self, coding: str, size: int) -> None:
        limits = Limits(max_members=3)
        assert decode(ENCODE[coding](b"a") * 3, coding, size=size, limits=limits) == b"aaa"
        error = refused(ENCODE[coding](b"a") * 4, coding, size=size, limits=limits)
        assert (error.status, error.reason) == (413, "encoding-members")

    @pytest.mark.interpreted("asks classes for their attributes")
    def test_memory_is_told(self) -> None:
        decoder = Decoder(["gzip", "zstd"])
        assert decoder.memory_bytes == 0
        body = zstd.compress(gzip.compress(DATA["noise"]))
        decoder.feed(body)
        assert decoder.memory_bytes == len(body)
        while decoder.pending:
            decoder.read()
            assert decoder.memory_bytes < 2 * len(body) + (700 << 10)
        members = (encodings._Brotli, encodings._Zstd)
        whole = sum(member.window_bytes + member.block_bytes + member.state_bytes for member in members)
        assert whole < 15 << 20

    @pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux for the memory in use")
    @pytest.mark.parametrize("coding", FULL_OF)
    def test_memory_is_not_more_than_is_told(self, coding: str) -> None:
        # A process of its own: what another test has freed would be used again, and not be seen.
        body = FULL_OF[coding]
        command = [sys.executable, "-c", MEASURE, coding, body.hex()]
        told, used = map(int, subprocess.run(command, check=True, capture_output=True).stdout.split())
        assert 8_000 < used < told + 8_000
