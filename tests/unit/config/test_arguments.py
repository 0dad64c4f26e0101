"""The settings on a command line: which options a help shows, and what is made of them."""

import argparse
import logging
import re

import pytest

from bbr import cli
from bbr.config import arguments, go_flags
from bbr.config import settings as config
from bbr.config.arguments import Arguments
from bbr.config.options import Group


def shown(capsys, *arguments):
    """Return the sections of a help, by their headings: the entries of each."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 0
    options = re.split(r"^Every option|^Examples?:$", capsys.readouterr().out, flags=re.MULTILINE)[0]
    parts = re.split(r"^(\w.*):\n", options, flags=re.MULTILINE)
    return {
        heading: [" ".join(entry.split()) for entry in re.split(r"^  (?=-)", text, flags=re.MULTILINE)[1:]]
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def entry(name, option):
    value = f"[{option.metavar}]" if option.switch else option.metavar
    default = f" (default: {option.default})" if option.default else ""
    return f"{config.flag_of(name)} {value} {option.help}{default}"


def test_help_of_serve_is_in_groups_and_complete(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    groups = {
        group.value: [entry(name, option) for name, option in config.OPTIONS.items() if option.group is group]
        for group in Group
    }
    found = shown(capsys, "serve", "--help-all")
    assert [each.split()[0] for each in found.pop("options")] == ["-h,", "--help-all"]
    assert found == groups
    usual = shown(capsys, "serve", "--help")
    del usual["options"], groups[Group.RARE.value]
    assert usual == groups
    assert 35 <= sum(map(len, usual.values())) <= 50


def test_help_of_commands_that_look_has_what_matters_to_them(capsys):
    assert shown(capsys, "models", "--help").keys() == {"options", Group.TABLE.value}
    explained = {"positional arguments", "options"} | {
        group.value for group in (Group.TABLE, Group.READING, Group.ANSWERS, Group.BODIES)
    }
    assert shown(capsys, "explain", "--help").keys() == explained
    for command in ("models", "explain"):
        assert shown(capsys, command, "--help-all").keys() >= {group.value for group in Group}


def test_no_option_is_broken_in_two_by_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    shown(capsys, "serve", "--help")
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help-all"])
    assert not re.search(r"[a-z]-$", capsys.readouterr().out, flags=re.MULTILINE)


def parsed(*words, line=None):
    parser = argparse.ArgumentParser()
    arguments.add_settings(parser)
    parser.add_argument("--json", action="store_true")
    return Arguments(vars(parser.parse_args(words)), line)


@pytest.fixture
def no_variables(monkeypatch):
    for name in config.OPTIONS:
        monkeypatch.delenv(config.variable_of(name), raising=False)


def test_settings_of_arguments(no_variables, monkeypatch):
    assert parsed().settings() == config.Settings()
    assert parsed("--tracing", "--grpc-port=7").settings() == config.Settings(tracing=True, grpc_port=7)
    assert parsed("--strip-header=a,b", "--strip-header", "c").settings().strip_header == ("a", "b", "c")
    monkeypatch.setenv("BBR_GRPC_PORT", "8")
    assert parsed().settings().grpc_port == 8


def test_settings_and_notes_of_a_go_routers_command_line(no_variables):
    line = go_flags.CommandLine([], {"log_level": "debug"}, [go_flags.Note(logging.INFO, "so it is")])
    found = parsed("--json", line=line)
    assert found.settings() == config.Settings(log_level="debug")
    assert found.notes == line.notes
    assert found["json"] is True
    assert parsed().notes == []


def test_some_settings_alone():
    parser = argparse.ArgumentParser()
    arguments.add_settings(parser, ["max_model_length", "models"])
    assert parser.parse_args([]) == argparse.Namespace(models=None, max_model_length=None)


def test_an_unknown_argument_is_named_and_a_removed_one_has_a_successor():
    sentence = "--x is not a flag of `bbr serve`; see `bbr serve --help`"
    assert str(arguments.unknown_argument("serve", "--x")) == sentence
    assert "use --body-idle-seconds" in str(arguments.unknown_argument("check", "--duplex-idle-seconds=1"))
