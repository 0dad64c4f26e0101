"""The `bbr` command: finds the command that is meant, parses its arguments, and reports its errors."""

import argparse
import ast
import importlib
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol, cast

from bbr import __version__, built
from bbr.commands.exits import EXIT_USAGE, CommandError
from bbr.config import go_flags, mistyped
from bbr.config.arguments import Arguments, HelpFormatter, commands_of, unknown_argument
from bbr.config.settings import ConfigError
from bbr.text import printable, quoted

_DESCRIPTION: Final = """\
bbr is a body-based router for Envoy: an external processor (ext_proc) that reads the model named in a request's body
and sets X-Gateway-Model-Name and X-Gateway-Base-Model-Name, so that the gateway's routes send the request to the
model's pool."""

# What argparse says of an argument that is missing, and of several of which one is needed.
_MISSING: Final = re.compile(r"the following arguments are required: (.+)|one of the arguments (.+) is required")

# Before this version a possessive group takes bytes for matched when its last repetition fails halfway
# (docs/design/compiling.md).
OLDEST_PYTHON: Final = (3, 11, 5)


class Command(Protocol):
    """What the module of a command has.

    Attributes:
        ARGUMENTS: its arguments, as the usage has them.
        DESCRIPTION: what it does.
        EPILOG: the end of its help: its exit statuses.
    """

    ARGUMENTS: str
    DESCRIPTION: str
    EPILOG: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, arguments: Arguments) -> int:
        """Do it and return the exit status.

        Raises:
            ConfigError: an argument is unusable.
            CommandError: it fails.
        """


class _Entry(NamedTuple):
    module: str
    summary: str


# A module is loaded only when its command is asked for: some of them take longer to load than others take to run.
COMMANDS: Final = {
    "serve": _Entry("bbr.commands.serve", "serve ext_proc to a gateway until SIGTERM"),
    "models": _Entry("bbr.commands.models", "print the model table that serve would have"),
    "explain": _Entry("bbr.commands.explain", "tell what would happen to a request, and why"),
    "check": _Entry("bbr.commands.check", "validate a model file"),
    "doctor": _Entry("bbr.commands.doctor.command", "tell what is wrong with a gateway"),
    "probe": _Entry("bbr.commands.probe.command", "ask a running ext_proc server for its health and an exchange"),
    "completion": _Entry("bbr.commands.completion", "print a script of completions for a shell"),
    "version": _Entry("bbr.commands.version", "print the version, and what it runs on"),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # ours does not return either: it exits
        """Exit with one sentence; the usage of all options would bury it."""
        if message.startswith("argument COMMAND: invalid choice: "):
            word = ast.literal_eval(message.split(": ", 2)[2].split(" (choose from", 1)[0])
            message = f"{quoted(word)} is not a command{mistyped.suggestion(word, COMMANDS)}"
        elif message == "the following arguments are required: COMMAND":
            message = f"name a command: {', '.join(COMMANDS)}"
        elif missing := _MISSING.fullmatch(message):
            message = f"give {' or '.join((missing[1] or missing[2]).split())}"
        self.exit(EXIT_USAGE, printable(f"{self.prog}: {message}. See `{self.prog} --help`.") + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    name = go_flags.COMMAND
    try:
        _check_python(sys.version_info[:3])
        line = go_flags.read(_with_help(sys.argv[1:] if argv is None else argv), os.environ)
        grammar = parser(line.arguments[:1])
        known, unknown = grammar.parse_known_args(line.arguments)
        name = known.command
        if unknown:
            raise unknown_argument(name, unknown[0], _flags(grammar, name))
        return _run(name, Arguments(vars(known), line, partial(parser, list(COMMANDS))))
    except (ConfigError, CommandError) as error:
        print(printable(f"bbr {name}: {error}."), file=sys.stderr)
        return error.status if isinstance(error, CommandError) else EXIT_USAGE


def _with_help(words: Sequence[str]) -> Sequence[str]:
    """Return a command line with `help [COMMAND]` as `[COMMAND] --help`, which other programs have too."""
    return [*words[1:2], "--help"] if words and words[0] == "help" else words


def _check_python(version: tuple[int, int, int]) -> None:
    """Check that the regular expressions match what they say.

    Raises:
        CommandError: Python is too old. pip has not installed bbr then: it runs from a checkout, or in a copied tree.
    """
    if version < OLDEST_PYTHON:
        found, needed = ".".join(map(str, version)), ".".join(map(str, OLDEST_PYTHON))
        raise CommandError(
            EXIT_USAGE,
            f"it needs Python {needed} or later; regular expressions of Python {found} have a fault by which valid "
            "requests would be refused (python/cpython#106052)",
        )


def _run(name: str, arguments: Arguments) -> int:
    """Run a command, and write on stderr which variables nothing reads, unless the command has logged it."""
    try:
        return _module(name).run(arguments)
    finally:
        for sentence in arguments.unread:
            print(printable(f"bbr {name}: {sentence}."), file=sys.stderr)


def parser(wanted: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of command lines; of the commands, those that are wanted have their arguments."""
    found = _Parser(prog="bbr", description=_DESCRIPTION, formatter_class=HelpFormatter, allow_abbrev=False)
    found.add_argument("--version", action="version", version=f"bbr {__version__} ({built.HOW})")
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, entry in COMMANDS.items():
        command = commands.add_parser(name, help=entry.summary, formatter_class=HelpFormatter, allow_abbrev=False)
        if name in wanted:
            module = _module(name)
            command.usage, command.epilog = f"bbr {name} {module.ARGUMENTS}", module.EPILOG
            command.description = module.DESCRIPTION
            module.add_arguments(command)
    return found


def _flags(grammar: argparse.ArgumentParser, name: str) -> list[str]:
    """Return the flags of a command."""
    return [flag for action in commands_of(grammar).choices[name]._actions for flag in action.option_strings]


def _module(name: str) -> Command:
    return cast(Command, importlib.import_module(COMMANDS[name].module))
