"""`make release-prepare VERSION=X.Y.Z`: write a version wherever the project has it; begin its part of CHANGELOG.md.

It changes files and commits nothing. The version goes into bbr/__init__.py, the chart, and the commands of the guides
that name an image. In CHANGELOG.md "Unreleased" becomes "X.Y.Z (date)", and an empty "Unreleased" stands above it.
Last it lists the sentences that a first release makes wrong. It needs the standard library alone.
"""

import argparse
import datetime
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from deploy.release.version import ROOT, VersionError, notes, version

# Releases have three numbers, as the tag of the workflow and the version of a Helm chart.
_VERSION: Final = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_INTRODUCTION: Final = " Nothing has been released yet: everything below is in the first release."
# What texts say as long as nothing is published. They stay true until the workflow has ended, so a person changes them.
_NOT_YET: Final = re.compile(
    r"[Nn]o image is published(?!\")|[Nn]othing is published yet|not on PyPI yet"
    r"|[Nn]o tag has\s+been pushed|Nobody has pushed\s+a tag"
)


def parsed(name: str) -> tuple[int, int, int]:
    """Return the numbers of a version.

    Raises:
        VersionError: it is not written X.Y.Z.
    """
    found = _VERSION.fullmatch(name)
    if not found:
        raise VersionError(f"{name!r} is not a version such as 1.2.3")
    return int(found[1]), int(found[2]), int(found[3])


def pages(root: Path) -> list[Path]:
    """Return the texts that may name the version."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def prepare(name: str, date: str, root: Path = ROOT) -> list[str]:
    """Write a version everywhere; return the files that have changed, from the root of the project.

    Raises:
        VersionError: it is not a version, is older than the present one, has a section in CHANGELOG.md already, or
            "Unreleased" is empty. Then no file has changed.
    """
    now = version(root)
    if parsed(name) < parsed(now):
        raise VersionError(f"bbr is {now} already, which is later than {name}")
    log = (root / "CHANGELOG.md").read_text("utf-8")
    if re.search(rf"^## {re.escape(name)}\b(?!\.)", log, re.MULTILINE):
        raise VersionError(f'CHANGELOG.md has a section "## {name}" already: choose a later version')
    notes("Unreleased", root)
    log = log.replace(_INTRODUCTION, "", 1)
    log = re.sub(r"^## Unreleased$", f"## Unreleased\n\n## {name} ({date})", log, count=1, flags=re.MULTILINE)
    texts = {root / "CHANGELOG.md": log}
    code = root / "bbr/__init__.py"
    texts[code] = code.read_text("utf-8").replace(f'__version__ = "{now}"', f'__version__ = "{name}"')
    chart = root / "deploy/chart/Chart.yaml"
    texts[chart] = re.sub(
        rf'^((?:version|appVersion): "?){re.escape(now)}("?)$',
        rf"\g<1>{name}\g<2>",
        chart.read_text("utf-8"),
        flags=re.MULTILINE,
    )
    for page in pages(root):
        # An image's tag, and what `bbr version` prints. Figures name the version that they were measured with.
        texts[page] = re.sub(rf"\bbbr(:| (?=[\d.]+ \()){re.escape(now)}\b", rf"bbr\g<1>{name}", page.read_text("utf-8"))
    changed = [path for path, text in texts.items() if text != path.read_text("utf-8")]
    for path in changed:
        path.write_text(texts[path], "utf-8")
    return [path.relative_to(root).as_posix() for path in changed]


def not_yet(root: Path = ROOT) -> Iterator[str]:
    """Give the places whose sentence is wrong once something is published."""
    for page in [*pages(root), root / "CHANGELOG.md"]:
        text = page.read_text("utf-8")
        for found in _NOT_YET.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{page.relative_to(root).as_posix()}:{line}: {' '.join(found[0].split())}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare a release; return 0, or 1 if that is impossible."""
    parser = argparse.ArgumentParser(prog="make release-prepare VERSION=X.Y.Z", description=__doc__)
    parser.add_argument("version", help="X.Y.Z")
    parser.add_argument("--date", type=datetime.date.fromisoformat, help="YYYY-MM-DD (default: today, in UTC)")
    given = parser.parse_args(arguments)
    date = given.date or datetime.datetime.now(datetime.UTC).date()
    try:
        changed = prepare(given.version, date.isoformat())
    except VersionError as error:
        print(f"The release cannot be prepared: {error}.", file=sys.stderr)
        return 1
    print(f"Wrote {given.version} into {', '.join(changed)}.")
    if places := list(not_yet()):
        print("These sentences are wrong once this release is published. Correct them after it:")
        print(*(f"  {place}" for place in places), sep="\n")
    print("Next: `make release-check`, then commit and tag (docs/releasing.md).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
