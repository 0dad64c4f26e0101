"""The model table as JSON and as sentences, for `bbr models`, `bbr check`, `bbr explain` and the admin port."""

from collections.abc import Iterable, Iterator
from typing import Any

from bbr.models.access import KNOWN, as_route, lists_of
from bbr.models.entries import Conflict, Entry, Origin, Share
from bbr.models.hosts import Hosts
from bbr.models.registry import Registry
from bbr.sources.table import Table
from bbr.text import printable


def described(table: Table) -> dict[str, Any]:
    """Return what JSON says of a table besides its entries."""
    return {"identity": table.registry.identity, **{name: list(rows) for name, rows in lists(table).items()}}


def lists(table: Table) -> dict[str, Iterator[Any]]:
    """Return the lists of that. Whoever takes them row by row may be long about it."""
    scopes = (layer.scope for layer in table.registry.layers() if layer.scope)
    broken = list(table.broken.items())
    return {
        "scopes": _scopes(scopes, table.registry.hosts),
        "conflicts": map(_conflict, table.conflicts),
        "literal": table.literal,
        "broken": ({"source": source, "object": key, "why": why} for (source, key), why in broken),
    }


def _scopes(names: Iterable[str], hosts: Hosts) -> Iterator[dict[str, Any]]:
    of_scopes = hosts.by_scope()
    for name in names:
        yield {"name": name, "hosts": sorted(of_scopes.get(name, ()))}


def model(registry: Registry, name: str, entry: Entry) -> dict[str, Any]:
    """Return an entry of the table for JSON; `allow` is null for everyone, `scope` for everywhere."""
    meaning = _meaning(entry)
    return {"name": name, "scope": registry.scope or None, **meaning, "allow": allowed(registry, name, entry)}


def allowed(registry: Registry, name: str, entry: Entry) -> list[str] | None:
    """Return who may use a name, in order: those in all lists that count for it; None for everyone."""
    lists = [*lists_of(registry, name, as_route(name, entry))]
    if not lists:
        return None
    # Whoever is known is in each list with "*".
    named = [each for each in lists if KNOWN not in each]
    return sorted(frozenset.intersection(*named)) if named else [KNOWN]


def origin(origin: Origin) -> dict[str, Any]:
    """Return an object's origin for JSON."""
    return {"kind": origin.kind, "namespace": origin.namespace, "name": origin.name, "line": origin.line or None}


def shares(shares: Iterable[Share]) -> list[dict[str, Any]]:
    """Return the models that an alias stands for, for JSON."""
    return [share._asdict() for share in shares]


def wrong(table: Table) -> list[str]:
    """Return lines about claims that are ignored and objects that can't be used; none if all is well."""
    lines = []
    if table.conflicts:
        lines += ["", "Ignored:", *(printable(f"  {conflict}") for conflict in table.conflicts)]
    if table.broken:
        broken = (f"  {source} {key}: {why}" for (source, key), why in table.broken.items())
        lines += ["", "Can't be used:", *map(printable, broken)]
    return lines


def odd(table: Table) -> list[str]:
    """Return lines about what is no fault, and most likely a mistake: literal names, and lists for no model."""
    lines = []
    if literal := [*table.literal]:
        lines += ["", "Taken literally:", *(printable(f"  {sentence}") for sentence in literal)]
    if idle := table.registry.idle_grants():
        lines += ["", "Names in allow that no model, adapter or alias has:", *(printable(f"  {name}") for name in idle)]
    return lines


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
        "scope": conflict.scope or None,
        "kept": _meaning(kept) if kept else None,
        "ignored": _meaning(conflict.refused),
        "why": str(conflict),
    }
