"""What workers of pytest-xdist leave out does not change what is counted, or what is said of a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.brief import Brief

ROOT = Path(__file__).resolve().parents[1]

SOME = """
import pytest

@pytest.fixture
def breaks():
    raise ValueError("in the setup")

@pytest.fixture
def breaks_later():
    yield
    raise ValueError("in the teardown")

def test_passes(): pass
def test_fails(): assert False, "in the test"
def test_setup(breaks): pass
def test_teardown(breaks_later): pass
def test_skipped(): pytest.skip("not here")
@pytest.mark.xfail
def test_xfails(): assert False
"""


class Worker:
    """Keeps what it is told to send."""

    def __init__(self):
        self.sent = []

    def sendevent(self, name, **content):
        self.sent.append((name, content))


def report(when, outcome="passed", sections=()):
    return pytest.TestReport("a.py::test", ("a.py", 1, "test"), {"test": 1}, outcome, None, when, sections)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (report("setup"), False),
        (report("teardown"), False),
        (report("call"), True),
        (report("setup", "failed"), True),
        (report("teardown", "failed"), True),
        (report("setup", "skipped"), True),
        (report("teardown", sections=[("Captured stdout teardown", "text")]), True),
    ],
)
def test_reports_that_change_nothing_are_not_sent(given, sent):
    worker = Worker()
    data = Brief(worker).pytest_report_to_serializable(given) or given._to_json()
    worker.sendevent("testreport", data=data | {"item_index": 1})
    assert [name for name, _ in worker.sent] == ["testreport"] * sent


def test_other_messages_are_sent():
    worker = Worker()
    Brief(worker)
    for name in ("logstart", "runtest_protocol_complete", "logfinish", "workerfinished"):
        worker.sendevent(name, item_index=1)
    assert worker.sent == [(name, {"item_index": 1}) for name in ("runtest_protocol_complete", "workerfinished")]


def test_a_run_counts_and_tells_the_same(tmp_path):
    (tmp_path / "test_some.py").write_text(SOME)
    command = [sys.executable, "-m", "pytest", "-q", "-c", ROOT / "pyproject.toml", f"--rootdir={ROOT}", tmp_path]
    found = [*command, "-p", "tests.conftest", "-p", "no:cacheprovider", "--numprocesses=1", "--dist=loadfile"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(found, cwd=ROOT, env=inherited, capture_output=True, text=True, timeout=300, check=False)
    assert "1 failed, 2 passed, 1 skipped, 1 xfailed, 2 errors in " in done.stdout, done.stdout + done.stderr
    for where in ("setup", "test", "teardown"):
        assert f"in the {where}" in done.stdout
