"""Hold the reader of the two common messages against protobuf: python -m tests.differential.messages [--count N].

Random messages as gateways encode them, of all sizes at which a number gets another byte, and the same with octets
changed, cut out, put in, doubled, and two joined. Those that are not changed must be read by hand.
"""

import argparse
import random
from collections import Counter

from bbr.pb.ext_proc_pb2 import HeaderMap, HeaderValue, HttpBody, HttpHeaders, ProcessingRequest, ProtocolConfiguration
from tests.fuzz.wire import check

NAMES = (
    *(":path", ":method", ":authority", "content-type", "content-length", "content-encoding", "content-digest"),
    *("upgrade", "user-agent", "x-request-id", "x-gateway-model-name", "x_gateway_model_name", "cookie", "x", ""),
)
# Around what a number of one, two and three bytes can say.
EDGES = tuple(edge + shift for edge in (0, 127, 128, 16_383, 16_384) for shift in range(-12, 13) if edge + shift >= 0)
CONFIGS = (0, 1, 2, 3, 4, 5, 6, 99, -1)
# Larger ones cost only time.
EDGES_OFTEN = tuple(edge for edge in EDGES if edge < 1_000)


def size(chance: random.Random) -> int:
    """Return how long something is: often around a size where its number gets another byte."""
    return chance.choice(EDGES) if chance.random() < 0.03 else chance.choice(EDGES_OFTEN)


def opening(chance: random.Random) -> bytes:
    """Return a request_headers message, perhaps the first of a stream."""
    count = chance.choice((126, 127, 128)) if chance.random() < 0.01 else chance.randrange(14)
    fields = []
    for _ in range(count):
        value = chance.randbytes(size(chance) if chance.random() < 0.2 else chance.randrange(40))
        kind = {"raw_value": value} if chance.random() < 0.9 else {"value": value.hex()}
        fields.append(HeaderValue(key=chance.choice(NAMES), **kind).SerializeToString())
    headers = HttpHeaders(headers=HeaderMap(headers=fields), end_of_stream=chance.random() < 0.5)
    message = ProcessingRequest(request_headers=headers)
    if chance.random() < 0.8:
        config = ProtocolConfiguration(
            request_body_mode=chance.choice(CONFIGS), response_body_mode=chance.choice(CONFIGS)
        )
        message.protocol_config.CopyFrom(config)
    return message.SerializeToString()


def piece(chance: random.Random) -> bytes:
    """Return a request_body message with a body."""
    body = HttpBody(body=chance.randbytes(1 + size(chance)), end_of_stream=chance.random() < 0.5)
    return ProcessingRequest(request_body=body).SerializeToString()


def changed(chance: random.Random, message: bytes) -> bytes:
    """Return a message with something wrong, or odd."""
    octets = bytearray(message)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        # Most of what tells fields apart stands at both ends.
        at = chance.randrange(len(octets) + 1)
        near = chance.random()
        if near < 0.4:
            at = min(at, chance.randrange(8))
        elif near < 0.6:
            at = max(at, len(octets) - chance.randrange(16))
        match chance.randrange(6):
            case 0 if at < len(octets):
                octets[at] = chance.choice((0, 1, 2, 0x0A, 0x10, 0x18, 0x22, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 1 if at < len(octets):
                octets[at] ^= 1 << chance.randrange(8)
            case 2:
                del octets[at : at + chance.choice((1, 1, 2, 5))]
            case 3:
                octets[at:at] = chance.choice((b"\x00", b"\x80", b"\x10\x01", b"\x18\x01", b"\x50\x01", b"\x0a\x00"))
            case 4:
                octets += octets[: at if chance.random() < 0.5 else None]
            case _:
                octets += chance.choice((opening, piece))(chance)
    return bytes(octets)


def run(count: int, seed: int) -> Counter[str]:
    """Compare so many messages; return how many of each kind were read by hand, and how many not.

    Raises:
        AssertionError: the two disagree about a message.
    """
    chance = random.Random(seed)
    told: Counter[str] = Counter()
    for _ in range(count):
        make = chance.choice((opening, piece))
        message = make(chance)
        if chance.random() < 0.5:
            by_hand = check(message)
            assert by_hand, message.hex()
            told["as encoded, by hand"] += 1
        else:
            message = changed(chance, message)
            told["changed, by hand" if check(message) else "changed, left to protobuf"] += 1
    return told


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="messages")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for kind, count in sorted(run(given.count, given.seed).items()):
        print(f"{kind:<28}{count:>10,}")
    print("0 disagreements")


if __name__ == "__main__":
    main()
