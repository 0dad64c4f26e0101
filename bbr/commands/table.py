"""What `bbr models` and `bbr check` print: the model table as it would be served, and what is wrong with it."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from bbr.config.settings import Settings
from bbr.models.listing import in_order
from bbr.models.registry import Conflict, Entry, Kind, Origin
from bbr.sources.sources import Sources
from bbr.sources.table import SourceError, Table
from bbr.text import dumps

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1

_HEADINGS: Final = ("NAME", "KIND", "BASE MODEL", "DECLARED BY")


def models(settings: Settings, *, as_json: bool = False) -> tuple[str, int]:
    """Return the table as text, or as JSON, and the exit status: 1 if an object can't be used.

    Raises:
        SourceError: a source can't be read at all.
    """
    sources = Sources(settings)
    sources.read_all()
    table = sources.table
    status = EXIT_FAILED if table.broken else EXIT_OK
    if as_json:
        found = described(table) | {"models": [model(name, entry) for name, entry in in_order(table.registry)]}
        return dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n", status
    lines = []
    if table.registry.size:
        rows = [(name, _kind(entry), entry.base_model, str(entry.origin)) for name, entry in in_order(table.registry)]
        lines += [*_columns([_HEADINGS, *rows]), ""]
    lines.append(f"{sources}.")
    lines += _wrong(sources)
    return "\n".join(lines) + "\n", status


def described(table: Table) -> dict[str, Any]:
    """Return what is to be said of a table for JSON, besides its entries."""
    return {
        "identity": table.registry.identity,
        "conflicts": [_conflict(conflict) for conflict in table.conflicts],
        "broken": [{"source": source, "object": key, "why": why} for (source, key), why in table.broken.items()],
    }


def check(settings: Settings) -> tuple[str, int]:
    """Return what is to be said of the files that the settings name, and the exit status: 1 if anything is wrong."""
    sources = Sources(dataclasses.replace(settings, kubernetes=False))
    try:
        sources.load()
    except SourceError as error:
        return f"{error}.\n", EXIT_FAILED
    wrong = _wrong(sources)
    return "\n".join([f"{sources}.", *wrong]) + "\n", EXIT_FAILED if wrong else EXIT_OK


def _wrong(sources: Sources) -> list[str]:
    table = sources.table
    lines = []
    if table.conflicts:
        lines += ["", "Ignored:", *(f"  {conflict}" for conflict in table.conflicts)]
    if table.broken:
        lines += ["", "Can't be used:", *(f"  {source} {key}: {why}" for (source, key), why in table.broken.items())]
    return lines


def _kind(entry: Entry) -> str:
    return f"alias of {entry.alias_of}" if entry.kind is Kind.ALIAS else str(entry.kind)


def _columns(rows: Iterable[Sequence[str]]) -> list[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def model(name: str, entry: Entry) -> dict[str, Any]:
    """Return an entry of the table for JSON."""
    return {"name": name, **_meaning(entry)}


def _meaning(entry: Entry) -> dict[str, Any]:
    return {
        "kind": str(entry.kind),
        "base_model": entry.base_model,
        "alias_of": entry.alias_of,
        "declared_by": origin(entry.origin),
    }


def _conflict(conflict: Conflict) -> dict[str, Any]:
    kept = conflict.kept
    return {
        "name": conflict.name,
        "kept": _meaning(kept) if kept else None,
        "ignored": _meaning(conflict.refused),
        "why": str(conflict),
    }


def origin(origin: Origin) -> dict[str, Any]:
    """Return an object's origin for JSON."""
    return {"kind": origin.kind, "namespace": origin.namespace, "name": origin.name, "line": origin.line or None}
