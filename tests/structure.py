"""Print how the code is put together: python -m tests.structure [ROOT OF A CHECKOUT].

Units are the rooms of bbr, and the files in its root. A unit stands one layer above the highest of those that it
imports, so no import runs upwards unless there is a circle. Comments are lines that hold nothing else, per line of
code; lines of docstrings are neither.
"""

import argparse
import ast
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from tests.support.imports import imports

ROOT = Path(__file__).resolve().parents[1]
TOPS = ("bbr", "bench", "tests", "deploy")
GENERATED = "pb"


class Size(NamedTuple):
    """How long something is, and what."""

    lines: int
    name: str

    def __str__(self) -> str:
        return f"{self.lines} {self.name}"


class Source(NamedTuple):
    """One file: how long it is, how many of its lines are comments and code, and the sizes of what it defines."""

    size: Size
    comments: int
    code: int
    classes: list[Size]
    functions: list[Size]


def read(text: str, file: str) -> Source:
    """Count what the text of a file consists of."""
    docstrings: set[int] = set()
    in_strings: set[int] = set()
    classes, functions = [], []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            in_strings.update(range(node.lineno + 1, (node.end_lineno or 0) + 1))
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                docstrings.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
            if not isinstance(node, ast.Module):
                size = Size((node.end_lineno or 0) - node.lineno + 1, f"{file}:{node.name}")
                (classes if isinstance(node, ast.ClassDef) else functions).append(size)
    lines = {number: line.lstrip() for number, line in enumerate(text.splitlines(), 1)}
    written = {number for number, line in lines.items() if line} - docstrings
    comments = {number for number in written - in_strings if lines[number].startswith("#")}
    return Source(Size(len(lines), file), len(comments), len(written - comments), classes, functions)


def files(root: Path, top: str) -> list[Path]:
    """Return the files of Python below a folder that nobody generates."""
    return sorted(path for path in (root / top).rglob("*.py") if GENERATED not in path.relative_to(root).parts)


def sources(root: Path = ROOT, tops: Iterable[str] = TOPS) -> dict[str, list[Source]]:
    """Return all files of ours, by the folder at the top, or the one in it, that they lie in."""
    found: dict[str, list[Source]] = {}
    for path in (path for top in tops for path in files(root, top)):
        file = path.relative_to(root)
        found.setdefault("/".join(file.parts[:-1][:2]), []).append(read(path.read_text("utf-8"), str(file)))
    return found


def units(file: Path) -> set[str]:
    """Return the units of bbr that a file imports from."""
    return {
        name.split(".")[1]
        for name in imports(file.read_text("utf-8"))
        if name.startswith("bbr.") and not name.startswith("bbr.__")
    }


def dependences(root: Path = ROOT) -> dict[str, set[str]]:
    """Return each unit of bbr, and the others that it imports; what is generated is none."""
    found: dict[str, set[str]] = {}
    for path in files(root, "bbr"):
        unit = path.relative_to(root).parts[1].removesuffix(".py")
        if unit != "__init__":
            found.setdefault(unit, set()).update(units(path) - {unit, GENERATED})
    return found


def layers(of: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the units of each layer, the lowest first; raise CycleError, which names the circle, if there is one."""
    order = TopologicalSorter(of)
    order.prepare()
    found = []
    while ready := order.get_ready():
        found.append(sorted(ready))
        order.done(*ready)
    return found


def row(folder: str, several: list[Source]) -> str:
    """Return a line of the table: a folder's files and lines, and the longest of each."""
    comments, code = sum(each.comments for each in several), sum(each.code for each in several)
    longest = (
        max((each.size for each in several), default=""),
        max((size for each in several for size in each.classes), default=""),
        max((size for each in several for size in each.functions), default=""),
    )
    names = "  ".join(str(each).replace(f"{folder}/", "") or "-" for each in longest)
    lines = sum(each.size.lines for each in several)
    return f"{folder:<24} {len(several):>5} {lines:>6} {comments / code if code else 0:>8.3f}  {names}"


def main() -> None:
    """Print the units and layers of bbr, and what each folder has."""
    parser = argparse.ArgumentParser(prog="python -m tests.structure", description=__doc__)
    parser.add_argument("root", type=Path, nargs="?", default=ROOT, help="the root of a checkout (default: this one)")
    root = parser.parse_args().root.resolve()
    of = dependences(root)
    print(f"bbr: {len(of)} units, {sum(map(len, of.values()))} dependences between them")
    try:
        for number, names in reversed([*enumerate(layers(of), 1)]):
            print(f"  layer {number:>2}: {', '.join(names)}")
    except CycleError as error:
        print(f"  a circle: {' <- '.join(error.args[1])}")
    print(f"\n{'folder':<24} {'files':>5} {'lines':>6} {'comments':>8}  longest file, class and function")
    found = sources(root)
    for top in TOPS:
        for folder in sorted(each for each in found if each.split("/")[0] == top):
            print(row(folder, found[folder]))
        print(row(f"{top} in all", [each for folder in found if folder.split("/")[0] == top for each in found[folder]]))


if __name__ == "__main__":
    main()
