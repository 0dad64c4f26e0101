"""Coverage in a run of all tests: measured in those alone that are to reach the code, and in what they start.

Tests that start gateways would take longer, and reach nothing that others don't. COVERED names the files and folders
that are measured; without it a run under `coverage` measures all. It does not begin with BBR_, as the router's own
variables do: each command would warn of it.
"""

import os
from pathlib import Path

import coverage

ROOT = Path(__file__).resolve().parents[2]
COVERED = "COVERED_TESTS"

# By this a process that is started finds that it is to be measured ([tool.coverage.run] patch).
_OF_CHILDREN = "COVERAGE_PROCESS_CONFIG"

# As pytest-xdist calls it.
_FIRST_WORKER = "gw0"

# What is stopped, and what children are told otherwise. Coverage itself forgets whom it has stopped.
_stopped: list[tuple[coverage.Coverage, str]] = []


def leave_out() -> None:
    """Stop to measure this process, but not what it has started: it runs no tests, and tracing makes it slow."""
    running = coverage.Coverage.current()
    if running is not None:
        running.stop()


def collect_unmeasured(worker: str) -> None:
    """Stop to measure a worker of pytest-xdist until its first test that is to be measured.

    Every worker imports all modules. That is measured in the first one: tracing makes it take half as long again.
    """
    if worker != _FIRST_WORKER:
        _pause()


def measure(file: Path) -> None:
    """Begin to measure before the first test of a file that is to be, and stop before the first of another."""
    if COVERED not in os.environ:
        return
    wanted = any(file.is_relative_to(ROOT / each) for each in os.environ[COVERED].split())
    if wanted and _stopped:
        measured, of_children = _stopped.pop()
        os.environ[_OF_CHILDREN] = of_children
        measured.start()
    elif not wanted:
        _pause()


def _pause() -> None:
    running = coverage.Coverage.current()
    if COVERED in os.environ and running is not None and not _stopped:
        _stopped.append((running, os.environ.pop(_OF_CHILDREN)))
        running.stop()
