"""Completions as shells take them: what bash offers, and that each shell can read its script."""

import shlex
import shutil
import subprocess

import pytest

from bbr import cli
from bbr.commands import completion
from bbr.config import settings as config


@pytest.fixture(scope="module")
def grammar():
    return cli.parser(list(cli.COMMANDS))


@pytest.fixture(scope="module")
def offered(grammar, tmp_path_factory):
    """Return what a real bash offers for a line: its last word is being written."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "bbr.bash").write_text(completion.script("bash", grammar))
    (folder / "models.yaml").touch()

    def ask(*words):
        line = " ".join(map(shlex.quote, words))
        asked = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _bbr; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        command = ["bash", "--noprofile", "--norc", "-euc", f"source ./bbr.bash; {asked}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return set(done.stdout.split())

    return ask


def test_bash_offers_commands(offered):
    assert offered("bbr", "") == {*cli.COMMANDS, "--help", "--version"}
    assert offered("bbr", "do") == {"doctor"}


def test_bash_offers_every_flag_of_a_command_and_no_other(offered):
    assert {config.flag_of(name) for name in config.OPTIONS} < offered("bbr", "serve", "--")
    assert offered("bbr", "check", "--") == {"--help", "--max-model-length"}
    assert "--path" in offered("bbr", "explain", "--pa")


@pytest.mark.parametrize("words", [("--transport", ""), ("--transport", "="), ("--transport", "=", "")])
def test_bash_offers_the_values_of_a_flag(offered, words):
    assert offered("bbr", "serve", *words) == {"uv", "grpcio"}


def test_bash_offers_files_where_files_are_meant(offered):
    assert offered("bbr", "serve", "--models", "mod") == {"models.yaml"}
    assert offered("bbr", "check", "mod") == {"models.yaml"}
    assert offered("bbr", "explain", "mod") == {"models.yaml"}
    assert offered("bbr", "serve", "--grpc-port", "") == set()
    assert offered("bbr", "completion", "") == {"bash", "zsh", "fish"}


def test_a_flag_is_offered_behind_a_truth(offered):
    assert "--transport" in offered("bbr", "serve", "--tracing", "--tra")


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")])
def test_each_shell_can_read_its_script(grammar, tmp_path, shell, check):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "script"
    path.write_text(completion.script(shell, grammar))
    done = subprocess.run([shell, check, path], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
