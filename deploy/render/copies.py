"""Writes the chart's copies of files outside it. Run: python -m deploy.render.copies [--check]

They are no links: what takes a chart out of a repository (Flux, Rancher) leaves links out, and the files vanish.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from deploy.render import helm

SOURCE: Final = helm.ROOT / "deploy" / "dashboards"
COPIES: Final = helm.CHART / "dashboards"
_FILES: Final = ("alerts.yaml", "bbr.json")


def outdated(directory: Path = COPIES) -> list[str]:
    """Return the names of the copies that are missing, are links, differ from their source, or are too many."""
    there = {file.name for file in directory.iterdir()} if directory.is_dir() else set()
    return sorted(name for name in there.union(_FILES) if name not in _FILES or not _is_copy(directory / name))


def _is_copy(file: Path) -> bool:
    return file.is_file() and not file.is_symlink() and file.read_bytes() == (SOURCE / file.name).read_bytes()


def write(directory: Path = COPIES) -> None:
    """Write all copies anew."""
    directory.mkdir(exist_ok=True)
    for name in outdated(directory):
        (directory / name).unlink(missing_ok=True)  # a link would be written through
    for name in _FILES:
        (directory / name).write_bytes((SOURCE / name).read_bytes())


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    if parser.parse_args().check:
        wrong = outdated()
        for name in wrong:
            print(f"deploy/chart/dashboards/{name} is out of date: run make manifests", file=sys.stderr)
        return 1 if wrong else 0
    write()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
