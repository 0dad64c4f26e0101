"""Commands as processes: exit statuses, stdout of any encoding, closed, or full, and options that have no effect."""

import os
import subprocess
import sys

import pytest

from bbr import __version__, built
from bench.harness.processes import serving
from tests.support.commands import PYTHON_M, SCRIPT, run

COMMANDS = [pytest.param(PYTHON_M, id="python -m bbr"), pytest.param(SCRIPT, id="bbr")]


@pytest.mark.parametrize("command", COMMANDS)
def test_version(command):
    done = run(command, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"bbr {__version__} ({built.HOW})\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_usage_error_in_a_process(command):
    done = run(command, "serve", BBR_GRPC_PORT="nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bbr serve: BBR_GRPC_PORT: 'nonsense' is not a port (1 to 65535).\n"


def test_a_clone_without_its_dependencies_says_what_to_do():
    done = run([sys.executable, "-S", "-m", "bbr"], "version")  # -S: no packages are found
    assert (done.returncode, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert first.startswith(f"bbr: its dependencies are not installed for {sys.executable}: no module named ")
    assert "pip install '.[kubernetes]'" in second


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_check_in_a_process(tmp_path):
    models = write(tmp_path / "models.yaml", "models: [{name: qwen, adapters: [sql]}]")
    done = run(PYTHON_M, "check", str(models))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"1 base model and 1 adapter from {models}.\n", "")
    models.write_text("models:\n- nam: x\n", encoding="utf-8")
    done = run(PYTHON_M, "check", str(models))
    sentence = "line 2: an entry of models has the unknown key nam; known: adapters, allow, name"
    assert (done.returncode, done.stdout, done.stderr) == (1, f"{models}: {sentence}.\n", "")
    done = run(PYTHON_M, "check", "--grpc-port=1", str(models))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bbr check: --grpc-port=1 is not a flag of `bbr check`; see `bbr check --help`.\n"


@pytest.fixture
def models(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: qwen, adapters: [sql]}]", encoding="utf-8")
    return path


def run_models(models, **streams):
    command = [sys.executable, "-m", "bbr", "models", f"--models={models}"]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=300, check=False, **streams)


def test_models_of_a_file_whose_name_is_no_text_in_any_encoding(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.yaml")).write_text("models: [{name: qwen}]")
    for encoding in ("utf-8:strict", "ascii:strict"):
        ended = run_models(tmp_path, stdout=subprocess.PIPE, env=os.environ | {"PYTHONIOENCODING": encoding})
        assert (ended.returncode, ended.stderr) == (0, "")
        assert f"file {tmp_path}/\\udcff.yaml, line 1" in ended.stdout


def test_a_reader_of_stdout_that_has_seen_enough_is_no_error(models):
    reading, writing = os.pipe()
    os.close(reading)
    ended = run_models(models, stdout=writing)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_full_disk_behind_stdout_is_one_sentence(models):
    with open("/dev/full", "w") as full:
        ended = run_models(models, stdout=full)
    assert (ended.returncode, ended.stderr) == (1, "bbr: stdout can't be written to: No space left on device.\n")


def test_probe_in_a_process():
    command = [sys.executable, "-W", "error", "-m", "bbr", "probe"]
    with serving() as process:
        done = subprocess.run([*command, f"--addr=127.0.0.1:{process.port}", "--model=any"], capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"127.0.0.1:%d: healthy\n" % process.port)
        done = subprocess.run([*command, f"--addr=127.0.0.1:{process.health_port}"], capture_output=True)
        assert (done.returncode, done.stderr) == (1, b"")


def test_scopes_that_no_request_can_be_in_are_told(tmp_path):
    models = tmp_path / "models.yaml"
    models.write_text("scopes: {a: {hosts: [x.test]}, b: {models: [{name: phi}], allow: {phi: [x]}}}")
    with serving(f"--models={models}") as process:
        assert process.wait_for("scopes without hosts, in which no request can be without --scope: b")
        assert process.wait_for("the model table says who may use what, and nothing tells who asks")
    with serving(f"--models={models}", "--scope=header:x-tenant") as process:
        assert process.wait_for("nothing tells who asks")
        assert "scopes without hosts" not in process.stderr
    models.write_text("models: [{name: phi}]")
    with serving(f"--models={models}", "--scope=header:x-tenant") as process:
        assert process.wait_for("--scope has no effect: the model table has no scopes")


def test_a_list_of_no_table_is_told():
    with serving("--serve-models-list") as process:
        assert process.wait_for("--serve-models-list: there is no model table to list: such requests pass")
