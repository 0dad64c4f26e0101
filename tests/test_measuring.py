import os

import coverage
import pytest

from tests.support import measuring
from tests.support.measuring import ROOT, measure


class Measured:
    """Coverage, as far as it is begun and stopped."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    found = Measured()
    monkeypatch.setattr(coverage.Coverage, "current", lambda: found)
    monkeypatch.setattr(measuring, "_left_out", {})
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", "it")
    return found


def test_what_is_named_is_measured_and_its_children(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(measuring.COVERED, "tests/unit tests/integration/test_server.py")
    told = []
    for file in ("unit/a.py", "integration/test_admin.py", "lab/b.py", "integration/test_server.py", "unit/c/d.py"):
        measure(ROOT / "tests" / file)
        told.append((len(measured.calls), os.environ.get("COVERAGE_PROCESS_CONFIG")))
    assert told == [(0, "it"), (1, None), (1, None), (2, "it"), (2, "it")]
    assert measured.calls == ["stop", "start"]


def test_without_names_all_is_measured(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(measuring.COVERED, raising=False)
    measure(ROOT / "tests/lab/b.py")
    assert measured.calls == []


def test_without_coverage_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage.Coverage, "current", lambda: None)
    monkeypatch.setenv(measuring.COVERED, "tests/unit")
    measure(ROOT / "tests/lab/b.py")
