"""Writes the chart's copies of files outside it, and its list of flags. Run: python -m deploy.render.copies [--check]

The copies are no links: what takes a chart out of a repository (Flux, Rancher) leaves links out, and the files vanish.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from bbr.config import go_flags
from bbr.config import settings as config
from deploy.render import helm

SOURCE: Final = helm.ROOT / "deploy" / "dashboards"
COPIES: Final = helm.CHART / "dashboards"
_FILES: Final = ("alerts.yaml", "bbr.json")
# What the chart compares bbr.flags with: a pod whose flag is mistyped would never be ready.
FLAGS: Final = helm.CHART / "files" / "flags.yaml"


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


def flags() -> str:
    """Return all flags that `bbr serve` takes, the Go routers' among them, as a list in YAML."""
    own = {config.flag_of(name).removeprefix("--") for name in config.OPTIONS}
    theirs = {go_flags.PLUGIN, go_flags.CONFIG_FILE, go_flags.CONFIG_TEXT, go_flags.STREAMING, go_flags.VERBOSITY}
    names = sorted(own | theirs | set(go_flags.IDLE_SWITCHES) | set(go_flags.IDLE_VALUES))
    return "".join(["# Written by deploy/render/copies.py.\n", *(f"- {name}\n" for name in names)])


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    if parser.parse_args().check:
        wrong = outdated()
        for name in wrong:
            print(f"deploy/chart/dashboards/{name} is out of date: run make manifests", file=sys.stderr)
        if FLAGS.read_text("utf-8") != flags():
            wrong.append(FLAGS.name)
            print("deploy/chart/files/flags.yaml is out of date: run make manifests", file=sys.stderr)
        return 1 if wrong else 0
    write()
    FLAGS.write_text(flags(), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
