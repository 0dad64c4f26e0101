"""The model table at its size: 100,000 adapters of 1,000 ConfigMaps, and of 1,000 files.

Run: python -m bench.parts.table.

In a fresh process for each round, with the event loop running:

- the first sync: processor time from the objects' texts to the table in use
- what the table takes of memory: resident set, texts dropped
- a lookup
- a change of one object: milliseconds until it is visible, with the 50 ms in which changes are collected
- the longest turn of the event loop while the table is built

And a router with its table in files, under load: exchanges while nothing changes, and while files change, in turn. The
times of exchanges are what a client sees; the last figure compares the slowest of those during changes with the 99th
percentile of the others.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path
from typing import Final

import uvloop

from bbr.models.entries import Origin
from bbr.models.registry import Registry
from bbr.sources import configmap
from bbr.sources.objects import SourceObject
from bbr.sources.table import Table
from bench.harness import machine, workload
from bench.harness.ext_proc_load import Load, pool
from bench.harness.figures import Row, Target, Variant, compare, heading, save

OBJECTS: Final = 1_000
ADAPTERS: Final = 100
CHANGES: Final = 20
LOOKUPS: Final = 10_000
CONNECTIONS: Final = 4
SIZE: Final = 1_000
WINDOW_SECONDS: Final = 3.0
CHANGE_EVERY_SECONDS: Final = 0.3

FIGURES: Final = {
    "sync": ("the first sync", "s of processor time", Target(3)),
    "memory": ("memory of the table", "MiB", Target(60)),
    "lookup": ("a lookup", "ns", Target(300)),
    "change": ("a change, until visible (slowest)", "ms", Target(250)),
    "turn": ("longest turn of the event loop", "ms", None),
}


def data(number: int, extra: str = "") -> dict[str, str]:
    """Return the data of a ConfigMap."""
    names = [f"adapter-{number:04}-{index:03}" for index in range(ADAPTERS)]
    return {"baseModel": f"org/base-model-{number:04}", "adapters": "".join(f"- {name}\n" for name in [*names, extra])}


def config_map(number: int, version: int = 1, extra: str = "") -> SourceObject:
    """Return it as a source gives it to the table."""
    texts = data(number, extra)
    origin = Origin(configmap.KIND, f"models-{number:04}", "default", float(number))
    return SourceObject(f"default/models-{number:04}", version, lambda: configmap.parse(texts, origin))


class Turns:
    """The longest time that another task had to wait for its turn."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last)
            last = now

    async def stop(self) -> float:
        """Return it, in milliseconds."""
        self._task.cancel()
        await asyncio.wait([self._task])
        return self.longest * 1e3


async def alone() -> dict[str, float]:
    """Return the figures of a table by itself."""
    table = Table(["kubernetes"])
    follower = asyncio.create_task(table.run())
    objects = [config_map(number) for number in range(OBJECTS)]
    gc.collect()
    resident = machine.memory_kib(os.getpid())
    begun = time.process_time()
    table.replace("kubernetes", objects)
    await table.wait_synced()
    found = {"sync": time.process_time() - begun}
    assert table.registry.size == OBJECTS * (ADAPTERS + 1), table.registry.size
    objects.clear()
    gc.collect()
    found["memory"] = (machine.memory_kib(os.getpid()) - resident) / 1024
    found["lookup"] = lookup_ns(table.registry)
    found["change"] = max([await change_ms(table, number) for number in range(CHANGES)])
    objects = [config_map(number, version=100) for number in range(OBJECTS)]
    turns = Turns()
    await asyncio.sleep(0)
    table.replace("kubernetes", objects)
    await table.swapped()
    found["turn"] = await turns.stop()
    follower.cancel()
    await asyncio.wait([follower])
    return found


def lookup_ns(registry: Registry) -> float:
    """Return how long it takes to find a name, a string of its own as a request's is."""
    numbers = random.Random(workload.SEED)
    names = [f"adapter-{numbers.randrange(OBJECTS):04}-{numbers.randrange(ADAPTERS):03}" for _ in range(LOOKUPS)]
    find = registry.find

    def lookups() -> None:
        for name in names:
            find(name)

    assert all(map(find, names))
    return min(timeit.repeat(lookups, number=1, repeat=7)) / LOOKUPS * 1e9


async def change_ms(table: Table, number: int) -> float:
    """Return how long it takes until a new adapter is there."""
    begun = time.perf_counter()
    table.put("kubernetes", config_map(number, version=number + 2, extra=f"new-{number}"))
    while (entry := table.registry.find(f"new-{number}")) is None:
        await table.swapped()
    assert entry.base_model == f"org/base-model-{number:04}"
    return (time.perf_counter() - begun) * 1e3


def rounds_alone(rounds: int) -> list[Row]:
    """Measure a table by itself, in processes of its own."""
    command = [sys.executable, "-m", "bench.parts.table", "--alone"]
    found = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(rounds)
    ]
    rows = []
    for name, (case, unit, limit) in FIGURES.items():
        rows += compare(case, unit, [Variant("table", limit=limit)], {"table": [each[name] for each in found]})
    return rows


def under_load(rounds: int) -> list[Row]:
    """Measure exchanges with and without changes of the table, in turn."""
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch)
        for number in range(OBJECTS):
            write(files, number)
        with machine.router("uv", f"--models={files}") as router:
            made = pool(SIZE)
            answer = machine.answer(router, made.sent)
            quiet, busy = [], []
            with Load(router.port, CONNECTIONS, 1, made, answer) as load:
                window(load, None)  # warm
                for _ in range(rounds):
                    quiet.append(window(load, None))
                    busy.append(window(load, files))
            swaps = router.stderr.count("the model table is in use")
    assert swaps >= rounds, f"{swaps} swaps in {rounds} windows"
    print(f"{swaps} swaps in {rounds} windows of {WINDOW_SECONDS:g} s; {sum(map(len, quiet + busy)):,} exchanges")
    variants = [Variant("no changes"), Variant("changes", "no changes")]

    def rows(case: str, percent: float) -> list[Row]:
        figures = {"no changes": [percentile(each, percent) for each in quiet]}
        figures["changes"] = [percentile(each, percent) for each in busy]
        return compare(case, "ms", variants, figures)

    found = rows("exchanges, 50th percentile", 50) + rows("exchanges, 99th percentile", 99)
    found += rows("exchanges, 99.9th percentile", 99.9) + rows("exchanges, slowest", 100)
    # On a busy machine the first of these says what the second has to be seen beside.
    p99 = statistics.median(percentile(each, 99) for each in quiet)
    above = {
        name: [max(each) - p99 for each in windows] for name, windows in (("no changes", quiet), ("changes", busy))
    }
    limited = [Variant("no changes"), Variant("changes", limit=Target(5))]
    return found + compare("slowest, above p99 of no changes", "ms", limited, above)


def write(files: Path, number: int, extra: str = "") -> None:
    """Write a file of the table; the first one has the adapter that the load asks for."""
    texts = data(number, extra or (workload.MODEL if number == 0 else f"more-{number}"))
    adapters = "".join(f"    {line}\n" for line in texts["adapters"].splitlines())
    text = f"models:\n- name: {texts['baseModel']}\n  adapters:\n{adapters}"
    fresh = files / ".fresh"
    fresh.write_text(text, encoding="utf-8")
    fresh.rename(files / f"models-{number:04}.yaml")


def window(load: Load, files: Path | None) -> list[float]:
    """Return the milliseconds of all exchanges of a while; during it a file changes every so often."""
    load.seconds = []
    begun = changed = time.perf_counter()
    while (now := time.perf_counter()) - begun < WINDOW_SECONDS:
        if files and now - changed >= CHANGE_EVERY_SECONDS:
            write(files, random.randrange(1, OBJECTS), f"fresh-{time.time_ns()}")
            changed = time.perf_counter()
        load.run(100)
    return [seconds * 1e3 for seconds in load.seconds]


def percentile(figures: list[float], percent: float) -> float:
    """Return the figure that so many percent are at most."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def main() -> int:
    """Measure, print, and say which limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--alone", action="store_true", help="one round of the table by itself, as JSON")
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(uvloop.run(alone())))
        return 0
    machine.require("taskset")
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    print(heading())
    rows = rounds_alone(given.rounds) + under_load(given.rounds)
    if given.json:
        save(given.json, rows, vars(given))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
