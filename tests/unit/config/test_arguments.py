"""The settings on a command line: which options a help shows, and what is made of them."""

import argparse
import re

import pytest

from bbr import cli
from bbr.config import arguments
from bbr.config import settings as config
from bbr.config.options import Group


def shown(capsys, *arguments):
    """Return the sections of a help, by their headings: the entries of each."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 0
    parts = re.split(r"^(\w.*):\n", capsys.readouterr().out.partition("Every flag")[0], flags=re.MULTILINE)
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
    assert 35 <= sum(map(len, usual.values())) <= 45


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


def parsed(*words):
    parser = argparse.ArgumentParser()
    arguments.add_settings(parser)
    return arguments.given_settings(vars(parser.parse_args(words)) | {"json": True, "path": "/"})


def test_what_is_given_is_text_by_the_names_of_settings():
    assert parsed() == {}
    assert parsed("--tracing", "--grpc-port=7") == {"tracing": "true", "grpc_port": "7"}
    assert parsed("--strip-header=a,b", "--strip-header", "c") == {"strip_header": "a,b,c"}


def test_some_settings_alone():
    parser = argparse.ArgumentParser()
    arguments.add_settings(parser, ["max_model_length", "models"])
    assert parser.parse_args([]) == argparse.Namespace(models=None, max_model_length=None)


def test_an_unknown_argument_is_named_and_a_removed_one_has_a_successor():
    sentence = "--x is not a flag of `bbr serve`; see `bbr serve --help`"
    assert str(arguments.unknown_argument("serve", "--x")) == sentence
    assert "use --body-idle-seconds" in str(arguments.unknown_argument("check", "--duplex-idle-seconds=1"))
