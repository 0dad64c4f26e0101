"""Run the tests of what has been touched: python -m tests.quick [--base main] [PYTEST'S OPTIONS].

Touched is what differs from where this branch left the base, uncommitted and new files included; if nothing does, what
the last commit changed. A module's tests are those that mirror it; those of them that need a gateway are left to
`make test`. Tests that were touched themselves are all run.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
# Where the tests of a directory's modules are. The first one that a path lies in counts.
MIRRORS = {
    "bbr": "tests/unit",
    "bench": "tests/bench",
    "deploy/dashboards": "tests/dashboards",
    "deploy/local": "tests/local",
    "deploy/render": "tests/deploy",
}
# What a change of any file below may break, beside the tests that mirror it. They take a second.
ALWAYS = {"bbr": ["tests/unit/test_imports.py"], "docs": ["tests/docs"], "README.md": ["tests/docs"]}
# What tests stand on, and where a change of it is tried. The other suites take too long.
SUPPORT = ("tests", "bench/harness")
SUPPORTED = ("tests/unit", "tests/bench")


def git(*arguments: str) -> list[str]:
    """Return the lines that git prints; end with its words if it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"git {' '.join(arguments)} failed.")
    return done.stdout.splitlines()


def touched(base: str) -> set[str]:
    """Return the paths of files that differ from `base` and are still there."""
    (fork,) = git("merge-base", base, "HEAD")
    found = {*git("diff", "--name-only", "--diff-filter=d", fork), *git("ls-files", "--others", "--exclude-standard")}
    return found or set(git("diff", "--name-only", "--diff-filter=d", "HEAD~1"))


def below(path: PurePosixPath, directory: str) -> bool:
    """Return whether a path is this directory or file, or lies in it."""
    return path.is_relative_to(directory)


def mirrors(path: PurePosixPath) -> list[str]:
    """Return the tests of a module: those that stand where it stands, or else at the top of its suite."""
    for source, tests in MIRRORS.items():
        if below(path, source):
            name = path.parent.name if path.name == "__init__.py" else path.stem
            places = [PurePosixPath(tests, path.relative_to(source).parent), PurePosixPath(tests)]
            return [str(place / f"test_{name}.py") for place in places if (ROOT / place / f"test_{name}.py").exists()][
                :1
            ]
    return []


def importers(path: PurePosixPath) -> list[str]:
    """Return the tests that import a module which they stand on."""
    if not any(below(path, each) for each in SUPPORT):
        return []
    package, name = ".".join(path.parent.parts), re.escape(path.stem)
    imported = re.compile(rf"^from {package}(\.{name} import| import .*\b{name}\b)", re.MULTILINE)
    tests = [test for suite in SUPPORTED for test in (ROOT / suite).rglob("test_*.py")]
    return [test.relative_to(ROOT).as_posix() for test in tests if imported.search(test.read_text("utf-8"))]


def is_test(path: PurePosixPath) -> bool:
    """Return whether pytest collects a file."""
    return path.name.startswith("test_") and path.suffix == ".py" and below(path, "tests")


def chosen(paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the touched tests, and the further ones of what was touched."""
    changed, further = set(), set()
    for path in map(PurePosixPath, paths):
        if is_test(path):
            changed.add(str(path))
            continue
        if path.suffix == ".py":
            further.update(mirrors(path) + importers(path))
        further.update(each for top, tests in ALWAYS.items() if below(path, top) for each in tests)
    return sorted(changed), sorted(further - changed)


def main() -> int:
    """Run what there is to run and return the exit status."""
    parser = argparse.ArgumentParser(description="Run the tests of what has been touched.")
    parser.add_argument("--base", default="main", help="the branch to compare with (main)")
    settings, options = parser.parse_known_args()
    changed, further = chosen(touched(settings.base))
    if not changed and not further:
        print("No test mirrors what was touched.")
    status = 0
    for tests, marks in ((further, ["-m", "not envoy"]), (changed, [])):
        if tests:
            command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *marks, *options, *tests]
            # 5: all were left out.
            status = max(status, subprocess.run(command, cwd=ROOT, check=False).returncode % 5)
    return status


if __name__ == "__main__":
    sys.exit(main())
