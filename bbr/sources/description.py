"""The model table as JSON and as sentences, for `bbr models`, `bbr check`, `bbr explain` and the admin port."""

from collections.abc import Iterable
from typing import Any

from bbr.models.registry import Conflict, Entry, Origin, Share
from bbr.sources.table import Table
from bbr.text import printable


def described(table: Table) -> dict[str, Any]:
    """Return what JSON says of a table besides its entries."""
    return {
        "identity": table.registry.identity,
        "conflicts": [_conflict(conflict) for conflict in table.conflicts],
        "literal": table.literal,
        "broken": [{"source": source, "object": key, "why": why} for (source, key), why in table.broken.items()],
    }


def model(name: str, entry: Entry) -> dict[str, Any]:
    """Return an entry of the table for JSON."""
    return {"name": name, **_meaning(entry)}


def origin(origin: Origin) -> dict[str, Any]:
    """Return an object's origin for JSON."""
    return {"kind": origin.kind, "namespace": origin.namespace, "name": origin.name, "line": origin.line or None}


def shares(shares: Iterable[Share]) -> list[dict[str, Any]]:
    """Return the models that an alias stands for, for JSON."""
    return [share._asdict() for share in shares]


def wrong(table: Table) -> list[str]:
    """Return lines that tell which claims are ignored and which objects can't be used; none if all is well."""
    lines = []
    if table.conflicts:
        lines += ["", "Ignored:", *(printable(f"  {conflict}") for conflict in table.conflicts)]
    if table.broken:
        broken = (f"  {source} {key}: {why}" for (source, key), why in table.broken.items())
        lines += ["", "Can't be used:", *map(printable, broken)]
    return lines


def odd(table: Table) -> list[str]:
    """Return lines that tell which names look like patterns and are none; none if there are none."""
    return (
        ["", "Taken literally:", *(printable(f"  {sentence}") for sentence in table.literal)] if table.literal else []
    )


def _meaning(entry: Entry) -> dict[str, Any]:
    return {
        "kind": str(entry.kind),
        "base_model": entry.base_model,
        "alias_of": entry.alias_of,
        "shares": shares(entry.shares),
        "pattern": bool(entry.pattern),
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
