"""The model servers behind the gateways of bench.published.gateway: they say whose a body is, how long and which.

One process, a port for each pool: python -m bench.published.gateway_pools POOL... (prints the ports).
"""

import sys
import zlib
from collections.abc import Callable

import uvloop

from bench.harness.upstream import Connection, Head, reply, serve, whole


def tale(pool: str, body: bytes) -> bytes:
    """Return what a pool answers to a body."""
    return b"%s %d %08x" % (pool.encode(), len(body), zlib.crc32(body))


def answer(pool: str) -> Callable[[Head, bytes], bytes]:
    """Return what answers requests to a pool."""
    last: tuple[bytes | None, bytes] = (None, b"")

    def answered(_head: Head, body: bytes) -> bytes:
        nonlocal last
        if body != last[0]:  # telling bodies apart must cost little beside what is measured
            last = body, reply(tale(pool, body), content_type="text/plain")
        return last[1]

    return answered


def pool(name: str) -> Callable[[], Connection]:
    """Return what makes connections of a pool."""
    return whole(answer(name))


if __name__ == "__main__":
    uvloop.run(serve({name: pool(name) for name in sys.argv[1:]}, sys.stdin.read))
