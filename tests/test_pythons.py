"""How `make test-python` finds an interpreter, and what it says without one; the tests on it take minutes."""

import sys
from types import SimpleNamespace

import pytest

from tests import pythons
from tests.conftest import sampled

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_an_interpreter_of_this_machine_is_found(monkeypatch):
    monkeypatch.setattr(pythons, "candidates", lambda version: iter(["/nonexistent/python", sys.executable]))
    assert pythons.place_of(HERE) == pythons.Place(sys.executable, str(pythons.ROOT))


def test_a_shim_that_does_not_run_is_no_interpreter(tmp_path):
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\necho 'version not installed' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert pythons.version_of(str(shim)) == ""


@pytest.mark.parametrize(
    ("version", "user", "tools", "told"),
    [
        ("3.12", 0, True, "no suite of Debian has Python 3.12"),
        ("3.13", 1000, True, "a chroot needs root on Linux"),
        ("3.13", 0, False, "debootstrap and unshare not installed"),
    ],
)
def test_without_an_interpreter_it_says_why_it_does_nothing(version, user, tools, told, monkeypatch, capsys):
    monkeypatch.setattr(pythons, "candidates", lambda version: iter(()))
    monkeypatch.setattr(pythons.sys, "platform", "linux")
    monkeypatch.setattr(pythons.os, "geteuid", lambda: user)
    monkeypatch.setattr(pythons.shutil, "which", lambda tool: tool if tools else None)
    assert pythons.main([version]) == 0
    assert capsys.readouterr().out == f"skipped: this machine has no Python {version}, and {told}\n"


def test_a_version_that_is_none_is_an_error(capsys):
    with pytest.raises(SystemExit, match="2"):
        pythons.main(["latest"])
    assert "'latest' is not a version such as 3.13" in capsys.readouterr().err


def test_cases_are_spread_over_all_that_a_test_has():
    items = [SimpleNamespace(nodeid=f"a.py::test[{number}]") for number in range(10)]
    items.append(SimpleNamespace(nodeid="a.py::test_alone"))
    assert [item.nodeid for item in sampled(items, 2)] == ["a.py::test[0]", "a.py::test[5]", "a.py::test_alone"]
    assert sampled(items, 10) == items


def test_the_versions_of_debian_are_those_that_the_workflow_runs():
    workflow = (pythons.ROOT / ".github/workflows/test.yml").read_text()
    assert all(f'"{version}"' in workflow for version in pythons.DEBIAN)
