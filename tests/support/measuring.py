"""Coverage in a run of all tests: measured in those alone that are to reach the code, and in what they start.

Tests that start gateways would take longer, and reach nothing that others don't. COVERED names the files and folders
that are measured; without it a run under `coverage` measures all.
"""

import os
from pathlib import Path

import coverage

ROOT = Path(__file__).resolve().parents[2]
COVERED = "BBR_COVERED"

# By this a process that is started finds that it is to be measured ([tool.coverage.run] patch).
_OF_CHILDREN = "COVERAGE_PROCESS_CONFIG"

_left_out: dict[str, str] = {}


def measure(file: Path) -> None:
    """Begin to measure before the first test of a file that is to be, and stop before the first of another."""
    measured = coverage.Coverage.current()
    if measured is None or COVERED not in os.environ:
        return
    wanted = any(file.is_relative_to(ROOT / each) for each in os.environ[COVERED].split())
    if wanted and _left_out:
        os.environ.update(_left_out)
        _left_out.clear()
        measured.start()
    elif not wanted and not _left_out:
        _left_out[_OF_CHILDREN] = os.environ.pop(_OF_CHILDREN)
        measured.stop()
