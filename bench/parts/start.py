"""From the start of a process to its first SERVING answer, without Kubernetes. Run: python -m bench.parts.start

Variants in turn, each a fresh `bbr serve` on a processor of its own, its bytecode compiled by a start that does not
count: in plaintext, with a model table of 1,000 names, over TLS with a certificate that it makes, and over grpcio. And
`bbr probe` against a running router, from its start to its exit status.

A port that nobody listens on yet is asked again every millisecond.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from bbr.commands.probe.client import Client
from bbr.commands.probe.wire import Address, Deadline, ProbeError, Tls, Wire
from bbr.pb.health_pb2 import HealthCheckResponse
from bbr.rpc.health import SERVICE
from bench.harness import machine
from bench.harness.figures import Row, Target, Variant, alternate, heading, save
from bench.harness.ports import free_ports

LIMIT: Final = Target(300.0)
PLAINTEXT: Final = ("--secure-serving=false",)
_AGAIN_SECONDS: Final = 0.001
_PATIENCE_SECONDS: Final = 30.0


def start(*arguments: str, tls: bool = False) -> float:
    """Start a router; return the milliseconds until it answers SERVING."""
    port, health_port = free_ports(2)
    command = [
        "taskset",
        "-c",
        str(machine.SERVER_CPU),
        sys.executable,
        "-m",
        "bbr",
        "serve",
        "--bind-address=127.0.0.1",
    ]
    command += [f"--grpc-port={port}", f"--grpc-health-port={health_port}", "--metrics-port=0", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BBR_")}
    begun = time.perf_counter()
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            _await_serving(Address("127.0.0.1", port), Tls() if tls else None)
            return (time.perf_counter() - begun) * 1000
        finally:
            process.send_signal(signal.SIGKILL)


def _await_serving(address: Address, tls: Tls | None) -> None:
    serving = HealthCheckResponse(status=HealthCheckResponse.SERVING).SerializeToString()
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(ProbeError), Client(Wire(address, tls, Deadline(_PATIENCE_SECONDS))) as client:
            call = client.open(f"/{SERVICE}/Check")
            call.send(b"", end=True)
            if call.receive() == serving:
                return
        time.sleep(_AGAIN_SECONDS)
    raise SystemExit(f"{address} does not serve within {_PATIENCE_SECONDS:g} s")


def starts(rounds: int) -> list[Row]:
    """Starts of each variant, in turn."""
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory) / "models.yaml"
        names = (f"  - {{name: org/base-{each}, adapters: [adapter-{each}]}}\n" for each in range(500))
        models.write_text("models:\n" + "".join(names))
        table = f"--models={models}"
        variants: dict[Variant, Callable[[], float]] = {
            Variant("plaintext", limit=LIMIT): partial(start, *PLAINTEXT),
            Variant("1,000 names", "plaintext"): partial(start, *PLAINTEXT, table),
            Variant("TLS", "plaintext"): partial(start, tls=True),
            Variant("grpcio", "plaintext"): partial(start, *PLAINTEXT, "--transport=grpcio"),
            Variant("grpcio, TLS", "plaintext"): partial(start, "--transport=grpcio", tls=True),
        }
        return alternate("start to SERVING", "ms", variants, rounds)


def probes(rounds: int) -> list[Row]:
    """The whole life of `bbr probe`."""

    def probe(port: int) -> float:
        command = [sys.executable, "-m", "bbr", "probe", f"--addr=127.0.0.1:{port}"]
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return (time.perf_counter() - begun) * 1000

    with machine.router("uv") as router:
        return alternate("bbr probe", "ms", {Variant("plaintext"): partial(probe, router.port)}, rounds)


def main() -> int:
    """Measure, print medians with their spread, and say whether the limit is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    machine.require("taskset")
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    print(heading())
    rows = starts(given.rounds) + probes(given.rounds)
    if given.json:
        save(given.json, rows, vars(given))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
