"""`bbr completion`: scripts with which a shell completes commands, options and their values.

They are made from the parser of the command line, so they contain all options of `--help-all`.
"""

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bbr.commands import output
from bbr.commands.exits import EXIT_OK
from bbr.config.arguments import Arguments, commands_of

ARGUMENTS: Final = "bash|zsh|fish"
DESCRIPTION: Final = """\
Print a script that lets a shell complete the commands, options and values of bbr."""
EPILOG: Final = """\
Examples:
  bbr completion bash > ~/.local/share/bash-completion/completions/bbr
  bbr completion zsh > "${fpath[1]}/_bbr"
  bbr completion fish > ~/.config/fish/completions/bbr.fish

Exit status: 0; 2 if the shell is none of these."""

# Longer help is cut at the end of a word: it has to fit beside its option.
_LONGEST_HELP: Final = 72


@dataclass(frozen=True, slots=True)
class Flag:
    """An option as a shell has to know it.

    Attributes:
        name: with its dashes.
        help: its first words.
        takes: whether a value follows.
        values: what that may be, as far as it is known.
        file: whether it is the name of a file.
    """

    name: str
    help: str
    takes: bool
    values: tuple[str, ...]
    file: bool


@dataclass(frozen=True, slots=True)
class Word:
    """A command as a shell has to know it.

    Attributes:
        help: what it does.
        flags: its options.
        values: what its argument may be, as far as it is known.
        file: whether its argument is the name of a file.
    """

    name: str
    help: str
    flags: tuple[Flag, ...]
    values: tuple[str, ...]
    file: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bbr completion`."""
    parser.add_argument("shell", choices=SHELLS, metavar=ARGUMENTS, help="the shell")


def run(arguments: Arguments) -> int:
    """Print the script and return the exit status."""
    output.write(script(arguments["shell"], arguments.grammar()))
    return EXIT_OK


def script(shell: str, grammar: argparse.ArgumentParser) -> str:
    """Return the script for a shell.

    Args:
        grammar: the parser of command lines, with the arguments of all commands.
    """
    return SHELLS[shell](words(grammar))


def words(grammar: argparse.ArgumentParser) -> list[Word]:
    """Return the commands of a parser."""
    commands = commands_of(grammar)
    helps = {each.dest: each.help or "" for each in commands._get_subactions()}
    return [_word(name, helps[name], each) for name, each in commands.choices.items()]


def _word(name: str, about: str, parser: argparse.ArgumentParser) -> Word:
    plain = [each for each in parser._actions if not each.option_strings]
    flags = [_flag(each) for each in parser._actions if each.option_strings]
    values = tuple(str(value) for each in plain for value in each.choices or ())
    return Word(name, about, tuple(flags), values, any(_is_file(each) for each in plain))


def _flag(action: argparse.Action) -> Flag:
    return Flag(
        name=max(action.option_strings, key=len),
        help=_short(_help(action)),
        takes=action.nargs is None,
        values=_values(action),
        file=_is_file(action),
    )


def _help(action: argparse.Action) -> str:
    """Return an option's help, which is put off to --help-all for the rare ones."""
    found = action.help or ""
    return getattr(action, "full_help", "") if found == argparse.SUPPRESS else found


def _short(text: str) -> str:
    """Return the first words of a help, as plain text without what shells could take for their own."""
    plain = re.sub(r"[^A-Za-z0-9 .,;()/_=-]", "", " ".join(text.replace("%%", "%").split()))
    if len(plain) <= _LONGEST_HELP:
        return plain
    return plain[:_LONGEST_HELP].rsplit(" ", 1)[0].rstrip(",;(") + " ..."


def _values(action: argparse.Action) -> tuple[str, ...]:
    if action.choices:
        return tuple(str(each) for each in action.choices)
    if action.nargs == "?" and action.option_strings:
        return ("true", "false")
    found = str(action.metavar or "").split("|")
    return tuple(each for each in found if len(found) > 1 and each.islower())


def _is_file(action: argparse.Action) -> bool:
    return bool({"FILE", "DIR"}.intersection(str(action.metavar or "").split("|")))


def _bash(commands: list[Word]) -> str:
    cases = []
    for word in commands:
        cases += [f"    '{word.name} {flag.name}') {_bash_reply(flag)} ;;" for flag in word.flags if flag.takes]
    lists = [f"    {word.name}) flags='{' '.join(flag.name for flag in word.flags)}' ;;" for word in commands]
    plain = [f'    {word.name}) COMPREPLY=($(compgen -f -- "$cur")) ;;' for word in commands if word.file]
    plain += [
        f"    {word.name}) COMPREPLY=($(compgen -W '{' '.join(word.values)}' -- \"$cur\")) ;;"
        for word in commands
        if word.values
    ]
    parts = {
        "COMMANDS": " ".join(word.name for word in commands),
        "VALUES": "\n".join(cases),
        "FLAGS": "\n".join(lists),
        "PLAIN": "\n".join(plain),
    }
    return _filled(_BASH, parts)


def _bash_reply(flag: Flag) -> str:
    if flag.file:
        return 'COMPREPLY=($(compgen -f -- "$cur"))'
    return f"COMPREPLY=($(compgen -W '{' '.join(flag.values)}' -- \"$cur\"))" if flag.values else ":"


def _zsh(commands: list[Word]) -> str:
    about = [f"    '{word.name}:{word.help.replace(':', ' ')}'" for word in commands]
    cases = []
    for word in commands:
        lines = [_zsh_flag(flag) for flag in word.flags]
        if word.file:
            lines.append("'*:file:_files'")
        if word.values:
            lines.append(f"'1:argument:({' '.join(word.values)})'")
        cases.append(f"    {word.name})\n      _arguments {' '.join(lines)} ;;".replace("' '", "' \\\n        '"))
    return _filled(_ZSH, {"ABOUT": "\n".join(about), "CASES": "\n".join(cases)})


def _zsh_flag(flag: Flag) -> str:
    what = "_files" if flag.file else f"({' '.join(flag.values)})" if flag.values else " "
    value = f":value:{what}" if flag.takes else ""
    return f"'*{flag.name}{'=' if flag.takes else ''}[{flag.help}]{value}'"


def _fish(commands: list[Word]) -> str:
    lines = ["# fish completion for bbr, made by `bbr completion fish`.", "complete -c bbr -f"]
    lines.append("complete -c bbr -n __fish_use_subcommand -l version -d 'print the version'")
    for word in commands:
        lines.append(f"complete -c bbr -n __fish_use_subcommand -a {word.name} -d '{_short(word.help)}'")
        where = f"complete -c bbr -n '__fish_seen_subcommand_from {word.name}'"
        lines += [f"{where} -l {flag.name[2:]}{_fish_value(flag)} -d '{flag.help}'" for flag in word.flags]
        if word.file:
            lines.append(f"{where} -F")
        if word.values:
            lines.append(f"{where} -a '{' '.join(word.values)}'")
    return "\n".join(lines) + "\n"


def _fish_value(flag: Flag) -> str:
    if not flag.takes:
        return ""
    return " -r -F" if flag.file else f" -x -a '{' '.join(flag.values)}'" if flag.values else " -x"


def _filled(template: str, parts: Mapping[str, str]) -> str:
    for name, text in parts.items():
        template = template.replace(f"@{name}@", text)
    return template


_BASH: Final = """\
# bash completion for bbr, made by `bbr completion bash`.
_bbr() {
  local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} flag='' flags=''
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '@COMMANDS@ --help --version' -- "$cur"))
    return
  fi
  # bash breaks words at an equals sign: --flag=value is three words.
  if [ "$cur" = = ]; then
    flag=$before cur=''
  elif [ "$before" = = ]; then
    flag=${COMP_WORDS[COMP_CWORD-2]}
  else
    flag=$before
  fi
  case "$command $flag" in
@VALUES@
    *) flag='' ;;
  esac
  [ -n "$flag" ] && return
  case $command in
@FLAGS@
  esac
  if [ "${cur#-}" != "$cur" ]; then
    COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    return
  fi
  case $command in
@PLAIN@
    *) COMPREPLY=($(compgen -W "$flags" -- "$cur")) ;;
  esac
}
complete -F _bbr bbr
"""

_ZSH: Final = """\
#compdef bbr
# zsh completion for bbr, made by `bbr completion zsh`.
_bbr() {
  local -a commands
  commands=(
@ABOUT@
  )
  if (( CURRENT == 2 )); then
    _describe -t commands command commands
    return
  fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
@CASES@
  esac
}
if [ "$funcstack[1]" = _bbr ]; then
  _bbr "$@"
else
  compdef _bbr bbr
fi
"""

SHELLS: Final[Mapping[str, Callable[[list[Word]], str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
