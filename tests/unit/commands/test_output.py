"""Where an answer goes: to a stdout of any encoding, closed, or full."""

import os
import subprocess
import sys

import orjson
import pytest

from bbr.commands import output


@pytest.fixture
def models(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: qwen, adapters: [sql]}]", encoding="utf-8")
    return path


def run_models(models, **streams):
    command = [sys.executable, "-m", "bbr", "models", f"--models={models}"]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=False, **streams)


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


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "JSON"])
def test_what_nobody_could_see_is_spelled_out(capsys, as_json):
    text = orjson.dumps({"name": "a\u200b\ufeff\U000e0041é"}, option=orjson.OPT_INDENT_2).decode()
    output.write(text, as_json=as_json)
    out = capsys.readouterr().out
    beyond = "\\udb40\\udc41" if as_json else "\\U000e0041"
    assert out == '{\n  "name": "a\\u200b\\ufeff' + beyond + 'é"\n}'
    assert not as_json or orjson.loads(out) == orjson.loads(text)
