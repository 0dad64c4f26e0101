"""`bbr version`: which bbr this is, and what it runs on."""

import argparse
import platform
from typing import Final

import orjson

from bbr import __version__, built
from bbr.commands import output
from bbr.commands.exits import EXIT_OK
from bbr.config.arguments import Arguments
from bbr.text import dumps

ARGUMENTS: Final = "[--json]"
DESCRIPTION: Final = "Print the version of bbr, whether its core is compiled, and what it runs on."
EPILOG: Final = """\
Example:
  bbr version --json

Exit status: 0."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bbr version`."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: Arguments) -> int:
    """Print the version and return the exit status."""
    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    if arguments["json"]:
        found = {"version": __version__, "build": built.HOW, "python": python, "system": system}
        output.write(dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n", as_json=True)
    else:
        output.write(f"bbr {__version__} ({built.HOW}), Python {python}, {system}\n")
    return EXIT_OK
