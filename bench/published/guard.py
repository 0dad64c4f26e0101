"""Has our transport become dearer? A minute's measuring against the committed figures.

Run: python -m bench.published.guard.

What is compared is the ratio of uv's processor time to grpcio's, each measured in the same rounds on the same machine
(bench.published.direct): that carries over from one machine to another, as microseconds do not. Named is what costs uv
more than it did by over 15%. No verdict, unless --strict asks for one: a machine that others share can be off by as
much.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.harness import machine
from bench.harness.figures import Row, heading
from bench.published import direct
from bench.published.direct import BUFFERED, Case

RESULTS: Final = Path(__file__).resolve().parents[1] / "results" / "direct.json"
WITHIN: Final = 0.15
ROUNDS: Final = 3

CASES: Final = (
    *(Case("size", size) for size in (0, 1_000, 10_000, 100_000, 1_000_000)),
    *(Case("mode", size, mode=BUFFERED) for size in (1_000, 100_000)),
    *(Case("kind", 100_000, kind) for kind in ("conversation", "tools")),
)


class Compared(NamedTuple):
    """A case's ratios, uv's processor time to grpcio's.

    Attributes:
        case: its name.
        before: the committed ratio; None if there is none.
        now: the ratio of today.
    """

    case: str
    before: float | None
    now: float

    @property
    def worse(self) -> float:
        """By which part of what it was the ratio has grown; negative if it has become less."""
        return self.now / self.before - 1 if self.before else 0.0

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.case:<28} uv/grpcio {self.now:.4f}, not among the committed figures"
        return f"{self.case:<28} uv/grpcio {self.now:.4f}, committed {self.before:.4f}, {self.worse:+.0%}"


def ratio(uv: Sequence[float], grpcio: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(own / other for own, other in zip(uv, grpcio, strict=True))


def ratios(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the ratios by what a case is about, of rows as they stand in a file."""
    by_case: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        facts = row["facts"]
        if facts.get("metric") == "cpu":
            by_case.setdefault(_key(facts), {})[row["variant"]] = row["figures"]
    return {
        key: ratio(figures["uv"], figures["grpcio"])
        for key, figures in by_case.items()
        if figures.keys() >= {"uv", "grpcio"}
    }


def _key(facts: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in facts.items() if name != "metric"}, sort_keys=True)


def compare(rows: Sequence[Row], committed: Sequence[Mapping[str, Any]]) -> list[Compared]:
    """Return each measured case beside the committed one."""
    before = ratios(committed)
    names = {_key(row.facts): row.case.rpartition(",")[0] for row in rows}
    found = ratios([row.as_json() for row in rows])
    return [Compared(names[key], before.get(key), now) for key, now in found.items()]


def verdict(compared: Sequence[Compared], within: float) -> Iterator[str]:
    """Give what to print: all cases, and then those that are worse by more than `within`."""
    yield from map(str, compared)
    worse = [each for each in compared if each.worse > within]
    for each in worse:
        yield f"WORSE by {each.worse:.0%}: {each.case}"
    known = sum(each.before is not None for each in compared)
    if not worse:
        yield f"nothing of {known} cases is worse by more than {within:.0%}"


def main() -> int:
    """Measure and compare; return 1 with --strict if something is worse, 2 if there is nothing to compare with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"that count ({ROUNDS})")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="what to compare with")
    parser.add_argument("--within", type=float, default=WITHIN, metavar="PART", help=f"that is no news ({WITHIN})")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if something is worse")
    given = parser.parse_args()
    try:
        committed = json.loads(given.results.read_text("utf-8"))["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{given.results} has no figures to compare with ({error!r}): run make bench", file=sys.stderr)
        return 2
    machine.require("h2load", "taskset")
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    print(heading())
    compared = compare(direct.run(CASES, [], given.rounds), committed)
    if all(each.before is None for each in compared):
        print(f"{given.results} has none of these cases: there is nothing to compare with", file=sys.stderr)
        return 2
    print("", *verdict(compared, given.within), sep="\n")
    return int(given.strict and any(each.worse > given.within for each in compared))


if __name__ == "__main__":
    raise SystemExit(main())
