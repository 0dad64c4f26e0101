"""Exchanges per second and per CPU-second of each transport, without a gateway. Run: python -m bench.direct

The load is h2load (Debian: nghttp2-client) on processor 1, the server on processor 0, the transports in turn within
each round; every answer is counted by its HTTP status, and the first is read and checked. One exchange is a full-duplex
request with a chat body in messages of 16 KB, the model last, and a dozen header fields.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import orjson

from bbr.exchange import BodyMode
from bbr.rpc.messages import frame
from tests.support import messages
from tests.support.grpc_frames import PROCESS
from tests.support.processes import Bbr, serving

SERVER_CPU, LOAD_CPU = 0, 1
TRANSPORTS = ("uv", "grpcio")
SIZES = (1_000, 10_000, 100_000)
CONNECTIONS, STREAMS = 4, 16
REQUESTS = {1_000: 20_000, 10_000: 15_000, 100_000: 2_000}
PIECE_BYTES = 16_384
MODEL = "sql-lora"

HEADERS = {
    ":authority": "gateway.example",
    ":path": "/v1/chat/completions",
    ":method": "POST",
    ":scheme": "http",
    "content-type": "application/json",
    "user-agent": "OpenAI/Python 2.0.0",
    "accept": "application/json",
    "authorization": "Bearer 0123456789abcdef",
    "x-request-id": "4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
    "x-forwarded-proto": "http",
    "x-envoy-internal": "true",
    "x-stainless-lang": "python",
}


def exchange(size: int) -> list[bytes]:
    """Return the messages of one exchange with a body of about `size` bytes."""
    body = orjson.dumps({"messages": [{"role": "user", "content": "x" * (size - 70)}], "model": MODEL})
    pieces = [body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES)]
    head = messages.request_headers({**HEADERS, "content-length": str(len(body))}, mode=BodyMode.FULL_DUPLEX_STREAMED)
    bodies = [messages.request_body(piece, end_of_stream=piece is pieces[-1]) for piece in pieces]
    return [head, *bodies]


@contextmanager
def pinned(transport: str) -> Iterator[Bbr]:
    """Run a router of the transport on its processor."""
    with serving(f"--transport={transport}") as router:
        os.sched_setaffinity(router.pid, {SERVER_CPU})
        for task in Path(f"/proc/{router.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {SERVER_CPU})
        yield router


def check(router: Bbr, sent: list[bytes]) -> None:
    """Fail unless the router sets the model of an exchange."""
    with grpc.insecure_channel(f"127.0.0.1:{router.port}") as channel:
        answer = messages.parse(next(iter(channel.stream_stream(PROCESS)(iter(sent)))))
    routed = messages.set_headers(answer.request_headers.response.header_mutation)
    assert routed["X-Gateway-Model-Name"] == MODEL.encode(), answer


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(router: Bbr, body: Path, requests: int) -> tuple[float, float]:
    """Return exchanges per second and per CPU-second of one run, all of them answered."""
    before = cpu_seconds(router.pid)
    command = [
        "taskset",
        "-c",
        str(LOAD_CPU),
        "h2load",
        "-n",
        str(requests),
        "-c",
        str(CONNECTIONS),
        "-m",
        str(STREAMS),
    ]
    command += ["-t", "1", "-w", "24", "-W", "30", "-d", str(body), "-H", "content-type: application/grpc"]
    command += ["-H", "te: trailers", f"http://127.0.0.1:{router.port}{PROCESS}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    succeeded = re.search(r"(\d+) succeeded", done.stdout)
    rate = re.search(r"([\d.]+) req/s", done.stdout)
    assert succeeded is not None, done.stdout
    assert rate is not None, done.stdout
    assert int(succeeded[1]) == requests, done.stdout
    return float(rate[1]), requests / (cpu_seconds(router.pid) - before)


def main() -> int:
    """Measure, and print medians with their spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    if not shutil.which("h2load") or (os.cpu_count() or 1) < 2:
        print("This needs h2load (Debian: nghttp2-client) and two processors.", file=sys.stderr)
        return 1
    print(f"{'bytes':>7} {'transport':<9} {'per second':>11} {'per CPU-second':>15}  its spread, {rounds} rounds")
    with tempfile.TemporaryDirectory() as scratch, pinned("uv") as uv, pinned("grpcio") as grpcio:
        routers = dict(zip(TRANSPORTS, (uv, grpcio), strict=True))
        for size in SIZES:
            sent = exchange(size)
            body = Path(scratch, str(size))
            body.write_bytes(frame(sent))
            results: dict[str, list[tuple[float, float]]] = {name: [] for name in TRANSPORTS}
            for router in routers.values():
                check(router, sent)
                load(router, body, 200)
            for _ in range(rounds):
                for name, router in routers.items():
                    requests = REQUESTS[size] // (1 if name == "uv" else 8)
                    results[name].append(load(router, body, requests))
            medians = {}
            for name, figures in results.items():
                per_cpu = sorted(figure for _, figure in figures)
                medians[name] = statistics.median(per_cpu)
                rate = statistics.median(figure for figure, _ in figures)
                print(f"{size:>7} {name:<9} {rate:>11.0f} {medians[name]:>15.0f}  {per_cpu[0]:.0f} - {per_cpu[-1]:.0f}")
            print(f"{size:>7} {'uv / grpcio':<21} {medians['uv'] / medians['grpcio']:>15.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
