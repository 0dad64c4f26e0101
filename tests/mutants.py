"""L6 of the cases: take conditions out of bbr.http2 and bbr.rpc, one at a time, and see whether a test fails.

    python -m tests.mutants --count 60 [--seed 1] [--jobs 2]

A mutant is a copy of the sources with one condition held true or false, or one operand of `and` or `or` left out. The
fast tests of the two rooms run on it until the first failure. Those that pass are listed: either a test is missing, or
the condition makes no difference that anyone could see (each of those should be explained in EQUIVALENT).
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("bbr/http2", "bbr/rpc")
# A mutant may never end: that is noticed too.
DEADLINE_SECONDS = 600
TESTS = (
    "tests/unit/http2",
    "tests/unit/rpc",
    "tests/conformance/http2/test_preface_and_frames.py",
    "tests/conformance/http2/test_streams.py",
    "tests/conformance/http2/test_each_frame.py",
    "tests/conformance/http2/test_flow_control.py",
    "tests/conformance/http2/test_http_semantics.py",
    "tests/conformance/http2/test_hpack_blocks.py",
    "tests/conformance/grpc/test_calls.py",
    "tests/conformance/http2/test_envoy_guards.py",
    "tests/conformance/http2/test_memory_bounds.py",
    "tests/conformance/http2/test_abuse.py",
    "tests/property/test_http2_windows.py",
    "tests/property/test_http2_chunking.py",
    "tests/property/test_http2_differential.py",
    "tests/property/test_http2_fields.py",
)

# Conditions without which nothing that a peer or an owner can see changes: file and condition, and why.
EQUIVALENT: dict[tuple[str, str], str] = {
    (
        "bbr/rpc/openings.py",
        'section.get(b":path") or b""',
    ): "no request without :path gets here; it is for the types",
}


class Mutant(NamedTuple):
    """One change.

    Attributes:
        file: relative to the root.
        line: of the condition.
        was: the condition's source text.
        now: what stands there instead.
        span: where, as offsets of the text.
    """

    file: str
    line: int
    was: str
    now: str
    span: tuple[int, int]


def mutants(file: str, text: str) -> Iterator[Mutant]:
    """Give every mutant of a file."""
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def mutant(node: ast.expr, now: str) -> Mutant:
        span = (starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset)
        return Mutant(file, node.lineno, text.encode()[slice(*span)].decode(), now, span)

    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.If | ast.IfExp):
            yield mutant(node.test, "False")
            yield mutant(node.test, "True")
        elif isinstance(node, ast.BoolOp):
            for index in range(len(node.values)):
                rest = [ast.unparse(each) for at, each in enumerate(node.values) if at != index]
                word = " and " if isinstance(node.op, ast.And) else " or "
                yield mutant(node, "(" + word.join(f"({each})" for each in rest) + ")")


def mutated(text: str, mutant: Mutant) -> str:
    """Return the text with the change made."""
    octets = text.encode()
    start, end = mutant.span
    return (octets[:start] + mutant.now.encode() + octets[end:]).decode()


def all_mutants() -> list[Mutant]:
    """Return every mutant of the rooms, in order."""
    found: list[Mutant] = []
    for room in ROOMS:
        for path in sorted((ROOT / room).glob("*.py")):
            file = path.relative_to(ROOT).as_posix()
            found += mutants(file, path.read_text("utf-8"))
    return found


def survives(mutant: Mutant | None, tests: tuple[str, ...] = TESTS) -> bool:
    """Run the tests on a copy with the change, or on an unchanged one; True if none of them fails.

    A run that does not end counts as a failure, and is told: it may be the machine that was too busy.

    Raises:
        AssertionError: the tests could not be run, or fail on the unchanged sources.
    """
    with tempfile.TemporaryDirectory(prefix="mutant") as scratch:
        copy = Path(scratch)
        for name in ("bbr", "tests", "bench", "protos"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if mutant is not None:
            path = copy / mutant.file
            path.write_text(mutated(path.read_text("utf-8"), mutant), "utf-8")
        # CI: the same examples for each mutant. Not the editable install's sources but the copy's.
        environment = os.environ | {"PYTHONPATH": scratch, "CI": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("COVERAGE_PROCESS_CONFIG", None)  # what a copy of the sources runs is no coverage of these
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
        existing = [each for each in tests if (copy / each).exists()]
        try:
            done = subprocess.run(
                [*command, *existing],
                cwd=scratch,
                env=environment,
                capture_output=True,
                text=True,
                timeout=DEADLINE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(f"not over in {DEADLINE_SECONDS} s: {mutant}", flush=True)
            return False
        assert done.returncode in ((0, 1, 2) if mutant else (0,)), done.stdout + done.stderr
        return done.returncode == 0


def main() -> int:
    """Run a sample, and list the survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    everything = all_mutants()
    sample = random.Random(arguments.seed).sample(everything, min(arguments.count, len(everything)))
    print(f"{len(sample)} of {len(everything)} mutants, seed {arguments.seed}", flush=True)
    survives(None)
    unexplained = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        running = {pool.submit(survives, mutant): mutant for mutant in sample}
        for done in as_completed(running):
            mutant = running[done]
            if done.result():
                why = EQUIVALENT.get((mutant.file, mutant.was))
                unexplained += why is None
                print(f"survived: {mutant.file}:{mutant.line}: {mutant.was}  ->  {mutant.now}  ({why})", flush=True)
    print(f"{unexplained} of {len(sample)} survive without an explanation")
    return unexplained > 0


if __name__ == "__main__":
    raise SystemExit(main())
