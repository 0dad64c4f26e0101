"""What benchmarks have recorded (`figures.save`), read again, and found by facts."""

import json
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.harness.figures import Facts, short

_HOW: Final = (
    "Figures are medians of {} rounds, with the smallest and the largest in brackets; one without brackets is of "
    "all rounds together."
)
_OPTIONAL: Final = frozenset({"kind", "tls", "tracing"})

NAMES: Final = ("direct", "gateway", "accuracy", "memory", "pattern2")


class RecordError(Exception):
    """A file is not what a benchmark writes; the message names it and what is wrong."""


@dataclass(frozen=True)
class Entry:
    """A row of a file: what was measured, one figure for each round."""

    case: str
    variant: str
    unit: str
    figures: tuple[float, ...]
    facts: Facts

    @property
    def median(self) -> float:
        """The middle of the figures."""
        return statistics.median(self.figures)

    @property
    def spread(self) -> str:
        """The smallest and the largest figure; "" if there is one only."""
        return f"{short(min(self.figures))} to {short(max(self.figures))}" if len(self.figures) > 1 else ""

    def __str__(self) -> str:
        return f"{short(self.median)} ({self.spread})" if self.spread else short(self.median)

    def by(self, other: "Entry") -> "Entry | None":
        """Return this one's figures by another's of the same round; None if rounds differ or a figure is 0."""
        if len(self.figures) != len(other.figures) or not all(other.figures):
            return None
        ratios = tuple(mine / its for mine, its in zip(self.figures, other.figures, strict=True))
        return Entry(self.case, self.variant, "", ratios, self.facts)


class Record:
    """One file of a benchmark."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.found = found
        self.entries = [
            Entry(row["case"], row["variant"], row["unit"], tuple(row["figures"]), row["facts"])
            for row in found["rows"]
            if row["figures"]
        ]

    def where(self, variant: str | None = None, **facts: str | int | float) -> list[Entry]:
        """Return the rows of a variant that have these facts.

        What is the same in all that a benchmark does (_OPTIONAL) it need not state.
        """
        return [
            entry
            for entry in self.entries
            if variant in (None, entry.variant)
            and all(
                entry.facts.get(name, wanted if name in _OPTIONAL else None) == wanted for name, wanted in facts.items()
            )
        ]

    def one(self, variant: str, **facts: str | int | float) -> Entry | None:
        """Return the first row of a variant that has these facts, if there is one."""
        return next(iter(self.where(variant, **facts)), None)

    def conditions(self) -> Iterator[str]:
        """Give what must stand below a table of this file: the command, and what it ran on."""
        yield self.command
        if left_out := self.found["options"].get("left_out"):
            # Cell and variant; the file has the answers too.
            found = re.findall(r"((?:closed|open) [^:;]+): without ([^:;]+)", left_out)
            cases = "; ".join(f"{variant} ({cell.replace('FDS', 'full duplex')})" for cell, variant in found)
            yield f"Without a figure, because the variant answered the case wrongly: {cases}."
        yield self.circumstances

    @property
    def command(self) -> str:
        """How to get such figures, and what is made of a run's rounds."""
        rounds = max((len(entry.figures) for entry in self.entries), default=0)
        said = _HOW.format(rounds) if rounds > 1 else "One run."
        return f"Reproduce: `{self.found['command']}`; `make bench` measures all tables. {said}"

    @property
    def circumstances(self) -> str:
        """What the figures were measured on, and when."""
        found, machine = self.found, self.found["machine"]
        packages = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
        return (
            f"Conditions: {machine['processors']} x {machine['processor']}, {machine['system']}; {packages}; commit "
            f"{found['commit']}, {found['ended'][:10]}."
        )


def variants(entries: list[Entry]) -> list[str]:
    """Return the names of the variants: without a router, ours, then as they come."""
    names = list(dict.fromkeys(entry.variant for entry in entries))
    return sorted(names, key=lambda name: 0 if name.startswith("none") else 1 if name == "uv" else 2)


class Results:
    """The files of a directory; one that is not there is None."""

    def __init__(self, directory: Path) -> None:
        self._records = {name: self._read(directory / f"{name}.json") for name in NAMES}

    def __getitem__(self, name: str) -> Record | None:
        return self._records[name]

    @staticmethod
    def _read(path: Path) -> Record | None:
        try:
            return Record(json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path} is not what a benchmark writes: {type(error).__name__}: {error}") from None
