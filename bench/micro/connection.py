"""How many opcodes an exchange takes on a connection. Run: python -m bench.micro.connection [KIND...]

All that the native transport does for an exchange but the system's calls: HTTP/2, gRPC, the exchange, and what is
counted of it, on a transport that only counts what is written. An exchange comes as h2load sends it: HEADERS, then all
messages in DATA, in reads of 64 KiB. The interpreter's opcodes are the same in each run, whatever else happens on the
machine. They tell nothing of what C code takes, so the processor time stands beside them: the least of some turns.

Opcodes are of the interpreted build only. With --instructions valgrind counts those of the processor instead, of
whichever build is imported: for the compiled one, `make compiled`, then

    PYTHONSAFEPATH=1 PYTHONPATH=$PWD/.cache/compiled:$PWD .venv/bin/python -m bench.micro.connection --instructions

Only figures of one interpreter can be compared: Python's own code is most of it.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from types import CodeType, FrameType
from typing import Any, Final

from bbr.exchange.exchange import CallFields, Exchange
from bbr.http2.settings import Settings
from bbr.rpc.connection import RpcConnection
from bbr.rpc.messages import frame
from bbr.rpc.running import Services
from bbr.telemetry.metrics import Metrics
from bbr.transports.room import Room, Unbounded
from bbr.transports.uv_connection import UvConnection
from bbr.transports.uv_socket import Pace
from bench.harness import h2_frames, workload
from bench.harness.grpc_client import PROCESS
from bench.micro.exchange import KINDS, TABLE, policy, sent

READ_BYTES: Final = 64 << 10
FRAME_BYTES: Final = 16_384
WARM: Final = 20
COUNTED: Final = 10
TURNS: Final = 20
# Exchanges of the shorter of two runs that are counted in instructions, and of the longer.
FEWER: Final = 100
MORE: Final = 600


class Transport(asyncio.Transport):
    """Takes all that is written at once, and forgets it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def write(self, data: Any) -> None:
        """Count it."""
        self.written += len(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Let it be."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0

    def is_closing(self) -> bool:
        """It stays open."""
        return False


class Server:
    """The owner of one connection, whose exchanges are counted as a server's are."""

    busy_poll = None
    grace_seconds = 25.0

    def __init__(self, kind: str) -> None:
        self.clock = time.monotonic
        self.pace = Pace(moment_seconds=60.0)  # no turn ends before an exchange
        self.moment_seconds = self.pace.moment_seconds
        self.room = Room(Unbounded())
        self.metrics = Metrics()
        self.scheduled = False
        self._policy = policy(kind)
        methods = {PROCESS.encode(): self._begin}
        self._services = Services(methods, 64 << 20, self._failed, clock=self.clock)

    def _begin(self, call: CallFields) -> Exchange:
        return Exchange(self._policy, TABLE, time.perf_counter, None, self.metrics.count)

    def _failed(self, error: Exception) -> None:
        raise error

    def admit(self, connection: UvConnection, now: float) -> RpcConnection:
        """Let it in."""
        return RpcConnection(Settings(), self._services, now, connection.account)

    def find_room(self, connection: UvConnection, now: float) -> bool:
        """There is always room."""
        return False

    def new_tls(self, now: float) -> None:
        """In plaintext."""

    def schedule(self, connection: UvConnection) -> None:
        """Give it a turn after the read."""
        self.scheduled = True

    def failed(self, layer: str, reason: str, now: float) -> None:
        """Nothing fails here."""
        raise RuntimeError(f"{layer}: {reason}")

    def gone(self, connection: UvConnection) -> None:
        """It never goes."""


class Client:
    """What sends the exchanges of a kind, one after another."""

    def __init__(self, kind: str) -> None:
        self.server = Server(kind)
        self._connection = UvConnection(self.server)
        self._connection.connection_made(Transport())
        windows = h2_frames.settings((4, 1 << 30)) + h2_frames.SETTINGS_ACK + h2_frames.window_update(0, 1 << 30)
        self._connection.data_received(h2_frames.PREFACE + windows)
        self._blocks = workload.field_blocks([{}])
        self._messages = frame(sent(kind))
        self._stream_id = -1

    def next(self) -> Sequence[bytes]:
        """Return the reads of the next exchange."""
        self._stream_id += 2
        block = self._blocks[0] if self._stream_id == 1 else self._blocks[1][0]
        octets = h2_frames.headers(self._stream_id, block, end=False)
        for start in range(0, len(self._messages), FRAME_BYTES):
            last = start + FRAME_BYTES >= len(self._messages)
            octets += h2_frames.data(self._stream_id, self._messages[start : start + FRAME_BYTES], end=last)
        return [octets[start : start + READ_BYTES] for start in range(0, len(octets), READ_BYTES)]

    def send(self, reads: Sequence[bytes]) -> None:
        """Let an exchange happen."""
        for read in reads:
            self._connection.data_received(read)
            while self.server.scheduled:
                self.server.scheduled = self._connection.work()


def count(client: Client) -> Counter[CodeType]:
    """Return how many opcodes of each function some exchanges took."""
    opcodes: Counter[CodeType] = Counter()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode" and frame.f_code.co_filename != __file__:
            opcodes[frame.f_code] += 1
        return trace

    for _ in range(COUNTED):
        reads = client.next()
        sys.settrace(trace)
        try:
            client.send(reads)
        finally:
            sys.settrace(None)
    return opcodes


def least_seconds(client: Client, exchanges: int) -> float:
    """Return the processor time of an exchange."""
    least = float("inf")
    for _ in range(TURNS):
        scripts = [client.next() for _ in range(exchanges)]
        began = time.process_time()
        for reads in scripts:
            client.send(reads)
        least = min(least, (time.process_time() - began) / exchanges)
    return least


def instructions(kind: str) -> Counter[str]:
    """Return how many instructions of each function an exchange takes: what two runs of unlike length differ in."""
    fewer, more = _callgrind(kind, FEWER), _callgrind(kind, MORE)
    more.subtract(fewer)
    return Counter({name: number // (MORE - FEWER) for name, number in more.items()})


def _callgrind(kind: str, count: int) -> Counter[str]:
    """Return the instructions of each function of a process that lets so many exchanges happen."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "callgrind.out")
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={path}"]
        command += [sys.executable, "-m", "bench.micro.connection", "--run", kind, str(count)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "0"})
        listed = subprocess.run(
            ["callgrind_annotate", "--auto=no", "--threshold=100", "--show-percs=no", path],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    counted: Counter[str] = Counter()
    for line in listed.splitlines():
        number, _, named = line.strip().partition("  ")
        if ":" in named and number.replace(",", "").isdigit():
            name = named.split(":", 1)[1].split(" [")[0]
            counted[name] += int(number.replace(",", ""))
    return counted


def main() -> None:
    """Count, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}; by default up to 100k")
    parser.add_argument("--functions", type=int, default=0, metavar="N", help="show the N that take the most")
    parser.add_argument("--instructions", action="store_true", help="count instructions, by valgrind")
    parser.add_argument("--run", nargs=2, metavar=("KIND", "COUNT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    kinds = given.kinds or ("none", "1k", "10k", "100k", "1k-buffered")
    if given.run:
        client = Client(given.run[0])
        scripts = [client.next() for _ in range(MORE)]  # in both runs, so that the difference holds nothing of it
        for reads in scripts[: int(given.run[1])]:
            client.send(reads)
        return
    if given.instructions:
        if shutil.which("valgrind") is None:
            parser.error("valgrind is not installed")
        print(f"{'kind':<14}{'instructions':>14}")
        for kind in kinds:
            by_function = instructions(kind)
            print(f"{kind:<14}{by_function.total():>14,}", flush=True)
            for name, number in by_function.most_common(given.functions):
                print(f"    {number:>8,}  {name}")
        return
    print(f"{'kind':<14}{'opcodes':>10}{'us':>10}")
    for kind in kinds:
        client = Client(kind)
        for _ in range(WARM):
            client.send(client.next())
        opcodes = count(client)
        seconds = least_seconds(client, 150 if KINDS[kind][0] <= 10_000 else 30)
        print(f"{kind:<14}{sum(opcodes.values()) / COUNTED:>10,.0f}{seconds * 1e6:>10.1f}", flush=True)
        for code, number in opcodes.most_common(given.functions):
            print(f"    {number / COUNTED:>8,.0f}  {code.co_qualname}")


if __name__ == "__main__":
    main()
