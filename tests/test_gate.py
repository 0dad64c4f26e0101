"""The gate's script and the Makefile's lists: what would otherwise only show when all of it runs."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = (ROOT / ".ci/run").read_text("utf-8")
ENDS = [
    "====== 17494 passed in 328.41s (0:05:28) ======",
    "= 1 failed, 17480 passed, 14 skipped, 2 warnings, 3 errors in 28.4s =",
]
OTHERS = ["", "Combined data file .coverage.1", "TOTAL   100%", "SKIPPED [1] tests/a.py:3: passed in 3.0s of a kind"]


def commands() -> list[str]:
    """Return the lines of the script that call make, in their order."""
    return [line.strip() for line in SCRIPT.splitlines() if re.match(r"\s*(nice )?make ", line)]


@pytest.mark.parametrize("end", ENDS)
def test_the_count_of_all_tests_ends_the_output(end, tmp_path):
    said = tmp_path / "said"
    said.write_text("\n".join([ENDS[0].replace("17494", "1"), *OTHERS, end, *OTHERS]) + "\n")
    *_, last = SCRIPT.strip().splitlines()
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail; log={said}; {last}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, end + "\n"), done.stderr


def test_it_calls_what_a_contributor_is_told_to_call():
    called = commands()
    assert "make check" in called
    assert called.index('make test COVER=1 2>&1 | tee "$log"') == called.index("make covered") - 1
    assert called[-1] == "make covered"


def test_nothing_that_needs_the_compiled_build_comes_before_it():
    # Whatever depends on it would make it a second time, or alone.
    ready = SCRIPT.index('if ! wait "$building"')
    assert SCRIPT.index("make compiled") < ready < min(map(SCRIPT.index, ("make bench-guard", "make test-compiled")))


def test_files_that_the_makefile_names_exist():
    listed = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    found = re.findall(r"^[A-Z_]+ := \$\(addprefix tests/integration/test_,([^)]*)\)$", listed, re.MULTILINE)
    names = [name for each in found for name in each.split()]
    assert len(found) == 2
    assert [name for name in names if not (ROOT / "tests/integration" / f"test_{name}").exists()] == []
