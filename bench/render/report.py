"""Render what benchmarks have found.

    python -m bench.render.report FILE...    print files as tables in Markdown
    python -m bench.render.report --write    put the tables and plots of bench/results into README.md and docs
    python -m bench.render.report --check    say which of them --write would change; exit status 1 if any

A table stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` (names: `bench.render.tables.BLOCKS`, and
`plot-` with a name of `bench.render.plots.PLOTS`); nobody writes between the two by hand.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bench.harness.figures import short
from bench.render import plots, reasons, tables
from bench.render.results import RecordError, Results

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("README.md", "docs/performance.md", "docs/scaling.md")
PLOTS: Final = "docs/plots"
BLOCKS: Final[Mapping[str, Callable[[Results], list[str]]]] = {**tables.BLOCKS, **plots.BLOCKS, **reasons.BLOCKS}

_BLOCK: Final = re.compile(r"^<!-- bench:(\S+) -->\n(.*?)^<!-- /bench:\1 -->$", re.DOTALL | re.MULTILINE)
_MARK: Final = re.compile(r"^<!-- /?bench:", re.MULTILINE)


def markdown(found: Mapping[str, Any]) -> Iterator[str]:
    """Give the lines of a file's table, below one that says where its figures come from."""
    machine, versions = found["machine"], found["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield f"{found['commit']}, {found['ended']}, {machine['processors']} x {machine['processor']}; {packages}"
    yield ""
    yield "| case | variant | median | spread | ratio | target |"
    yield "|---|---|---|---|---|---|"
    for row in found["rows"]:
        spread = f"{short(min(row['figures']))} - {short(max(row['figures']))}"
        ratio = f"{row['ratio']:.2f} to {row['against']}" if row["ratio"] is not None else ""
        targets = "; ".join(f"{each['target']}: {'met' if each['met'] else 'MISSED'}" for each in row["targets"])
        cells = (row["case"], row["variant"], f"{short(row['median'])} {row['unit']}", spread, ratio, targets)
        yield "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


def render(page: str, text: str, results: Results) -> str:
    """Return a page's text with its blocks made anew.

    Raises:
        RecordError: a block has no such name, or no end of its own; the message names page and block.
    """

    def block(match: re.Match[str]) -> str:
        name = match[1]
        if name not in BLOCKS:
            raise RecordError(f"{page}: there is no block {name!r}; there are {', '.join(sorted(BLOCKS))}")
        lines = "\n".join(BLOCKS[name](results))
        return f"<!-- bench:{name} -->\n{lines}\n<!-- /bench:{name} -->"

    if len(_MARK.findall(text)) != 2 * len(_BLOCK.findall(text)):
        raise RecordError(f"{page}: a block lacks its <!-- bench:NAME --> or its <!-- /bench:NAME -->")
    return _BLOCK.sub(block, text)


def wanted(root: Path, results: Results) -> dict[Path, bytes | None]:
    """Return what must be in each page and plot; None for a plot that must not be there."""
    found: dict[Path, bytes | None] = {}
    for page in PAGES:
        path = root / page
        found[path] = render(page, path.read_text("utf-8"), results).encode()
    return found | {root / PLOTS / name: octets for name, octets in plots.files(results).items()}


def stale(files: Mapping[Path, bytes | None]) -> list[Path]:
    """Return those of the files that are not as they must be."""
    return [path for path, octets in files.items() if (path.read_bytes() if path.exists() else None) != octets]


def write(files: Mapping[Path, bytes | None]) -> None:
    """Make files what they must be."""
    for path, octets in files.items():
        if octets is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(octets)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Print files, or write or check what is rendered from results; 2 if a file is unusable."""
    parser = argparse.ArgumentParser(description="Render figures of benchmarks.")
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="print it in Markdown")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write tables and plots into README.md and docs")
    what.add_argument("--check", action="store_true", help="say which of them are out of date")
    parser.add_argument("--results", type=Path, default=root / "bench/results", metavar="DIR", help="(bench/results)")
    given = parser.parse_args(arguments)
    if bool(given.files) == (given.write or given.check):
        parser.error("give either files, or --write, or --check")
    for path in given.files:
        print("\n".join(markdown(json.loads(path.read_text()))))
    if given.files:
        return 0
    try:
        files = wanted(root, Results(given.results))
    except RecordError as error:
        print(error, file=sys.stderr)
        return 2
    differing = stale(files)
    if given.write:
        write(files)
    for path in differing:
        print(
            f"{path.relative_to(root)}: "
            + ("written" if given.write else "out of date: python -m bench.render.report --write")
        )
    return 1 if given.check and differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
