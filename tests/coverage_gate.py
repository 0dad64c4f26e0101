"""Print the coverage report, and hold it to its gates: run by `make cover` after `coverage combine`.

All lines and branches of the core and of the protocol layers are run by some test; of the rest, 90% together and 80% of
each file.
"""

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import coverage

ROOT = Path(__file__).resolve().parents[1]
WHOLE = (
    "bbr/budget.py",
    "bbr/refusal.py",
    "bbr/telemetry/metrics.py",
    "bbr/telemetry/observed.py",
    "bbr/telemetry/recent.py",
)
WHOLE_BELOW = ("bbr/exchange/", "bbr/http2/", "bbr/models/", "bbr/reading/", "bbr/rpc/")
WHOLE_PERCENT = 100.0
REST_PERCENT = 90.0
REST_FILE_PERCENT = 80.0


class File(NamedTuple):
    """How many lines and branches of a file there are, and how many ran."""

    name: str
    total: int
    run: int

    @property
    def percent(self) -> float:
        """The share that ran."""
        return percent([self])


def percent(files: Iterable[File]) -> float:
    """Return the share of lines and branches that ran in all files together."""
    files = list(files)
    total = sum(file.total for file in files)
    return 100.0 * sum(file.run for file in files) / total if total else 100.0


def failures(files: list[File]) -> Iterator[str]:
    """Give a sentence for each gate that is not met."""
    names = {file.name for file in files}
    for name in WHOLE:
        if name not in names:
            yield f"{name} was not measured: {WHOLE_PERCENT:g}% is required."
    rest = []
    for file in files:
        whole = file.name in WHOLE or file.name.startswith(WHOLE_BELOW)
        required = WHOLE_PERCENT if whole else REST_FILE_PERCENT
        if file.percent < required:
            # Cut, not rounded: 99.99% is no 100.
            yield f"{file.name} is covered to {int(file.percent * 100) / 100:g}%: {required:g}% is required."
        if not whole:
            rest.append(file)
    if percent(rest) < REST_PERCENT:
        yield f"The other files are covered to {percent(rest):.2f}% together: {REST_PERCENT:g}% is required."


def measured(report: dict[str, Any]) -> list[File]:
    """Return what a report of `coverage json` says of each file."""
    found = []
    for name, file in report["files"].items():
        summary = file["summary"]
        total = summary["num_statements"] + summary["num_branches"]
        found.append(File(Path(name).as_posix(), total, summary["covered_lines"] + summary["covered_branches"]))
    return found


def read(data: coverage.Coverage) -> list[File]:
    """Return what `data` holds of each file."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "coverage.json"
        data.json_report(outfile=str(path))
        return measured(json.loads(path.read_text("utf-8")))


def main() -> int:
    """Report, judge, and return the exit status."""
    data = coverage.Coverage(config_file=str(ROOT / "pyproject.toml"))
    data.load()
    data.report()
    bad = list(failures(read(data)))
    for sentence in bad:
        print(sentence, file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
