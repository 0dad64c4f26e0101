import subprocess

import pytest

from tests import quick
from tests.quick import chosen, touched

TESTS = {
    "tests/unit/test_cli.py": "from tests.support.rig import Rig",
    "tests/unit/test_imports.py": "",
    "tests/unit/http2/test_frames.py": "from tests.support import frames, rig",
    "tests/unit/http2/test_http2.py": "from tests.support.rigging import rig",
    "tests/bench/test_load.py": "from bench.harness import peer",
    "tests/bench/harness/test_peer.py": "",
    "tests/local/test_tour.py": "from tests.support import rig",
}
IMPORTS = "tests/unit/test_imports.py"

CHOSEN = [
    pytest.param(["bbr/http2/frames.py"], [], ["tests/unit/http2/test_frames.py", IMPORTS], id="a module"),
    pytest.param(["bbr/cli.py"], [], ["tests/unit/test_cli.py", IMPORTS], id="a module at the top"),
    pytest.param(["bbr/http2/__init__.py"], [], ["tests/unit/http2/test_http2.py", IMPORTS], id="a package"),
    pytest.param(["bbr/text.py"], [], [IMPORTS], id="a module without tests"),
    pytest.param(["bench/parts/load.py"], [], ["tests/bench/test_load.py"], id="tests that are not in rooms"),
    pytest.param(["deploy/local/tour.py"], [], ["tests/local/test_tour.py"], id="a stand-in"),
    pytest.param(["tests/unit/test_cli.py"], ["tests/unit/test_cli.py"], [], id="a test"),
    pytest.param(
        ["bbr/cli.py", "tests/unit/test_cli.py"], ["tests/unit/test_cli.py"], [IMPORTS], id="a module and its test"
    ),
    pytest.param(["README.md", "docs/scaling.md"], [], ["tests/docs"], id="pages"),
    pytest.param(
        ["tests/support/rig.py"],
        [],
        ["tests/unit/http2/test_frames.py", "tests/unit/test_cli.py"],
        id="what tests stand on, where that takes no gateway",
    ),
    pytest.param(
        ["bench/harness/peer.py"],
        [],
        ["tests/bench/harness/test_peer.py", "tests/bench/test_load.py"],
        id="what tests and benchmarks stand on",
    ),
    pytest.param(["Dockerfile", "deploy/image/build.sh", "protos/generate.py"], [], [], id="what no test mirrors"),
]


def git(directory, *arguments):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=directory, check=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setattr(quick, "ROOT", tmp_path)
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    for name in ("first", "second"):
        (tmp_path / name).write_text(name, "utf-8")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "--quiet", "-m", name)
    return tmp_path


@pytest.mark.parametrize(("paths", "changed", "further"), CHOSEN)
def test_what_is_run(repository, paths, changed, further):
    for name, text in TESTS.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(f"import os\n{text}\n", "utf-8")
    assert chosen(paths) == (changed, further)


def test_on_the_base_the_last_commit_is_what_was_touched(repository):
    assert touched("main") == {"second"}


def test_uncommitted_and_new_files_are_touched(repository):
    (repository / "first").write_text("changed", "utf-8")
    (repository / "third").write_text("new", "utf-8")
    assert touched("main") == {"first", "third"}


def test_on_a_branch_all_since_the_base_is_touched_but_what_is_gone(repository):
    git(repository, "checkout", "--quiet", "-b", "topic")
    (repository / "second").unlink()
    (repository / "third").write_text("new", "utf-8")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "-m", "third")
    (repository / "fourth").write_text("new", "utf-8")
    assert touched("main") == {"third", "fourth"}
