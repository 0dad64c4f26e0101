"""What the admin port answers: one function for each of its paths, over the process's Vitals."""

import asyncio
import dataclasses
import importlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import orjson

from bbr import __version__
from bbr.admin import status_facts, status_page
from bbr.admin.http import HTML, JSON, AdminServer, Answer, Page, Request, text
from bbr.admin.status_facts import StatusFacts, in_pieces
from bbr.admin.vitals import Vitals
from bbr.admin.window import Window
from bbr.models.steps import Steps
from bbr.reading.paths import PathPattern
from bbr.reading.templates import Template
from bbr.sources import description
from bbr.sources.sources import Sources
from bbr.system.supervisor import Body
from bbr.text import dumps, printable
from bbr.tls.client_names import AllowedName
from bbr.transports.room import Room

if TYPE_CHECKING:
    from bbr.admin.authorization import Guard  # with a client of the API server

# Makes a page one that is shown to those alone who may see it.
Guarded = Callable[[Page], Page]

# Of a search, which the page repeats.
_QUERY_CHARACTERS: Final = 512

# About a millisecond's.
_ROWS_AT_ONCE: Final = 100
_ROWS_WITH_LISTS_AT_ONCE: Final = 5


def server(vitals: Vitals, guard: "Guard | None" = None) -> AdminServer:
    """Return the admin port of a process; the guard decides who may see all but its health."""
    window = Window(vitals.metrics)
    beside: dict[str, Body] = {"counts of the last minute": window.follow}
    if guard is not None:
        beside["reviews of tokens"] = guard.follow
    pages = endpoints(vitals, window, guard.guarded) if guard is not None else endpoints(vitals, window)
    return AdminServer(pages, beside=beside, supervisor=vitals.supervisor, room=Room(vitals.ledger))


def endpoints(vitals: Vitals, window: Window, guarded: Guarded = lambda page: page) -> Mapping[str, Page]:
    """Return the functions by their paths."""
    found = Endpoints(vitals, window)
    return {
        "/": guarded(found.page),
        "/status.json": guarded(found.status),
        "/help": guarded(found.help),
        "/metrics": guarded(found.metrics),
        "/healthz": found.healthz,
        "/readyz": found.readyz,
        "/debug/models": guarded(found.debug_models),
        "/debug/config": guarded(found.debug_config),
    }


class Endpoints:
    """See the module bbr.admin.http for what each is."""

    def __init__(self, vitals: Vitals, window: Window) -> None:
        self._vitals = vitals
        self._facts = StatusFacts(vitals, window)

    async def page(self, request: Request) -> Answer:
        """Show what goes where, how fast, and why not."""
        return Answer(status_page.render(self._gathering(request)), HTML, headers=status_page.HEADERS)

    async def status(self, request: Request) -> Answer:
        """Give what the page shows."""
        return Answer(status_facts.as_json(self._gathering(request)), JSON)

    async def help(self, _request: Request) -> Answer:
        """Say what reasons and problems mean, and what to do."""
        return Answer(status_page.help_body(), HTML, headers=status_page.HEADERS)

    def _gathering(self, request: Request) -> Steps[dict[str, Any]]:
        query, after = request.query.get("q", ""), request.query.get("after", "")
        return self._facts.gathering(query.strip()[:_QUERY_CHARACTERS], after)

    async def metrics(self, request: Request) -> Answer:
        """Expose the numbers."""
        exposition, process = await asyncio.to_thread(_of_system)
        content_type, pieces = exposition.expose(self._vitals, request.header("accept"), process)
        return Answer(pieces, content_type)

    async def healthz(self, _request: Request) -> Answer:
        """Say that the process runs."""
        return text("ok")

    async def readyz(self, _request: Request) -> Answer:
        """Say whether it takes requests."""
        why = self._vitals.why_not_ready()
        if why:
            return text(f"not ready: {printable(why)}", 503)
        return text("\n".join(["ready", *map(printable, self._vitals.troubles())]))

    async def debug_models(self, _request: Request) -> Answer:
        """Show the model table."""
        return Answer(_models(self._vitals.sources), JSON)

    async def debug_config(self, _request: Request) -> Answer:
        """Show the settings."""
        settings = {
            each.name: _plain(getattr(self._vitals.settings, each.name))
            for each in dataclasses.fields(self._vitals.settings)
        }
        found = {"version": __version__, "started": self._vitals.started, "settings": settings}
        return Answer((dumps(found, option=orjson.OPT_INDENT_2), b"\n"), JSON)


def _of_system() -> tuple[ModuleType, list[Any]]:
    """Return the module that exposes numbers, which takes 60 ms to load, once, and what it asks the system."""
    module = importlib.import_module("bbr.admin.exposition")
    return module, module.of_system()


def _models(sources: Sources) -> Iterator[bytes]:
    """Give the model table as JSON, in pieces: it may hold 100,000 names, and as many claims that are ignored."""
    table = sources.table
    mismatches = sources.mismatches
    summary = yield from in_pieces(sources.describing())
    found = {
        "summary": summary,
        "synced": table.synced,
        "age_seconds": round(table.age_seconds, 3),
        "identity": table.registry.identity,
    }
    yield dumps(found, option=orjson.OPT_INDENT_2).removesuffix(b"\n}")
    lists: dict[str, Iterable[Any]] = {
        "unrouted_base_models": mismatches.unrouted if mismatches else (),
        "unknown_models_in_routes": map(str, mismatches.unknown if mismatches else ()),
        **description.lists(table),
    }
    for name, rows in lists.items():
        yield from _list(name, rows, _ROWS_AT_ONCE)
    entries = ((layer, name, entry) for layer in table.registry.layers() for name, entry in layer.own_items())
    # Each may have lists of a thousand names that may use it.
    at_once = _ROWS_WITH_LISTS_AT_ONCE if any(layer.grants for layer in table.registry.layers()) else _ROWS_AT_ONCE
    yield from _list("models", (description.model(*each) for each in entries), at_once)
    yield b"\n}\n"


def _list(name: str, rows: Iterable[Any], at_once: int) -> Iterator[bytes]:
    """Give a list of an object of JSON that has members before it."""
    yield b',\n  "%s": [' % name.encode()
    separator = b"\n    "
    left = iter(rows)
    while some := list(itertools.islice(left, at_once)):
        yield separator + b",\n    ".join(map(dumps, some))
        separator = b",\n    "
    yield b"]" if separator == b"\n    " else b"\n  ]"


def _plain(value: Any) -> Any:
    """Return a setting's value as JSON has it. None of them is a secret: keys and tokens stand in files."""
    if isinstance(value, Enum):
        return value.name.lower().replace("_", "-") if isinstance(value, int) else value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, AllowedName | PathPattern | Template):
        return value.text
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, tuple | frozenset):
        return sorted(map(str, map(_plain, value)))
    return value if isinstance(value, str | int | float | bool | None) else str(value)
