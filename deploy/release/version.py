"""The version of a release: python -m deploy.release.version [--tag vX.Y.Z] [--notes]

bbr/__init__.py has it. The chart must have the same version. With --tag the tag must be equal to it, and CHANGELOG.md
must have a section of that name. Prints the version, or with --notes that section (without --tag: "Unreleased"). It
needs the standard library alone.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


class VersionError(Exception):
    """Two places disagree; the message names both."""


def version(root: Path = ROOT) -> str:
    """Return the version of the code.

    Raises:
        VersionError: the chart has another one.
    """
    found = re.search(r'^__version__ = "([^"]+)"$', (root / "bbr/__init__.py").read_text("utf-8"), re.MULTILINE)
    if not found:
        raise VersionError("bbr/__init__.py has no __version__")
    chart = (root / "deploy/chart/Chart.yaml").read_text("utf-8")
    for name in ("version", "appVersion"):
        said = re.search(rf'^{name}: "?([^"\n]+)"?$', chart, re.MULTILINE)
        if not said or said[1] != found[1]:
            raise VersionError(f"deploy/chart/Chart.yaml: {name} is {said and said[1]}, and bbr is {found[1]}")
    return found[1]


def notes(name: str, root: Path = ROOT) -> str:
    """Return a section of CHANGELOG.md, without its heading.

    Raises:
        VersionError: there is none, or it is empty.
    """
    text = (root / "CHANGELOG.md").read_text("utf-8")
    sections = dict(re.findall(r"^## (\S+)[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    found = sections.get(name, "").strip()
    if not found:
        remedy = "" if name == "Unreleased" else f" (`make release-prepare VERSION={name}` makes this section)"
        raise VersionError(f'CHANGELOG.md has nothing under "## {name}"{remedy}')
    return found + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Print what is asked for; return 1 if two places disagree."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release.version", description=__doc__)
    parser.add_argument("--tag", metavar="vX.Y.Z", help="the tag that the version must have")
    parser.add_argument("--notes", action="store_true", help="print the section of CHANGELOG.md")
    given = parser.parse_args(arguments)
    try:
        found = version()
        if given.tag is not None and given.tag != f"v{found}":
            raise VersionError(f"the tag is {given.tag}, and bbr is {found}")
        text = notes(found if given.tag else "Unreleased")
    except VersionError as error:
        print(f"{error}.", file=sys.stderr)
        return 1
    print(text if given.notes else found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
