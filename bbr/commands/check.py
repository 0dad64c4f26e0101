"""`bbr check`: whether model files are valid, and what is wrong with them."""

import argparse
import dataclasses
from typing import Final

from bbr.commands import output
from bbr.commands.exits import EXIT_FAILED, EXIT_OK
from bbr.config.arguments import Arguments, add_settings
from bbr.config.settings import Settings
from bbr.router import Router
from bbr.sources import description, file
from bbr.sources.objects import SourceError
from bbr.text import printable

ARGUMENTS: Final = "[OPTION...] FILE|DIR"
DESCRIPTION: Final = """\
Validate a model file, or all files of a directory: print how many models they hold, or what is wrong with them."""
EPILOG: Final = """\
Example:
  bbr check models.yaml

Names that look like patterns but are literal are reported, and are not an error. A directory without a model file is.
Exit status: 0 valid; 1 not valid, or some entries would be ignored; 2 an option or a variable is unusable."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bbr check`."""
    parser.add_argument("models", metavar="FILE|DIR", help="the file, or a directory of files")
    add_settings(parser, ("max_model_length",))


def run(arguments: Arguments) -> int:
    """Print what is to be said of the files and return the exit status.

    Raises:
        ConfigError: a setting is unusable.
    """
    settings = arguments.settings()
    output.answer_only()
    text, status = check(settings)
    output.write(text)
    return status


def check(settings: Settings) -> tuple[str, int]:
    """Return what is to be said of the files that the settings name, and the exit status: 1 if anything is wrong."""
    sources = Router(dataclasses.replace(settings, kubernetes=False)).sources
    if settings.models is not None and file.is_bare_directory(settings.models):
        what = f"the directory has no file that ends in {', '.join(file.SUFFIXES)}"
        return printable(f"{settings.models}: {what}.") + "\n", EXIT_FAILED
    try:
        sources.load()
    except SourceError as error:
        # The file is an argument here, and no option.
        return printable(f"{error}.".removeprefix("--models: ")) + "\n", EXIT_FAILED
    wrong = description.wrong(sources.table)
    lines = [printable(f"{sources}."), *wrong, *description.odd(sources.table)]
    return "\n".join(lines) + "\n", EXIT_FAILED if wrong else EXIT_OK
