"""A router behind a real Envoy (one worker), the pools of bench.harness.witness behind it, or without a router."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from bench.harness import envoy, machine, witness
from bench.harness.processes import serving
from deploy.local.topology import POOLS

# Of a connection with many streams: Envoy's default, 64 KiB, would let one long body hold the others.
WINDOW_BYTES: Final = 16 << 20


@contextmanager
def pools(table: Path) -> Iterator[dict[str, int]]:
    """Run the pools; give their ports by base model, and the default pool's."""
    command = [sys.executable, "-m", "bench.harness.witness", str(table)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ports = process.stdout.readline().split()
        names = [witness.DEFAULT, *(pool.base_model for pool in POOLS)]
        yield dict(zip(names, map(int, ports), strict=True))


@contextmanager
def stand(
    table: Path, body_mode: str = "FULL_DUPLEX_STREAMED", flags: Sequence[str] = (), *, pinned: bool = False
) -> Iterator[str]:
    """Run pools, a router with `table` and `flags`, and Envoy; give its URL.

    With `pinned` the router has the servers' processor; all others are on that of their parent.
    """
    with ExitStack() as stack:
        ports = stack.enter_context(pools(table))
        router = stack.enter_context(serving("--transport=uv", f"--models={table}", *flags))
        if pinned:
            machine.pin(router.pid, machine.SERVER_CPU)
        yield _gateway(stack, [envoy.router_filter(body_mode)], router.port, ports)


@contextmanager
def unrouted(table: Path) -> Iterator[str]:
    """Run pools, and Envoy without a router, which sends each request to one of them at random; give its URL."""
    with ExitStack() as stack:
        yield _gateway(stack, [], 0, stack.enter_context(pools(table)), split=True)


@contextmanager
def by_header(table: Path) -> Iterator[str]:
    """Run pools, and Envoy without a router, which routes by the header that clients send; give its URL."""
    with ExitStack() as stack:
        yield _gateway(stack, [], 0, stack.enter_context(pools(table)))


def _gateway(
    stack: ExitStack, filters: list[dict[str, Any]], port: int, ports: dict[str, int], *, split: bool = False
) -> str:
    windows = {"initial_stream_window_size": WINDOW_BYTES, "initial_connection_window_size": WINDOW_BYTES}
    hcm: dict[str, Any] = {"access_log": [], "http2_protocol_options": windows}
    if split:
        halves = [{"name": pool.base_model, "weight": 1} for pool in POOLS]
        route = {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": halves}}}
        hcm["route_config"] = {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}
    gateway = stack.enter_context(envoy.gateway(envoy.configuration(filters, port or 1, ports, **hcm)))
    return f"http://127.0.0.1:{gateway.port}"
