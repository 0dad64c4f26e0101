"""What each attack costs: CPU per MiB of input, and the most memory in use, against stated ceilings. `make abuse`

An attack is fed to a connection of the core in reads of 4 KiB until it is closed or the attack is over; what is closed
early is attacked again on a new connection, so that closing is no way to look cheap. CPU is the process's own; memory
is tracemalloc's peak over what there was before, in a run of its own. The ids are those of
tests/conformance/http2/CASES.md.
"""

import argparse
import random
import statistics
import string
import time
import tracemalloc
from collections.abc import Iterator
from typing import NamedTuple

from bbr.http2.connection import Connection
from bbr.http2.events import RequestReceived
from bbr.http2.settings import Settings
from bench.harness.h2_frames import (
    CONTINUATION,
    INITIAL_WINDOW_SIZE,
    OPENING,
    PING_FRAME,
    POST_BLOCK,
    REQUEST,
    block,
    cut,
    data,
    frame,
    headers,
    literal,
    priority,
    rst_stream,
    settings,
    window_update,
)

READ_BYTES = 4 << 10
INPUT_BYTES = 512 << 10
OPEN = headers(1, POST_BLOCK)

# Ceilings, some five times what a core of 2026 takes. Frames of 9 to 17 octets cost 1 to 2 us each, streams that are
# opened and reset some 10 us for 100 octets. A window that flips is work for each open stream: the worst there is.
SMALL_FRAMES_MS = 800.0
STREAMS_MS = 800.0
BULK_MS = 20.0
HUFFMAN_MS = 1500.0
FLIPS_MS = 12_000.0
MEMORY_BYTES = 4 << 20


class Attack(NamedTuple):
    """Octets after the opening, and what they may cost.

    Attributes:
        octets: about INPUT_BYTES of them, or one round that is repeated on new connections.
        milliseconds: of CPU for each MiB.
        honest: whether each request is answered, as in ordinary traffic.
    """

    octets: bytes
    milliseconds: float
    honest: bool = False


def repeated(octets: bytes) -> bytes:
    """Return as many copies as there is room for."""
    return OPEN + octets * (INPUT_BYTES // len(octets))


def streams(*parts: bytes | None, head: bytes = POST_BLOCK, end: bool = False) -> bytes:
    """Return streams one after another; a part's stream id, 1 in each, is made the stream's; None is HEADERS."""

    def each(stream_id: int) -> bytes:
        word = stream_id.to_bytes(4, "big")
        made = [headers(stream_id, head, end=end) if part is None else part[:5] + word + part[9:] for part in parts]
        return b"".join(made)

    size = len(each(1))
    return b"".join(each(stream_id) for stream_id in range(1, 2 * (INPUT_BYTES // size), 2))


def huffman_blocks() -> bytes:
    """Return requests with a long value in Huffman code, never the same."""
    rng = random.Random(8)
    values = ("".join(rng.choices(string.printable[:94], k=3000)) for _ in range(INPUT_BYTES // 2500))
    return b"".join(
        headers(2 * number + 1, block([*REQUEST, ("a", value)], huffman=True)) for number, value in enumerate(values)
    )


ATTACKS = {
    "I0 answered, then reset (honest)": Attack(streams(None, data(1, bytes(200)), rst_stream(1)), STREAMS_MS, True),
    "bulk DATA (honest)": Attack(repeated(data(1, bytes(16_384))), BULK_MS),
    "I1 rapid reset": Attack(streams(None, rst_stream(1)), STREAMS_MS),
    "I2 rapid reset after DATA": Attack(streams(None, data(1, bytes(50)), rst_stream(1)), STREAMS_MS),
    "I3 WINDOW_UPDATE of 0": Attack(streams(None, window_update(1, 0)), STREAMS_MS),
    "I3 PRIORITY of 4 octets": Attack(streams(None, frame(2, 0, 1, bytes(4))), STREAMS_MS),
    "I4 malformed": Attack(streams(None, head=POST_BLOCK + literal(b"Upper", b"x")), STREAMS_MS),
    "I5 CONTINUATION of 1 octet": Attack(
        headers(1, b"", flags=0) + frame(CONTINUATION, 0, 1, b"\x82") * 100_000, SMALL_FRAMES_MS
    ),
    "I6, I7 bomb of tiny fields": Attack(headers(1, POST_BLOCK + b"\x90" * 16_000), STREAMS_MS),
    "I8 Huffman": Attack(huffman_blocks(), HUFFMAN_MS),
    "I9 a drip of credit": Attack(repeated(window_update(1, 1)), SMALL_FRAMES_MS),
    "I11 PING": Attack(repeated(PING_FRAME), SMALL_FRAMES_MS),
    "I11 SETTINGS": Attack(repeated(settings()), SMALL_FRAMES_MS),
    "I12 SETTINGS of 128 entries": Attack(repeated(settings(*[(99, 1)] * 128)), SMALL_FRAMES_MS),
    "I12 a window that flips, 1,000 streams": Attack(
        b"".join(headers(each, POST_BLOCK) for each in range(1, 2001, 2))
        + (settings((INITIAL_WINDOW_SIZE, 0)) + settings((INITIAL_WINDOW_SIZE, 65_535))) * 1000,
        FLIPS_MS,
    ),
    "I13 empty DATA": Attack(repeated(data(1)), SMALL_FRAMES_MS),
    "I14 DATA of 1 octet": Attack(repeated(data(1, b"x")), SMALL_FRAMES_MS),
    "I14 DATA of 10 octets (honest)": Attack(repeated(data(1, bytes(10))), SMALL_FRAMES_MS),
    "I15 PRIORITY": Attack(repeated(priority(99, 7)), SMALL_FRAMES_MS),
    "I16 empty names": Attack(streams(None, head=POST_BLOCK + literal(b"", b"x") * 20), STREAMS_MS),
    "I17 unknown, 16 KiB each": Attack(repeated(frame(0x0B, 0, 0, bytes(16_384))), BULK_MS),
    "I20 streams beyond the limit": Attack(streams(None), STREAMS_MS),
}


def run(attack: Attack, reads: list[bytes]) -> Iterator[int]:
    """Feed an attack to connections, INPUT_BYTES in all; give the octets that each read brought."""
    status = block([(":status", "200")])
    fed = 0
    while fed < INPUT_BYTES:
        connection = Connection(Settings(), 0.0)
        for octets in reads:
            for event in connection.receive(octets, 0.0):
                if attack.honest and isinstance(event, RequestReceived):
                    connection.send_headers(event.stream_id, status)
                    connection.send_data(event.stream_id, b"an answer")
            connection.take_output()
            fed += len(octets)
            yield len(octets)
            if connection.closed or fed >= INPUT_BYTES:
                break


def milliseconds(attack: Attack) -> float:
    """Return the CPU of one run for each MiB."""
    reads = cut(OPENING + attack.octets, READ_BYTES)
    began = time.process_time()
    octets = sum(run(attack, reads))
    return (time.process_time() - began) * 1000 / octets * 2**20


def peak_bytes(attack: Attack) -> int:
    """Return the most memory in use during a run, over what there was before."""
    reading = run(attack, cut(OPENING + attack.octets, READ_BYTES))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in reading:
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before


def main() -> int:
    """Measure all; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"{'attack':<40} {'CPU ms / MiB':>12} {'ceiling':>8} {'peak KiB':>9} {'ceiling':>8}")
    figures: dict[str, list[float]] = {name: [] for name in ATTACKS}
    for _ in range(rounds):
        for name, attack in ATTACKS.items():
            figures[name].append(milliseconds(attack))
    over = 0
    for name, attack in ATTACKS.items():
        cost, peak = statistics.median(figures[name]), peak_bytes(attack)
        bad = cost > attack.milliseconds or peak > MEMORY_BYTES
        over += bad
        print(
            f"{name:<40} {cost:>12.1f} {attack.milliseconds:>8.0f} {peak / 1024:>9.0f} {MEMORY_BYTES >> 10:>8}"
            f"{'  OVER' if bad else ''}",
            flush=True,
        )
    return over > 0


if __name__ == "__main__":
    raise SystemExit(main())
