"""`bbr models`: prints the model table that `bbr serve` would have, and its errors."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import orjson

from bbr.commands import output
from bbr.commands.exits import EXIT_FAILED, EXIT_OK, CommandError
from bbr.config.arguments import Arguments, add_settings
from bbr.config.options import Group
from bbr.config.settings import Settings
from bbr.models.entries import Entry
from bbr.models.listing import own_in_order
from bbr.models.registry import Registry
from bbr.router import Router
from bbr.sources import description
from bbr.sources.objects import SourceError
from bbr.text import dumps, printable

ARGUMENTS: Final = "[OPTION...]"
DESCRIPTION: Final = """\
Print the model table that `bbr serve` would have with the same options and variables: each name, what it stands for,
and the object that declares it; entries that are ignored because they contradict others; objects with errors."""
EPILOG: Final = """\
Example:
  bbr models --models models.yaml --json

Exit status: 0; 1 if an object has errors; 2 if an option or a variable is unusable."""

_HEADINGS: Final = ("NAME", "KIND", "BASE MODEL", "DECLARED BY", "ALLOWED")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bbr models`."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_settings(parser, hidden=set(Group) - {Group.TABLE})


def run(arguments: Arguments) -> int:
    """Print the table and return the exit status.

    Raises:
        ConfigError: a setting is unusable.
        CommandError: a source can't be read at all.
    """
    settings = arguments.settings()
    output.answer_only()
    try:
        text, status = models(settings, as_json=arguments["json"])
    except SourceError as error:
        raise CommandError(EXIT_FAILED, error) from None
    output.write(text, as_json=arguments["json"])
    return status


def models(settings: Settings, *, as_json: bool = False) -> tuple[str, int]:
    """Return the table as text, or as JSON, and the exit status: 1 if an object can't be used.

    Raises:
        SourceError: a source can't be read at all.
    """
    sources = Router(settings).sources
    sources.read_all()
    table = sources.table
    status = EXIT_FAILED if table.broken else EXIT_OK
    if as_json:
        entries = [
            description.model(layer, name, entry)
            for layer in table.registry.layers()
            for name, entry in own_in_order(layer)
        ]
        found = description.described(table) | {"models": entries}
        return dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n", status
    lines = []
    layers = [*table.registry.layers()]
    hosts_of = table.registry.hosts.by_scope()
    granted = any(layer.grants for layer in layers)
    for layer in layers:
        if layer.scope:
            hosts = ", ".join(sorted(hosts_of.get(layer.scope, ()))) or "no host"
            lines += [printable(f"Scope {layer.scope} ({hosts}), whose names hide equal names above:"), ""]
        if layer.own_size:
            lines += [*_columns([row if granted else row[:-1] for row in _rows(layer)]), ""]
    lines += [printable(f"{sources}."), *description.wrong(table), *description.odd(table)]
    return "\n".join(lines) + "\n", status


def _rows(registry: Registry) -> Iterator[Sequence[str]]:
    yield _HEADINGS
    for name, entry in own_in_order(registry):
        yield name, entry.what, entry.base_model, str(entry.origin), _allowed(registry, name, entry)


def _allowed(registry: Registry, name: str, entry: Entry) -> str:
    askers = description.allowed(registry, name, entry)
    return "" if askers is None else ", ".join(askers) or "nobody"


def _columns(rows: Iterable[Sequence[str]]) -> list[str]:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
