"""What the status page shows, as one dict, which is /status.json too.

    version, build, transport, time (seconds since the epoch), uptime_seconds
    replica                         the name of the host or pod
    ready, why_not_ready            "" if it is ready
    problems                        level (bad or warn), kind, what: a sentence, where: the id of a section of the page
    table                           summary; identity (every model is its own base model), synced, age_seconds, reloads,
                                    names, base_models
    sources                         source, age_seconds (since it last proved that nothing was missed), failing: why it
                                    can't be followed just now, "" if it is
    requests                        of all: as a row of models, and busy_p50 and busy_p99, what the router itself took
    window_seconds                  what "the last minute" is: 60 to 70 s, less after a start
    models                          base_model ("" for requests of which none is known), pools (that HTTPRoutes name),
                                    requests and errors since the start; per_second, recent_errors, error_share (null
                                    without requests), p50 and p99 of the last minute; per_second_now of the last 10 to
                                    20 seconds; history
    history                         column_seconds: how long each column of a history is, from the oldest to the latest;
                                    bounds_seconds. A row's history has for each column requests, errors, and p50 and
                                    p99 as numbers of bounds_seconds: null for none, their length for more than the
                                    last. It is null without requests in the last hour, and for base models that are
                                    not among the 100 busiest
    thresholds                      warn_share and bad_share of errors
    flow                            see bbr.admin.flow
    reasons                         outcome, reason, requests: since the start; what and remedy: a sentence each
    body_fields                     field, header, and how often it was found, absent, late or refused since the start
    unknown_models                  name, times, seconds_ago: asked for in the last hour, and not in the table
    conflicts, route_mismatches     what: a sentence. route_mismatches.compared: whether --discover-routes has compared
    broken                          object, why
    buffered                        held_bytes, limit_bytes, peak_bytes, refusals
    connections                     streams now; open, accepted, turned_away: null with grpcio, which has no counts
    names                           name, kind, base_model, declared_by, per_second (of the last minute, by this name;
                                    of a base model by any); query, after, and next: the `after` of the next page, or
                                    null

Lists are {"total", "rows"}: the rows are the first 50, 100 of the names. p50 and p99 are bounds of histogram buckets:
{"at_most_seconds"}, {"more_than_seconds"} above the last bound, or null without a request in that time.

A router may hold 100,000 names and the counts of 10,000 base models, so all of it is gathered a step at a time.
"""

import itertools
import socket
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from bbr import __version__, built
from bbr.admin.first import First
from bbr.admin.flow import Pools, flowing
from bbr.admin.forms import BAD_SHARE, WARN_SHARE
from bbr.admin.history import Curve
from bbr.admin.problems import problems
from bbr.admin.reasons import reason
from bbr.admin.vitals import Vitals
from bbr.admin.window import NOTHING, Counts, Window
from bbr.models.entries import Entry, Kind
from bbr.models.registry import Registry
from bbr.models.steps import Steps
from bbr.telemetry.field_counts import RESULTS
from bbr.telemetry.metrics import BUSY_BOUNDS, DURATION_BOUNDS
from bbr.telemetry.observed import clock
from bbr.text import dumps, encodable

ROWS: Final = 50
NAMES: Final = 100

# Less than half a millisecond's.
_NAMES_A_STEP: Final = 500
_MODELS_A_STEP: Final = 50
_ALIASES_A_STEP: Final = 200
# Rows that are written in one go: those of base models have 300 numbers each.
_ROWS_WRITTEN: Final = 10
# Of base models, with their curves.
_ROWS_A_STEP: Final = 2

# Searches whose results are kept until the table changes: a page asks for the same one every few seconds.
_SEARCHES: Final = 16

_KINDS: Final = {kind: number for number, kind in enumerate(Kind)}

Result = TypeVar("Result")
Row = dict[str, Any]


class _Place(NamedTuple):
    """Where a name stands: below its base model, adapters before aliases."""

    base_model: str
    kind: int
    name: str


class StatusFacts:
    """Gathers what the status page shows."""

    def __init__(self, vitals: Vitals, window: Window) -> None:
        self._vitals = vitals
        self._window = window
        self._replica = encodable(socket.gethostname())
        self._reloads = -1
        self._pools: Pools = {}
        self._searches: dict[tuple[str, str], Row] = {}

    def gathering(self, query: str = "", after: str = "") -> Steps[Row]:
        """Gather everything; see the module for what that is.

        Args:
            query: for `names` alone: names, base models and pools that have it somewhere, in upper or lower case; ""
                for all.
            after: the name before the first one to show; "", or one that is gone, for the first.
        """
        names = yield from self._names(query, after)
        aliases = yield from _aliases(self._vitals)
        requests, models, flow = yield from self._models()
        vitals, window, now = self._vitals, self._window, clock()
        found = {
            **self._process(now),
            "table": _table(vitals),
            "sources": _sources(vitals),
            "window_seconds": round(window.seconds(now), 3),
            "requests": requests,
            "models": models,
            "history": {"column_seconds": _rounded(window.history.seconds()), "bounds_seconds": list(DURATION_BOUNDS)},
            "thresholds": {"warn_share": WARN_SHARE, "bad_share": BAD_SHARE},
            "flow": {"total": len(flow), "rows": flow},
            "reasons": _reasons(vitals),
            "aliases": aliases,
            "body_fields": _body_fields(vitals),
            "unknown_models": _unknown(vitals, now),
            **_wrong(vitals),
            "buffered": _buffered(vitals),
            "connections": _connections(vitals),
            "names": names,
        }
        return {**found, "problems": _first(problems(found, vitals))}

    def _process(self, now: float) -> Row:
        vitals = self._vitals
        why = vitals.why_not_ready()
        return {
            "version": __version__,
            "build": built.HOW,
            "transport": vitals.settings.transport,
            "replica": self._replica,
            "time": round(time.time(), 3),
            "uptime_seconds": round(now - vitals.began, 3),
            "ready": not why,
            "why_not_ready": encodable(why),
        }

    def _names(self, query: str, after: str) -> Steps[Row]:
        table, pools = self._vitals.sources.table, self._vitals.sources.pools
        reloads = table.reloads_total
        if reloads != self._reloads or pools is not self._pools:
            self._searches.clear()
            self._reloads, self._pools = reloads, pools
        found = self._searches.get((query, after))
        if found is None:
            found = yield from finding(table.registry, query, after, pools)
            if reloads == self._reloads == table.reloads_total:
                if len(self._searches) == _SEARCHES:
                    del self._searches[next(iter(self._searches))]
                self._searches[query, after] = found
        rows = yield from self._rated(found["rows"])
        return {**found, "rows": rows}

    def _rated(self, rows: list[Row]) -> Steps[list[Row]]:
        """Return rows of names with their rates, which change while a search is kept."""
        metrics, window = self._vitals.metrics, self._window
        aliases: dict[str, int] = {}
        if any(row["kind"].startswith(Kind.ALIAS) for row in rows):
            for number, (key, count) in enumerate(list(metrics.aliases.items()), 1):
                aliases[key[0]] = aliases.get(key[0], 0) + window.named(key, count)
                if number % _ALIASES_A_STEP == 0:
                    yield
        seconds = window.seconds(clock())

        def recent(row: Row) -> int:
            name = row["name"]
            if row["kind"].startswith(Kind.ALIAS):
                return aliases.get(name, 0)
            if row["kind"] != Kind.BASE_MODEL:
                return window.named(name, metrics.adapters.get(name, 0))
            return window.requests(name, Counts.of(metrics.models[name]).requests) if name in metrics.models else 0

        return [{**row, "per_second": round(recent(row) / seconds, 3)} for row in rows]

    def _models(self) -> Steps[tuple[Row, Row, list[Row]]]:
        """Return the row of all requests, those of the base models that had the most of them, and what went where."""
        counted, window, now = self._vitals.metrics.models, self._window, clock()
        busiest: First[tuple[int, int, str]] = First(ROWS)
        total = NOTHING
        for number, name in enumerate([*counted], 1):
            counts = Counts.of(counted[name])
            total += counts
            busiest.add((-window.requests(name, counts.requests), -counts.requests, name))
            if number % _MODELS_A_STEP == 0:
                yield
        sources = self._vitals.sources
        for number, name in enumerate(sources.table.registry.base_models, 1):
            if name not in counted:
                busiest.add((0, 0, name))
            if number % _NAMES_A_STEP == 0:
                yield
        rows: list[Row] = []
        for number, (*_, name) in enumerate(busiest.kept, 1):
            rows.append(self._model(name, now))
            if number % _ROWS_A_STEP == 0:
                yield
        seconds = window.seconds(now)
        busy = {f"busy_p{share}": _bound(window.busy_quantile(share / 100), BUSY_BOUNDS) for share in (50, 99)}
        every = {**_counts(total, window.every(total), seconds), **busy, "history": _history(window.history.every())}
        recent = [(name, -minus) for minus, _, name in busiest.kept]
        flow = yield from flowing(self._vitals.metrics, sources.table.registry, window, sources.pools, recent, seconds)
        return every, {"total": busiest.count, "rows": rows}, flow

    def _model(self, name: str, now: float) -> Row:
        counted, window = self._vitals.metrics.models, self._window
        counts = Counts.of(counted[name]) if name in counted else NOTHING
        return {
            "base_model": name,
            "pools": list(self._vitals.sources.pools.get(name, ())),
            "per_second_now": round(window.latest(name, counts.requests) / window.latest_seconds(now), 3),
            **_counts(counts, window.of(name, counts), window.seconds(now)),
            "history": _history(window.history.of(name)),
        }


def finding(
    registry: Registry, query: str, after: str = "", pools: Pools = MappingProxyType({}), limit: int = NAMES
) -> Steps[Row]:
    """Search a table; see StatusFacts.gathering. Base models come by name, each before its adapters and aliases.

    Args:
        registry: the table.
        query: what names, base models or pools have somewhere.
        after: the name before the first one.
        pools: base model -> its backends.
        limit: of the names that are returned.
    """
    wanted = query.casefold()
    entry = registry.find(after)
    passed = _place(after, entry) if entry else None
    matching = 0
    first: First[_Place] = First(limit)
    for number, (name, found) in enumerate(registry.items(), 1):
        where = (name, found.base_model, *pools.get(found.base_model, ()))
        if any(wanted in each.casefold() for each in where):
            matching += 1
            place = _place(name, found)
            if passed is None or place > passed:
                first.add(place)
        if number % _NAMES_A_STEP == 0:
            yield
    rows = [_name(place.name, registry.find(place.name)) for place in first.kept]
    more = rows[-1]["name"] if first.count > limit else None
    return {"total": matching, "rows": rows, "query": query, "after": after if passed else "", "next": more}


def as_json(gathering: Steps[Row]) -> Iterator[bytes]:
    """Give what is gathered as JSON, a member at a time and of lists some rows; an empty piece after each step."""
    found = yield from in_pieces(gathering)
    before = b"{\n  "
    for name, value in found.items():
        yield before + _dumped(name) + b": "
        if isinstance(value, dict) and "rows" in value:
            yield from _listed(value)
        else:
            yield _dumped(value, b"\n  ")
        before = b",\n  "
    yield b"\n}\n"


def _listed(value: Row) -> Iterator[bytes]:
    """Give a member that is a list with its total: the rows come last."""
    rows = value["rows"]
    yield _dumped({name: each for name, each in value.items() if name != "rows"}, b"\n  ").removesuffix(b"\n  }")
    yield b',\n    "rows": ['
    for start in range(0, len(rows), _ROWS_WRITTEN):
        some = (_dumped(row, b"\n      ") for row in rows[start : start + _ROWS_WRITTEN])
        yield (b",\n      " if start else b"\n      ") + b",\n      ".join(some)
    yield b"\n    ]\n  }" if rows else b"]\n  }"


def _dumped(value: Any, newline: bytes = b"\n") -> bytes:
    """Return a value as JSON over several lines; in a text no line ends."""
    return dumps(value, option=orjson.OPT_INDENT_2).replace(b"\n", newline)


def in_pieces(steps: Steps[Result]) -> Generator[bytes, None, Result]:
    """Take steps within an answer's body: an empty piece after each lets requests be served in between."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Result = done.value
            return result
        yield b""


def _place(name: str, entry: Entry) -> _Place:
    return _Place(entry.base_model, _KINDS[entry.kind], name)


def _name(name: str, entry: Entry | None) -> Row:
    assert entry is not None  # noqa: S101 (a snapshot does not change)
    return {
        "name": name,
        "kind": entry.what,
        "base_model": entry.base_model,
        "declared_by": encodable(str(entry.origin)),
    }


def _counts(counts: Counts, recent: Counts, seconds: float) -> Row:
    return {
        "requests": counts.requests,
        "errors": counts.errors,
        "per_second": round(recent.requests / seconds, 3),
        "recent_errors": recent.errors,
        "error_share": round(recent.errors / recent.requests, 6) if recent.requests else None,
        "p50": _bound(recent.quantile(0.5), DURATION_BOUNDS),
        "p99": _bound(recent.quantile(0.99), DURATION_BOUNDS),
    }


def _history(curve: Curve | None) -> Row | None:
    return (
        None if curve is None or not any(curve.requests) else {key: list(each) for key, each in curve._asdict().items()}
    )


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 3) for value in values]


def _bound(quantile: float | None, bounds: Sequence[float]) -> dict[str, float] | None:
    if quantile is None:
        return None
    return {"at_most_seconds": quantile} if quantile <= bounds[-1] else {"more_than_seconds": bounds[-1]}


def _table(vitals: Vitals) -> Row:
    table = vitals.sources.table
    if table.registry.identity or not table.synced:
        summary = encodable(str(vitals.sources))
    else:  # to count adapters and aliases apart would take a look at every name
        summary = f"base models: {len(table.registry.base_models):,}; names in all: {table.registry.size:,}"
        if table.registry.scopes:
            summary += f"; scopes: {len(table.registry.scopes):,}"
    return {
        "summary": summary,
        "identity": table.registry.identity,
        "synced": table.synced,
        "age_seconds": round(table.age_seconds, 3),
        "reloads": table.reloads_total,
        "names": table.registry.size,
        "base_models": len(table.registry.base_models),
        "scopes": len(table.registry.scopes),
    }


def _sources(vitals: Vitals) -> Row:
    failing = vitals.sources.failing()
    return _first(
        {"source": source, "age_seconds": round(age, 3), "failing": encodable(failing.get(source, ""))}
        for source, age in vitals.ages().items()
    )


def _reasons(vitals: Vitals) -> Row:
    found = sorted((-number, *key) for key, number in vitals.metrics.reasons.items())
    return _first(
        {"outcome": outcome, "reason": name, "requests": -number, **reason(name)._asdict()}
        for number, outcome, name in found
    )


def _aliases(vitals: Vitals) -> Steps[Row]:
    counted = dict(vitals.metrics.aliases)
    totals: dict[str, int] = {}
    for (alias, _), number in counted.items():
        totals[alias] = totals.get(alias, 0) + number
    yield
    busiest: First[tuple[int, str, int, str]] = First(ROWS)
    for number, ((alias, model), count) in enumerate(counted.items(), 1):
        busiest.add((-totals[alias], alias, -count, model))
        if number % _ALIASES_A_STEP == 0:
            yield
    return _first(
        (
            {"alias": alias, "model": model, "requests": -count, "percent": round(count / total * 100, 1)}
            for total, alias, count, model in busiest.kept
        ),
        busiest.count,
    )


def _body_fields(vitals: Vitals) -> Row:
    counts = vitals.body_fields
    if counts is None:
        return _first(())
    return _first(
        {
            "field": field.name,
            "header": field.header,
            **{result: counts.requests[index, result] for result in RESULTS},
        }
        for index, field in enumerate(counts.config.fields)
    )


def _unknown(vitals: Vitals, now: float) -> Row:
    return _first(
        {"name": each.name, "times": each.times, "seconds_ago": round(max(now - each.last, 0.0), 3)}
        for each in vitals.metrics.unknown.since(now)
    )


def _buffered(vitals: Vitals) -> Row:
    ledger = vitals.ledger
    return {
        "held_bytes": ledger.held_bytes,
        "limit_bytes": ledger.max_bytes,
        "peak_bytes": ledger.peak_bytes,
        "refusals": ledger.refused,
    }


def _wrong(vitals: Vitals) -> Row:
    """Return what is wrong with the table; its lists may be long, so only what is shown is looked at."""
    table = vitals.sources.table
    mismatches = vitals.sources.mismatches
    unrouted, unknown = mismatches or ((), ())
    unfit = itertools.chain((f"No HTTPRoute matches the base model {name}" for name in unrouted), map(str, unknown))
    return {
        "conflicts": _first(({"what": encodable(str(each))} for each in table.conflicts), len(table.conflicts)),
        "broken": _first(
            (
                {"object": encodable(f"{source} {key}"), "why": encodable(why)}
                for (source, key), why in table.broken.items()
            ),
            len(table.broken),
        ),
        "route_mismatches": {
            **_first(({"what": each} for each in unfit), len(unrouted) + len(unknown)),
            "compared": mismatches is not None,
        },
    }


def _first(rows: Iterable[Row], total: int | None = None) -> Row:
    if total is None:
        rows = list(rows)
        total = len(rows)
    return {"total": total, "rows": list(itertools.islice(rows, ROWS))}


def _connections(vitals: Vitals) -> Row:
    counts = vitals.main.counts()
    return {
        "streams": vitals.metrics.running,
        "open": counts.connections,
        "accepted": counts.connections_total,
        "turned_away": counts.turned_away_total,
    }
