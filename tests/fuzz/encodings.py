"""Any octets as an encoded body: refused, or decoded alike however they are cut, and never to more than is allowed.

The first octet of an input says which codings: one in each three bits, from below.
"""

from bbr.reading.encodings import Limits
from tests.support.bodies import decode, outcome, pieces

CODINGS = ("", "gzip", "deflate", "br", "zstd", "gzip", "deflate", "br")
LIMITS = Limits(max_decoded_bytes=1 << 20, free_bytes=64 << 10, burst_bytes=256 << 10, max_members=20)


def check(octets: bytes) -> None:
    first, body = octets[0] if octets else 0, octets[1:]
    codings = [CODINGS[first >> 3 & 7], CODINGS[first & 7]]
    layers = [coding for coding in codings if coding] or ["br"]
    kind, whole = outcome(decode, [body], layers, LIMITS)
    for size in (1, 9):
        again, pieced = outcome(decode, pieces(body, size), layers, LIMITS)
        assert again == kind
        if kind == "model":  # what is named of several faults may differ
            assert pieced == whole
    if kind == "model":
        assert isinstance(whole, bytes)
        assert len(whole) <= LIMITS.max_decoded_bytes
