"""The model table from a cluster: 1,000 ConfigMaps of 100 adapters, over HTTP. Run: python -m bench.parts.cluster

A fake API server runs in a process of its own; for each round a fresh process follows it:

- the first sync: processor time from nothing to the table in use, requests and decoding included
- the same in time on the wall, with the 50 ms in which changes are collected
- a new list of all of them after a broken watch, when nothing has changed: processor time
- a change of one object, from the API server's event until it is visible
- the longest turn of the event loop during the first sync and the new list
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import uvloop

from bbr.sources.kube_api import KubeApi
from bbr.sources.kubernetes import KUBERNETES, KubernetesSource
from bbr.sources.reflector import Pace
from bbr.sources.table import Table
from bbr.system.worker_process import WorkerProcess
from bench.harness.fake_kubernetes import BBR, FakeKubernetes, Watch
from bench.harness.figures import Row, Target, Variant, compare, heading, save
from bench.parts.table import ADAPTERS, CHANGES, OBJECTS, Turns, data

FIGURES: Final = {
    "sync": ("the first sync", "s of processor time", Target(3)),
    "wall": ("the first sync, on the wall", "s", None),
    "again": ("a new list without changes", "s of processor time", None),
    "change": ("a change, until visible (slowest)", "ms", Target(250)),
    "turn": ("longest turn of the event loop", "ms", None),
}


async def serve(directory: Path) -> None:
    """Serve until standard input ends; each line of it is a command."""
    async with FakeKubernetes() as server:
        for number in range(OBJECTS):
            server.put(f"models-{number:04}", labels=[BBR], data=data(number))
        server.kubeconfig(directory)
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            command, _, argument = line.strip().partition(" ")
            if command == "change":
                number = int(argument)
                server.put(f"models-{number:04}", labels=[BBR], data=data(number, f"new-{number}"))
            else:
                server.each_watch(Watch.abandon)


async def follow(directory: Path) -> dict[str, float]:
    """Return the figures of one round; commands for the server go to standard output, its figures to the last line."""
    pace = Pace(first_delay_seconds=0.01)
    table = Table([KUBERNETES])
    source = KubernetesSource(table, lambda: KubeApi(directory / "kubeconfig"), WorkerProcess(), pace=pace)
    KubeApi(directory / "kubeconfig")  # as `bbr serve` does before it serves: this imports lightkube
    turns = Turns()
    await asyncio.sleep(0)
    begun, wall = time.process_time(), time.perf_counter()
    tasks = [asyncio.create_task(run()) for run in (table.run, *source.bodies().values())]
    await table.wait_synced()
    found = {"sync": time.process_time() - begun, "wall": time.perf_counter() - wall}
    assert table.registry.size >= OBJECTS * (ADAPTERS + 1), table.registry.size
    found["turn"] = await turns.stop()
    lists = sum(each.lists_total for each in source.reflectors)
    begun = time.process_time()
    print("break", flush=True)
    while sum(each.lists_total for each in source.reflectors) < lists + 2:  # noqa: ASYNC110 (a measurement)
        await asyncio.sleep(0.01)
    found["again"] = time.process_time() - begun
    while any(each.failing for each in source.reflectors):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    found["change"] = max([await change_ms(table, number) for number in range(CHANGES)])
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return found


async def change_ms(table: Table, number: int) -> float:
    """Return how long it takes until a new adapter is there."""
    begun = time.perf_counter()
    print(f"change {number}", flush=True)
    await table.swapped()
    found = table.registry.find(f"new-{number}")
    assert found
    assert found.base_model == f"org/base-model-{number:04}"
    return (time.perf_counter() - begun) * 1e3


def one_round() -> dict[str, float]:
    """Run a server and a follower, and pass the follower's commands on."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "bench.parts.cluster"]
        pipe = subprocess.PIPE
        with subprocess.Popen([*command, "--serve", directory], stdin=pipe, stdout=pipe, text=True) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdout.readline()
            with subprocess.Popen([*command, "--follow", directory], stdout=pipe, text=True) as follower:
                assert follower.stdout is not None
                for line in follower.stdout:
                    if line.startswith("{"):
                        found: dict[str, float] = json.loads(line)
                    else:
                        server.stdin.write(line)
                        server.stdin.flush()
            server.stdin.close()
    return found


def main() -> int:
    """Measure, print, and say which limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--serve", type=Path, metavar="DIR", help="be the API server")
    parser.add_argument("--follow", type=Path, metavar="DIR", help="one round against it, as JSON")
    given = parser.parse_args()
    if given.serve:
        uvloop.run(serve(given.serve))
        return 0
    if given.follow:
        print(json.dumps(uvloop.run(follow(given.follow))))
        return 0
    print(heading())
    found = [one_round() for _ in range(given.rounds)]
    rows: list[Row] = []
    for name, (case, unit, limit) in FIGURES.items():
        rows += compare(case, unit, [Variant("table", limit=limit)], {"table": [each[name] for each in found]})
    if given.json:
        save(given.json, rows, vars(given))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
