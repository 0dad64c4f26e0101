"""The gate's script and the Makefile's lists: what would otherwise only show when all of it runs."""

import os
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


CALLS = [
    "make helm",
    "make compiled",
    "make lab-core",
    "make check",
    "make test-compiled",
    "make test ",
    "make covered",
]


@pytest.mark.parametrize("failing", [None, *CALLS])
def test_it_fails_if_one_of_its_calls_does_and_leaves_nothing_behind(failing, tmp_path):
    made = tmp_path / "bin"
    made.mkdir()
    stub = f"""#!/bin/sh
echo "make $*" >> {tmp_path}/calls
case "make $* " in "{failing} "*|"{failing}"*) echo "this fails: $*" ; exit 2;; "make test "*) echo "{ENDS[0]}";; esac
"""
    for name in ("make", "h2load", "nghttp", "curl", "prometheus", "promtool", "chromium"):
        (made / name).write_text(stub if name == "make" else "#!/bin/sh\n")
        (made / name).chmod(0o755)
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        ["bash", ROOT / ".ci/run"],
        env=os.environ | {"PATH": f"{made}:{os.environ['PATH']}", "TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    called = (tmp_path / "calls").read_text()
    assert (done.returncode != 0) == bool(failing), done.stderr
    assert [*(tmp_path / "tmp").iterdir()] == []
    if failing:
        assert f"this fails: {failing.removeprefix('make ').strip()}" in done.stdout + done.stderr
        assert "make covered" not in called or failing == "make covered"
    else:
        assert [each for each in CALLS if each not in called] == []
        assert done.stdout.strip().endswith(ENDS[0])


def test_files_that_the_makefile_names_exist():
    listed = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    found = re.findall(r"\$\(addprefix (tests/[\w/]+),([^)]*)\)", listed)
    assert len(found) == 2
    names = [start + name for start, each in found for name in each.split()]
    assert [name for name in names if not (ROOT / name).exists()] == []
