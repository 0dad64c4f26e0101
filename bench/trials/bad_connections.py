"""What one bad connection does to the p99 of others. Part of `make abuse`

A router, a client that sends short exchanges at a steady rate on a connection of its own, and, in every other turn, one
attacker in a process of its own: it does what it does as fast as it is let, and when its connection is closed it opens
the next at once. The figure is the p99 with the attacker less that of the turn before without; the median over the
rounds must not exceed MOST_ADDED_MS. The router has processor 0; client and attacker share processor 1, where the
attacker runs only when the client does not (SCHED_IDLE).
"""

import argparse
import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import uvloop

from bench.harness import machine
from bench.harness.grpc_client import PROCESS, framed
from bench.harness.h2_frames import (
    CANCEL,
    CONTINUATION,
    END_STREAM,
    INITIAL_WINDOW_SIZE,
    OPENING,
    PING_FRAME,
    PREFACE,
    SETTINGS_ACK,
    block,
    data,
    frame,
    headers,
    rst_stream,
    settings,
    window_update,
)
from bench.harness.raw_client import CALL_BLOCK, HEAD, REQUEST, RawClient
from bench.harness.rpc_client import fields

MOST_ADDED_MS: Final = 5.0
RATE: Final = 300.0
_SHUT: Final = PREFACE + settings((INITIAL_WINDOW_SIZE, 0)) + SETTINGS_ACK
_FIRST: Final = headers(1, CALL_BLOCK)
_DRIP_SECONDS: Final = 0.01
_PIECES: Final = 2_000


class Attack(NamedTuple):
    """What an attacker sends on each of its connections.

    Attributes:
        first: at once.
        then: over and over; nothing means that it goes silent.
        streams: `then` is for stream 1, and is sent for the next stream each time.
        drips: one octet of `then` every _DRIP_SECONDS.
        reads: it takes what the router sends.
    """

    first: bytes
    then: bytes = b""
    streams: bool = False
    drips: bool = False
    reads: bool = True


ATTACKS: Final = {
    "silent before the preface": Attack(b""),
    "silent after it": Attack(OPENING),
    "a drip of headers": Attack(OPENING, headers(1, block(fields(path=PROCESS))), drips=True),
    "half-sent bodies": Attack(OPENING, headers(1, CALL_BLOCK) + data(1, framed(HEAD)), streams=True),
    "never reads": Attack(OPENING, headers(1, CALL_BLOCK) + data(1, REQUEST, end=True), streams=True, reads=False),
    "no window": Attack(_SHUT, headers(1, CALL_BLOCK) + data(1, REQUEST, end=True), streams=True),
    "PING": Attack(OPENING, PING_FRAME),
    "SETTINGS": Attack(OPENING, settings()),
    "rapid reset": Attack(OPENING, headers(1, CALL_BLOCK) + rst_stream(1, CANCEL), streams=True),
    "reset after a message": Attack(
        OPENING, headers(1, CALL_BLOCK) + data(1, framed(HEAD)) + rst_stream(1, CANCEL), streams=True
    ),
    "CONTINUATION": Attack(OPENING + headers(1, b"", flags=0), frame(CONTINUATION, 0, 1, b"\x82")),
    "empty DATA": Attack(OPENING + _FIRST, data(1)),
    "a drip of credit": Attack(OPENING + _FIRST, window_update(1, 1)),
    "nonsense": Attack(b"\x16\x03\x01" * 1000),
}


def assault(name: str, port: int) -> None:
    """Attack a router on a port of loopback until killed."""
    attack = ATTACKS[name]
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(attack.first)
            if not attack.then:
                while connection.recv(1 << 16):
                    pass
            for octets in _pieces(attack):
                connection.sendall(octets)
                if attack.drips:
                    time.sleep(_DRIP_SECONDS)
                if attack.reads:
                    _take(connection)
            while connection.recv(1 << 16):  # it has sent all that it has; the router has its time
                pass


def _pieces(attack: Attack) -> Iterator[bytes]:
    if attack.drips:
        yield from (attack.then[at : at + 1] for at in range(len(attack.then) - 1))
    elif not attack.streams:
        for _ in range(_PIECES):
            yield attack.then * 100
    else:
        parts = _frames(attack.then)
        for first in range(1, 200 * _PIECES, 200):
            ids = (each.to_bytes(4, "big") for each in range(first, first + 200, 2))
            yield b"".join(part[:5] + word + part[9:] for word in ids for part in parts)


def _frames(octets: bytes) -> list[bytes]:
    found = []
    while octets:
        end = 9 + int.from_bytes(octets[:3], "big")
        found.append(octets[:end])
        octets = octets[end:]
    return found


def _take(connection: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while connection.recv(1 << 16, socket.MSG_DONTWAIT):
            pass


@contextmanager
def attacker(name: str, port: int) -> Iterator[None]:
    """Run an attacker for a while."""
    command = [sys.executable, "-m", "bench.trials.bad_connections", "--attack", name, "--port", str(port)]
    with subprocess.Popen(command) as process:
        os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
        machine.pin(process.pid, machine.LOAD_CPU)
        try:
            yield
            assert process.poll() is None, f"the attacker has ended with {process.returncode}"
        finally:
            process.kill()


async def p99_ms(port: int, seconds: float) -> float:
    """Return the p99 of exchanges at RATE on one connection, each from when it was due, in milliseconds."""
    client = await RawClient.connect(port)
    due: dict[int, float] = {}
    took: list[float] = []
    count = int(RATE * seconds)
    begun = time.perf_counter()

    async def send() -> None:
        for number in range(count):
            stream_id = 2 * number + 1
            due[stream_id] = begun + number / RATE
            await asyncio.sleep(max(0.0, due[stream_id] - time.perf_counter()))
            client.write(headers(stream_id, CALL_BLOCK), data(stream_id, REQUEST, end=True))

    sending = asyncio.create_task(send())
    while len(took) < count:
        found = await client.receive()
        assert found, "the router has closed an honest connection"
        client.frames.clear()
        for each in found:
            if each.flags & END_STREAM and each.stream_id:
                took.append(time.perf_counter() - due.pop(each.stream_id))
    await sending
    await client.close()
    return statistics.quantiles(took, n=100)[98] * 1000


def measured(name: str, port: int, rounds: int, seconds: float) -> tuple[float, list[float]]:
    """Return the median p99 without the attacker, and what it added in each round, in milliseconds."""
    without, added = [], []
    for _ in range(rounds):
        without.append(uvloop.run(p99_ms(port, seconds)))
        with attacker(name, port):
            time.sleep(0.5)  # until it has begun
            added.append(uvloop.run(p99_ms(port, seconds)) - without[-1])
    return statistics.median(without), added


def main() -> int:
    """Measure all attacks; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn (3)")
    parser.add_argument("--attack", choices=ATTACKS, help="this one alone")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)  # be the attacker
    given = parser.parse_args()
    if given.port:
        assault(given.attack, given.port)
    machine.require()
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    over = 0
    print(f"{'one bad connection':<28} {'p99 without':>11} {'added, ms: median':>17} {'least':>7} {'most':>7}")
    with machine.router("uv") as router:
        for name in [given.attack] if given.attack else ATTACKS:
            alone, added = measured(name, router.port, given.rounds, given.seconds)
            median = statistics.median(added)
            over += median > MOST_ADDED_MS
            print(
                f"{name:<28} {alone:>11.2f} {median:>17.2f} {min(added):>7.2f} {max(added):>7.2f}"
                f"{'  OVER' if median > MOST_ADDED_MS else ''}",
                flush=True,
            )
    return over > 0


if __name__ == "__main__":
    raise SystemExit(main())
