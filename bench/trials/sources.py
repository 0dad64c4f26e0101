"""What hostile objects of a cluster do to requests, and what reading them costs. Part of `make abuse`

A router follows a fake API server, and a client sends short exchanges at a steady rate. In every other turn one object
of about a megabyte is written again and again: a ConfigMap whose adapters are odd YAML, or one whose JSON is long. The
figures are the p99 with the writer less that of the turn before without, the median over the rounds, and the processor
time of one write in the router and in the process that parses for it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop

from bench.harness import machine
from bench.harness.fake_kubernetes import FakeKubernetes
from bench.trials.bad_connections import p99_ms

MOST_ADDED_MS: Final = 20.0

# Of one write, some four times what a core of 2026 takes. The router's is that of receiving and, where there are names,
# of merging them; the other's begins with its start, 0.15 s.
ROUTER_SECONDS: Final = 1.0
OTHER_SECONDS: Final = 3.0

BYTES: Final = 1_000_000
_CHANGES: Final = 2


def _lines(unit: str) -> str:
    return unit * (BYTES // len(unit.encode()))


class Attack(NamedTuple):
    """The data of a ConfigMap, made anew for each write with another number in it."""

    data: Callable[[int], dict[str, str]]


def _adapters(text: Callable[[], str]) -> Attack:
    return Attack(lambda number: {"baseModel": f"m{number}", "adapters": text()})


ATTACKS: Final = {
    "%TAG directives": _adapters(lambda: "".join(f"%TAG !a{n}! b\n" for n in range(BYTES // 16)) + "--- a"),
    "a flow mapping": _adapters(lambda: "{" + _lines("a,") + "}"),
    "a flow sequence": _adapters(lambda: "[" + _lines("a,") + "]"),
    "100,000 adapters": _adapters(lambda: "".join(f"- x{n}\n" for n in range(100_000))),
    "one adapter of a megabyte": _adapters(lambda: "- " + _lines("\u6f22")),
    "comments": _adapters(lambda: _lines("#\n")),
    "an alias bomb": _adapters(
        lambda: "- &a0 x\n" + "".join(f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 7_000))
    ),
    "JSON of escapes": Attack(lambda number: {"baseModel": f"m{number}", "other": _lines("\x01")}),
    "100,000 keys": Attack(lambda number: {"baseModel": f"m{number}", **{f"k{n}": "x" for n in range(100_000)}}),
}


async def _serve(directory: Path) -> None:
    """Be the API server until standard input ends; each line of it names an attack."""
    async with FakeKubernetes() as server:
        server.put("honest", data={"baseModel": "qwen", "adapters": "- sql-lora"})
        server.kubeconfig(directory)
        print("ready", flush=True)
        number = 0
        while line := await asyncio.to_thread(sys.stdin.readline):
            number += 1
            server.put("hostile", data=ATTACKS[json.loads(line)].data(number))
            print("written", flush=True)


class Cluster:
    """A fake API server in a process of its own."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-m", "bench.trials.sources", "--serve", str(directory)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        machine.pin(self._process.pid, machine.LOAD_CPU)
        os.sched_setscheduler(self._process.pid, os.SCHED_IDLE, os.sched_param(0))
        self._answer()

    def write(self, attack: str) -> None:
        """Write a new state of the hostile object."""
        assert self._process.stdin is not None
        print(json.dumps(attack), file=self._process.stdin, flush=True)
        self._answer()

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the API server has ended"


def children_seconds(pid: int) -> float:
    """Return the processor time of a process's children, those that run and those that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    running = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            with contextlib.suppress(OSError):
                running += machine.cpu_seconds(int(child))
    return ended + running


@contextlib.contextmanager
def _writing(cluster: Cluster, attack: str, seconds: float) -> Iterator[None]:
    """Write an object again and again for a while."""

    def write() -> None:
        for _ in range(_CHANGES):
            cluster.write(attack)
            time.sleep(seconds / _CHANGES)

    writer = threading.Thread(target=write)
    writer.start()
    yield
    writer.join()


class Figures(NamedTuple):
    """What an attack did.

    Attributes:
        alone: the median p99 without it, in milliseconds.
        added: what it added to that in each round.
        router: seconds of processor time of one write in the router, beyond those of its requests.
        other: the same in the process that parses.
    """

    alone: float
    added: list[float]
    router: float
    other: float


def measured(pid: int, port: int, cluster: Cluster, attack: str, rounds: int, seconds: float) -> Figures:
    """Return what an attack does to a router."""
    without, added, router, other = [], [], [], []
    for _ in range(rounds):
        begun = machine.cpu_seconds(pid)
        without.append(uvloop.run(p99_ms(port, seconds)))
        requests = machine.cpu_seconds(pid) - begun
        begun, children = machine.cpu_seconds(pid), children_seconds(pid)
        with _writing(cluster, attack, seconds):
            added.append(uvloop.run(p99_ms(port, seconds)) - without[-1])
        time.sleep(1.0)  # until the last write has been read
        router.append((machine.cpu_seconds(pid) - begun - requests) / _CHANGES)
        other.append((children_seconds(pid) - children) / _CHANGES)
    return Figures(statistics.median(without), added, statistics.median(router), statistics.median(other))


def main(arguments: list[str] | None = None) -> int:
    """Measure all attacks; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn (3)")
    parser.add_argument("--attack", choices=ATTACKS, help="this one alone")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)  # be the API server
    given = parser.parse_args(arguments)
    if given.serve:
        uvloop.run(_serve(given.serve))
        return 0
    machine.require()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    try:
        return _measure(given)
    finally:
        os.sched_setaffinity(0, before)


def _measure(given: Any) -> int:
    over = 0
    heads = ("p99 without", "added, ms: median", "most", "router s", "other s")
    print(f"{'an object that is written':<28} {heads[0]:>11} {heads[1]:>17} {heads[2]:>7} {heads[3]:>9} {heads[4]:>8}")
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(Path(directory))
        try:
            with machine.router("uv", "--kubernetes", f"--kubeconfig={directory}/kubeconfig") as router:
                for name in [given.attack] if given.attack else ATTACKS:
                    found = measured(router.pid, router.port, cluster, name, given.rounds, given.seconds)
                    added = statistics.median(found.added)
                    bad = added > MOST_ADDED_MS or found.router > ROUTER_SECONDS or found.other > OTHER_SECONDS
                    over += bad
                    print(
                        f"{name:<28} {found.alone:>11.2f} {added:>17.2f} {max(found.added):>7.2f} "
                        f"{found.router:>9.3f} {found.other:>8.3f}{'  OVER' if bad else ''}",
                        flush=True,
                    )
        finally:
            cluster.stop()
    return over > 0


if __name__ == "__main__":
    raise SystemExit(main())
