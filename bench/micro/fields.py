"""What decoding a field block costs, ours against the hpack library. Run: python -m bench.micro.fields

The blocks are those of ext_proc streams: one that comes again and again, and ones with a fresh traceparent each.
Medians of alternating rounds, in microseconds.
"""

import random
import statistics
import time
from collections.abc import Callable

import hpack
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman

from bbr.http2 import huffman
from bbr.http2.fields import FieldDecoder

ROUNDS = 9
BLOCKS = 3_000


def blocks(count: int, *, fresh: bool) -> list[bytes]:
    """Return a first block, which shrinks the table, and `count` more."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    numbers = random.Random(1)
    trace = ""
    made = []
    for number in range(count + 1):
        if fresh or not number:
            trace = f"00-{numbers.getrandbits(128):032x}-{numbers.getrandbits(64):016x}-01"
        fields = [(":method", "POST"), (":scheme", "http"), (":authority", "bbr")]
        fields += [(":path", "/envoy.service.ext_proc.v3.ExternalProcessor/Process")]
        fields += [("te", "trailers"), ("grpc-timeout", "10000m")]
        fields += [("content-type", "application/grpc"), ("x-envoy-internal", "true"), ("traceparent", trace)]
        made.append(encoder.encode(fields))
    return made


def ours(octets: list[bytes]) -> None:
    """Decode by our decoder."""
    decoder = FieldDecoder(0, 8192, 128)
    decoder.settings_acknowledged()
    for block in octets:
        assert not decoder.decode(block).request_fault


def theirs(octets: list[bytes]) -> None:
    """Decode by the library."""
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    for block in octets:
        decoder.decode(block, raw=True)


def each(call: Callable[[list[bytes]], object], octets: list[bytes]) -> float:
    """Return the mean time for one of `octets`, in microseconds."""
    begun = time.perf_counter()
    call(octets)
    return (time.perf_counter() - begun) / len(octets) * 1e6


def main() -> None:
    """Measure and print."""
    coder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
    coded = [coder.encode(f"00-{number:032x}-{number:016x}-01".encode()) for number in range(BLOCKS)]
    rows: dict[str, tuple[Callable[[list[bytes]], object], Callable[[list[bytes]], object], list[bytes]]] = {
        "the same block": (ours, theirs, blocks(BLOCKS, fresh=False)),
        "a fresh traceparent": (ours, theirs, blocks(BLOCKS, fresh=True)),
        "a traceparent's Huffman code": (
            lambda octets: all(map(huffman.decode, octets)),
            lambda octets: all(map(decode_huffman, octets)),
            coded,
        ),
    }
    print(f"{'':<30} {'ours us':>9} {'hpack us':>9} {'ratio':>6}")
    for name, (ours_, theirs_, octets) in rows.items():
        figures = [(each(ours_, octets), each(theirs_, octets)) for _ in range(ROUNDS)]
        mine, library = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"{name:<30} {mine:>9.2f} {library:>9.2f} {library / mine:>6.1f}")


if __name__ == "__main__":
    main()
