"""Render what benchmarks have found: python -m bench.report FILE... prints their files as tables in Markdown."""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.figures import short


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


def main(arguments: list[str] | None = None) -> int:
    """Print files."""
    parser = argparse.ArgumentParser(description="Print figures of benchmarks in Markdown.")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    for path in parser.parse_args(arguments).files:
        print("\n".join(markdown(json.loads(path.read_text()))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
