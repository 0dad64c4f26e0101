import sys
import tomllib
import types
from pathlib import Path

import pytest

import bbr.reading.zstd as module
from bbr.reading.zstd import zstd

ROOT = Path(__file__).parents[3]


def test_it_is_the_library_of_this_python():
    assert zstd.__name__ == ("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    assert zstd.decompress(zstd.compress(b"octets")) == b"octets"


@pytest.mark.interpreted("reads the source of the module")
@pytest.mark.parametrize(("version", "name"), [((3, 14, 0), "compression"), ((3, 13, 9), "backports")])
def test_which_library_each_python_takes(monkeypatch, version, name):
    for package in ("compression", "backports"):
        fake = types.ModuleType(package)
        fake.zstd = types.ModuleType(f"{package}.zstd")
        monkeypatch.setitem(sys.modules, package, fake)
    monkeypatch.setattr(sys, "version_info", version)
    found = {}
    exec(Path(module.__file__).read_text("utf-8"), found)  # noqa: S102 - our own source
    assert found["zstd"].__name__ == f"{name}.zstd"


def test_the_backport_is_required_where_it_is_taken():
    (line,) = [
        each
        for each in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        if each.startswith("backports.zstd")
    ]
    assert line.endswith("; python_version < '3.14'")


@pytest.mark.interpreted("reads the sources beside the module")
def test_nothing_else_imports_the_backport():
    files = [path for room in ("bbr", "bench", "deploy", "tests") for path in (ROOT / room).rglob("*.py")]
    found = [path for path in files if "from backports import" in path.read_text("utf-8")]
    assert found == [Path(module.__file__), Path(__file__)]
