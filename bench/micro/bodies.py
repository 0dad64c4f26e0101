"""What reading bodies costs, in the worst case too. Run: python -m bench.micro.bodies

Rates are CPU time of the process, the median of several rounds; `longest us` is the longest single call of `feed` or
`read` on pieces of 64 KiB, the best of the rounds, which is how long an event loop would stand still.
"""

import gzip
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import brotli

from bbr.reading.encodings import Decoder, Limits
from bbr.reading.form import FormReader
from bbr.reading.multipart import MultipartReader
from bbr.reading.templates import parse_templates
from bbr.reading.uri import model_in_path
from bbr.reading.zstd import zstd
from bbr.refusal import Refusal

ROUNDS = 5
PIECE = 64 << 10
MIB = 1 << 20
BOUNDARY = b"------------------------d74496d66958873e"
HEADER = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
DICE = random.Random(2046)
NOISE = DICE.randbytes(8 * MIB)
CHAT = b'{"model":"qwen","messages":[%s]}' % b",".join(
    b'{"role":"user","content":"%s"}'
    % b" ".join(DICE.choices([b"the", b"model", b"answers", b"\\n", b"\\u00e9"], k=400))
    for _ in range(3000)
)
UNLIMITED = Limits(max_decoded_bytes=1 << 40, max_ratio=1 << 40, max_members=1 << 40)


def pieces(octets: bytes) -> Iterator[bytes]:
    """Cut octets as a gateway might."""
    for at in range(0, len(octets), PIECE):
        yield octets[at : at + PIECE]


def multipart(octets: bytes, boundary: bytes = BOUNDARY) -> Iterator[Callable[[], object]]:
    """Give the calls that read octets as the content of a part."""
    reader = MultipartReader(boundary)
    reader.feed(b"--" + boundary + b"\r\n" + HEADER)
    for piece in pieces(octets):
        yield lambda piece=piece: reader.feed(piece)  # type: ignore[misc]


def resumed(reader: MultipartReader | FormReader, octets: bytes) -> Iterator[Callable[[], object]]:
    """Give the calls that read octets as a whole body."""
    for piece in pieces(octets):
        at = [0]
        while at[0] < len(piece):

            def call(piece: bytes = piece, at: list[int] = at) -> None:
                at[0] = reader.feed(piece, at[0])

            yield call


def decode(octets: bytes, *codings: str, limits: Limits = UNLIMITED) -> Iterator[Callable[[], object]]:
    """Give the calls that decode octets."""
    decoder = Decoder(codings, limits)
    for piece in pieces(octets):
        decoder.feed(piece)
        while decoder.pending:
            yield decoder.read


def cost(calls: Callable[[], Iterator[Callable[[], object]]]) -> tuple[float, float, str]:
    """Return CPU seconds of all calls, the longest call in us, and why they ended early, if they did."""
    seconds, longest, reason = [], [], ""
    for _ in range(ROUNDS):
        begun, most = time.process_time(), 0.0
        try:
            for call in calls():
                before = time.process_time()
                call()
                most = max(most, time.process_time() - before)
        except Refusal as refused:
            reason = refused.reason
        seconds.append(time.process_time() - begun)
        longest.append(most)
    return statistics.median(seconds), min(longest) * 1e6, reason


def row(name: str, octets: bytes, calls: Callable[[], Iterator[Callable[[], object]]]) -> None:
    """Measure and print a line."""
    seconds, longest, reason = cost(calls)
    rate = len(octets) / seconds / 1e6
    print(f"{name:<44} {len(octets):>9} {rate:>8.0f} {seconds * 1e3:>9.1f} {longest:>11.0f}  {reason}")


def empty_blocks(count: int) -> bytes:
    """Return a raw deflate stream of dynamic blocks of nothing, 11.5 octets each: they only build tables."""
    lengths = {18: 1, 0: 2, 1: 2}
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)

    def number(value: int, width: int) -> str:
        return format(value, f"0{width}b")[::-1]

    block = "0" + number(2, 2) + number(0, 5) + number(0, 5) + number(14, 4)
    block += "".join(number(lengths.get(symbol, 0), 3) for symbol in order)
    block += "0" + number(138 - 11, 7) + "0" + number(118 - 11, 7) + "11" + "10" + "0"
    bits = block * count + "1" + "10" + "0000000"
    bits += "0" * (-len(bits) % 8)
    return int(bits[::-1], 2).to_bytes(len(bits) // 8, "little")


def encoded(content: bytes) -> dict[str, bytes]:
    """Return content in each coding."""
    return {
        "gzip": gzip.compress(content, 6),
        "br": brotli.compress(content, quality=4),
        "zstd": zstd.compress(content),
    }


def rss() -> int:
    """Return the resident memory of this process, in octets."""
    fields = Path("/proc/self/status").read_text("ascii").split()
    return int(fields[fields.index("VmRSS:") + 1]) * 1024


def memory(coding: str) -> None:
    """Print what a decoder takes when its window is full, after 24 MiB."""
    noise = random.Random(1).randbytes(24 * MIB)
    options = {zstd.CompressionParameter.window_log: 23}
    body = {
        "gzip": lambda: gzip.compress(noise, 1),
        "br": lambda: brotli.compress(noise, quality=1, lgwin=22),
        "zstd": lambda: zstd.compress(noise, options=options),
    }[coding]()
    before = rss()
    held = []
    for _ in range(4):
        decoder = Decoder([coding], UNLIMITED)
        held.append(decoder)
        for piece in pieces(body[: len(body) - PIECE]):
            decoder.feed(piece)
            while decoder.pending:
                decoder.read()
    print(f"{coding:<6} {(rss() - before) / 4 / MIB:>8.1f} MiB; {held[0].memory_bytes / MIB:.1f} MiB told")


def main() -> None:
    """Measure and print."""
    print(f"{'body':<44} {'octets':>9} {'MB/s':>8} {'CPU ms':>9} {'longest us':>11}")
    row("multipart: a file of noise", NOISE, lambda: multipart(NOISE))
    dashes = b"-" * len(NOISE)
    row("multipart: a file of dashes", dashes, lambda: multipart(dashes))
    row("multipart: the boundary, nearly", dashes, lambda: multipart(dashes, b"-" * 67 + b"x"))
    small = (b"--" + BOUNDARY + b"\r\n" + HEADER + b"\r\n") * 1000
    row("multipart: 1,000 parts", small, lambda: resumed(MultipartReader(BOUNDARY), small))
    text = b"prompt=hello+world%20and+all&n=1&" * 30_000
    row("form: text", text, lambda: resumed(FormReader(), text))
    separators = b"&" * MIB
    row("form: nothing but separators", separators, lambda: resumed(FormReader(), separators))

    for coding, body in encoded(CHAT).items():
        row(f"{coding}: a chat of {len(CHAT)} octets", body, lambda body=body, coding=coding: decode(body, coding))  # type: ignore[misc]
    for coding, body in encoded(NOISE).items():
        row(f"{coding}: noise", body, lambda body=body, coding=coding: decode(body, coding))  # type: ignore[misc]
    blocks = empty_blocks(100_000)
    row("deflate: blocks of nothing but tables", blocks, lambda: decode(blocks, "deflate"))
    row(
        "gzip: 1,024 empty members, then refused",
        b"",
        lambda: decode(gzip.compress(b"") * 2000, "gzip", limits=Limits()),
    )
    row(
        "zstd: 1,024 empty frames, then refused",
        b"",
        lambda: decode(zstd.compress(b"") * 2000, "zstd", limits=Limits()),
    )

    zeros = bytes(256 * MIB)
    bombs = encoded(zeros)
    for coding, body in bombs.items():
        row(f"bomb: {coding}", body, lambda body=body, coding=coding: decode(body, coding, limits=Limits()))  # type: ignore[misc]
    twice = gzip.compress(bombs["gzip"])
    row("bomb: gzip in gzip", twice, lambda: decode(twice, "gzip", "gzip", limits=Limits()))
    noisy = NOISE[: 400 << 10] + zeros
    for coding, body in encoded(noisy).items():
        name = f"bomb: {coding}, behind 400 KiB of noise"
        row(name, body, lambda body=body, coding=coding: decode(body, coding, limits=Limits()))  # type: ignore[misc]

    templates = parse_templates("/openai/deployments/{model}/** /**/models/{model}:* /model/{model}/invoke")
    for name, path in (
        ("path: plain", b"/v1/chat/completions"),
        ("path: 1 KiB of slashes", b"/" * 1024),
        ("path: 1 KiB of everything", (b"/models/%41\\;/..//." * 90)[:1024]),
    ):
        row(name, path, lambda path=path: iter([lambda: model_in_path(path, templates)]))  # type: ignore[misc]

    print("\nresident memory of a decoder with a full window")
    for coding in bombs:
        subprocess.run([sys.executable, "-m", "bench.micro.bodies", coding], check=True)


if __name__ == "__main__":
    memory(sys.argv[1]) if len(sys.argv) > 1 else main()
