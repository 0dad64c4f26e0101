import json
import os
import subprocess
import sys

import coverage
import pytest

from tests.support import measuring

# What a process told coverage of itself: measured or not, and what its children find, before each file.
PROGRAM = """
import json, os, sys, coverage
from tests.support.measuring import ROOT, collect_unmeasured, leave_out, measure

own = coverage.Coverage(data_file=None)
own.start()
told = []
for file in sys.argv[1:]:
    if file == "-":
        leave_out()
    elif file.startswith("gw"):
        collect_unmeasured(file)
    else:
        measure(ROOT / "tests" / file)
    told.append((coverage.Coverage.current() is own, "COVERAGE_PROCESS_CONFIG" in os.environ))
own.stop()
print(json.dumps(told))
"""
FILES = ("unit/a.py", "integration/test_admin.py", "lab/b.py", "integration/test_server.py", "unit/c/d.py", "lab/e.py")


def told(*files: str, **variables: str) -> object:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "COVERED_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *files],
        env=environment | variables,
        cwd=measuring.ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return json.loads(done.stdout)


def test_what_is_named_is_measured_and_its_children() -> None:
    found = told(*FILES, **{measuring.COVERED: "tests/unit tests/integration/test_server.py"})
    yes, no = [True, True], [False, False]
    assert found == [yes, no, no, yes, yes, no]


def test_without_names_all_is_measured() -> None:
    assert told(*FILES) == [[True, True]] * len(FILES)


def test_without_coverage_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage.Coverage, "current", lambda: None)
    monkeypatch.setattr(measuring, "_stopped", [])
    monkeypatch.setenv(measuring.COVERED, "tests/unit")
    measuring.measure(measuring.ROOT / "tests/lab/b.py")
    assert measuring._stopped == []


def test_who_hands_out_tests_is_not_measured_and_its_workers_are() -> None:
    assert told("unit/a.py", "-") == [[True, True], [False, True]]


def test_what_all_workers_import_is_measured_in_one() -> None:
    covered = {measuring.COVERED: "tests/unit"}
    yes, no = [True, True], [False, False]
    assert told("gw0", "unit/a.py", **covered) == [yes, yes]
    assert told("gw1", "unit/a.py", "lab/b.py", "unit/a.py", **covered) == [no, yes, no, yes]
    assert told("gw1", "unit/a.py") == [yes, yes]


def test_no_command_of_the_routers_knows_the_variable() -> None:
    # What begins so is taken for a setting's, and a command warns of one that it does not know.
    assert not measuring.COVERED.startswith("BBR_")
