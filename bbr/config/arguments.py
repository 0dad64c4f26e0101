"""The settings as arguments of a command line: groups for `--help`, the rare ones for `--help-all`."""

import argparse
import os
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from bbr.config import go_flags, loading, mistyped, removed
from bbr.config import settings as config
from bbr.config.options import Group, Option
from bbr.text import MAX_QUOTED_CHARACTERS, quoted

_HELP_ALL: Final = "show this help with all options, and exit"


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps help at blanks only, so that the name of an option is never broken."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment  # which argparse forgets: commands are indented twice

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)


class _HelpAll(argparse.Action):
    """Prints the help with the options that `--help` leaves out."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=_HELP_ALL)
        self.hidden: list[tuple[argparse.Action, str]] = []

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        for action, text in self.hidden:
            action.help = text
        parser.print_help()
        parser.exit()


def add_settings(
    parser: argparse.ArgumentParser,
    names: Iterable[str] = config.OPTIONS,
    hidden: Collection[Group] = (),
) -> None:
    """Add the flags of settings.

    Args:
        names: the settings, as fields of Settings are called.
        hidden: groups that `--help` leaves out; `--help-all` has them too.
    """
    help_all: argparse.Action | None = parser.add_argument("--help-all", action=_HelpAll) if hidden else None
    chosen = list(names)
    for group in Group:
        section = parser.add_argument_group(group.value)
        for name in chosen:
            option = config.OPTIONS[name]
            if option.group is group:
                action = section.add_argument(config.flag_of(name), **_declared(name, option))
                if isinstance(help_all, _HelpAll) and group in hidden:
                    help_all.hidden.append((action, action.help or ""))
                    action.full_help = action.help  # type: ignore[attr-defined]  # for shells' completion
                    action.help = argparse.SUPPRESS


def _declared(name: str, option: Option) -> dict[str, Any]:
    default = f" (default: {option.default})" if option.default else ""
    return {
        "dest": name,
        "metavar": option.metavar,
        "help": (option.help + default).replace("%", "%%"),
        "action": "append" if option.repeatable else "store",
        "nargs": "?" if option.switch else None,
        "const": "true" if option.switch else None,
    }


def commands_of(grammar: argparse.ArgumentParser) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    """Return what a parser of command lines knows of its commands."""
    (found,) = [each for each in grammar._actions if isinstance(each, argparse._SubParsersAction)]
    return found


class Arguments:
    """The arguments of a command line, parsed.

    Attributes:
        notes: what the log has to say of the command line, in its order.
        unread: sentences about variables of the environment that nothing reads, once the settings were asked for.
        grammar: gives the parser of command lines, with the arguments of all commands.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        line: go_flags.CommandLine | None = None,
        grammar: Callable[[], argparse.ArgumentParser] = argparse.ArgumentParser,
    ) -> None:
        """Take what the parser has found, and the command line that it had to read, if that was `bbr serve`'s."""
        self._values = values
        self.unread: list[str] = []
        self.grammar = grammar
        self._translated = line.settings if line else {}
        self.notes = line.notes if line else []

    def __getitem__(self, name: str) -> Any:
        """Return the value of an argument, None if it was not given and has no default."""
        return self._values[name]

    def settings(self) -> config.Settings:
        """Return the settings of the arguments and of this process's environment.

        Raises:
            ConfigError: one of them is unusable.
        """
        self.unread = mistyped.unread_variables(os.environ)
        given = {
            name: ",".join(text) if isinstance(text, list) else text
            for name, text in self._values.items()
            if text is not None and name in config.OPTIONS
        }
        return loading.load(given | self._translated, os.environ)


def unknown_argument(command: str, word: str, known: Iterable[str] = ()) -> config.ConfigError:
    """Return the error for a word of a command line that is no argument of a command.

    Args:
        known: the command's flags.
    """
    like = mistyped.suggestion(word.partition("=")[0], known)
    shown = quoted(word)[1:-1] if len(word) > MAX_QUOTED_CHARACTERS else word
    if not word.startswith("-"):
        return config.ConfigError(f"{quoted(word)} is one argument too many; see `bbr {command} --help`")
    sentence = removed.of_flag(word) or f"{shown} is not a flag of `bbr {command}`{like}; see `bbr {command} --help`"
    return config.ConfigError(sentence)
