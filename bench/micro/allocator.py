"""What keeping freed memory saves (bbr/system/allocator.py), by body size. Run: python -m bench.micro.allocator

Two routers, one with malloc as glibc has it: a setting of GLIBC_TUNABLES that changes nothing leaves it alone. They
take turns under h2load, with up to 64 exchanges at a time (bench.published.direct). What glibc does by itself depends
on how the heap of a process has come to lie: run it several times.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.harness import machine
from bench.harness.figures import Variant, compare, heading
from bench.published import direct
from bench.published.direct import Case, Server

SIZES = (1_000, 100_000, 1_000_000, 4_000_000)
VARIABLE = "GLIBC_TUNABLES"


@contextmanager
def left_alone() -> Iterator[None]:
    """Let a program that is started find malloc's settings in its environment: those that it has anyway."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "glibc.malloc.perturb=0"
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    machine.require("h2load", "taskset")
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    print(heading())
    with ExitStack() as stack:
        with left_alone():
            default = stack.enter_context(machine.router("uv"))
        kept = stack.enter_context(machine.router("uv"))
        servers = [Server("as glibc has it", default.port, default.pid), Server("kept", kept.port, kept.pid)]
        variants = [Variant("as glibc has it"), Variant("kept", "as glibc has it")]
        for size in SIZES:
            case = Case("size", size)
            sent = direct.exchange(case)
            with direct.call_file(sent) as data:
                turns = {server.name: direct.by_h2load(server, case, sent, data) for server in servers}
                found = direct.alternate(turns, given.rounds)
            figures = {name: [cpu for cpu, _ in each] for name, each in found.items()}
            compare(case.name, "us / exchange", variants, figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
