"""Compares the model table with the cluster's HTTPRoutes. Such a mismatch can cost a user days.

A base model that no route names gets the gateway's default route, and most often a 404 without an explanation. If a
route matches a header value that no model has, no request takes that route. The cause is a typing error, or a model
that was renamed.
"""

import asyncio
import itertools
import logging
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Self

from bbr.headers import BASE_MODEL_HEADER, MODEL_HEADER
from bbr.models.entries import Kind
from bbr.models.registry import Registry
from bbr.models.steps import Steps, finish, sorting
from bbr.sources.http_routes import EXACT, REGULAR_EXPRESSION, Backend, Header, Match, Route, RouteSpec, Rule
from bbr.sources.kept import Kept
from bbr.sources.table import Table
from bbr.system.steps import in_turns

log = logging.getLogger(__name__)

# Table and routes are rarely changed by the same hand at the same moment.
SETTLE_SECONDS: Final = 5.0

# Of mismatches that come up at once, so many are logged one by one.
_LOGGED_AT_ONCE: Final = 20

# Header matches, and base models, compared in one step: 0.3 ms.
_STEP_CLAIMS: Final = 500
_STEP_NAMES: Final = 2000

# Matches in one step, each of which may be compared with every pattern.
_STEP_COMPARED: Final = 20

# Backends of a rule that are named to people; and base models whose backends are.
MAX_BACKENDS: Final = 4
MAX_POOLS: Final = 10_000

# Header matches of a route that are looked at: as many as Gateway API lets a route have, 16 in each of 128 matches.
MAX_HEADERS: Final = 2048

# Header values that no model has, of all routes together: whoever may write routes could ask for millions, and to sort
# 300,000 took 1.3 s in one go.
MAX_UNKNOWN: Final = 1_000

_HEADERS: Final = {name.lower(): name for name in (BASE_MODEL_HEADER, MODEL_HEADER)}


class HTTPRoute(Route):
    """An HTTPRoute that is compared with the table."""

    def reduced(self) -> Self:
        """Return no more of it than `wanted` looks at."""
        return type(self)(self.metadata, RouteSpec([_rule(each) for each in wanted(self)]))


class Wanted(NamedTuple):
    """What a header match of a route asks for.

    Attributes:
        header: the routing header, in the router's spelling.
        value: its value.
        exact: whether the value is meant as it stands; otherwise it is a regular expression, in some gateway's dialect.
        backends: where such requests go, by the names of the rule's backends: InferencePools mostly. The first four.
    """

    header: str
    value: str
    exact: bool = True
    backends: tuple[str, ...] = ()


class Unknown(NamedTuple):
    """A header value that no model has.

    Attributes:
        route: the HTTPRoute, as namespace/name.
        header: the routing header.
        value: what the route wants it to be.
    """

    route: str
    header: str
    value: str

    def __str__(self) -> str:
        what = "base model" if self.header == BASE_MODEL_HEADER else "model"
        return f"HTTPRoute {self.route} matches {self.header}: {self.value}, but no {what} has this name"


class Mismatches(NamedTuple):
    """What does not fit.

    Attributes:
        unrouted: base models that no route names, in the table's order. Empty if a route has a regular expression for a
            routing header: it may mean any of them.
        unknown: header values that no model has, the first MAX_UNKNOWN that are found, sorted.
    """

    unrouted: tuple[str, ...] = ()
    unknown: tuple[Unknown, ...] = ()


def wanted(route: HTTPRoute) -> frozenset[Wanted]:
    """Return what a route's matches ask of the routing headers, the first MAX_HEADERS of them."""
    asked = (
        Wanted(_HEADERS[header.name.lower()], header.value, header.type == EXACT, _backends(rule))
        for rule in route.rules
        for header in rule.headers()
        if header.name.lower() in _HEADERS
    )
    return frozenset(itertools.islice(asked, MAX_HEADERS))


def _backends(rule: Rule) -> tuple[str, ...]:
    return tuple(each.name for each in (rule.backend_refs or ())[:MAX_BACKENDS])


def _rule(each: Wanted) -> Rule:
    header = Header(each.header, each.value, EXACT if each.exact else REGULAR_EXPRESSION)
    return Rule([Match([header])], [Backend(name) for name in each.backends])


def pooling(routes: Mapping[str, Iterable[Wanted]]) -> Steps[Mapping[str, tuple[str, ...]]]:
    """Find the backends of each base model that a route names, a step at a time, for people.

    If several routes name a base model, the first one in the order of their names counts.
    """
    found: dict[str, tuple[str, ...]] = {}
    ordered = yield from sorting(list(routes.items()), lambda item: item[0])  # some may go meanwhile
    claims = (each for _, several in ordered for each in several)
    for number, each in enumerate(claims, 1):
        if each.header == BASE_MODEL_HEADER and each.exact and each.backends and len(found) < MAX_POOLS:
            found.setdefault(each.value, each.backends)
        if number % _STEP_CLAIMS == 0:
            yield
    return found


def compare(registry: Registry, routes: Mapping[str, Iterable[Wanted]]) -> Mismatches:
    """Compare the table with what the routes want, at once; see `comparing`."""
    return finish(comparing(registry, routes))


def comparing(registry: Registry, routes: Mapping[str, Iterable[Wanted]]) -> Steps[Mismatches]:
    """Compare the table with what the routes want, a step at a time.

    A base model counts as named if a route wants it as base model, or as the model that was asked for.
    """
    named: set[str] = set()
    unknown: set[Unknown] = set()
    patterns = False
    layers = list(registry.layers())
    step = _STEP_COMPARED if any(layer.patterns for layer in layers) else _STEP_CLAIMS
    looks = 0
    claims = ((route, each) for route, several in list(routes.items()) for each in several)
    for route, each in claims:
        looks += 1
        if looks % step == 0:
            yield
        if not each.exact:
            patterns = True
            continue
        # Scopes' own names alone: those of everyone are looked at once, whatever the number of scopes.
        for layer in layers:
            looks += 1
            if looks % step == 0:
                yield
            if _is_known(layer, each):
                named.add(each.value)
                break
        else:
            if len(unknown) < MAX_UNKNOWN:
                unknown.add(Unknown(route, each.header, each.value))
    unrouted: list[str] = []
    base_models = (name for layer in registry.layers() for name in layer.base_models)
    seen: set[str] = set()
    for number, name in enumerate(() if patterns else base_models, 1):
        if name not in named and name not in seen:
            seen.add(name)
            unrouted.append(name)
        if number % _STEP_NAMES == 0:
            yield
    return Mismatches(tuple(unrouted), tuple(sorted(unknown)))


def _is_known(registry: Registry, wanted: Wanted) -> bool:
    entry = registry.find_own(wanted.value)
    kinds = (Kind.BASE_MODEL,) if wanted.header == BASE_MODEL_HEADER else (Kind.BASE_MODEL, Kind.ADAPTER)
    return entry is not None and entry.kind in kinds  # no header ever names an alias


class RouteCheck(Kept[frozenset[Wanted]]):
    """Compares the table with the routes whenever one of them has changed; a reflector's sink.

    Args:
        table: whose snapshots are compared.
        settle_seconds: how long after a change.

    Attributes:
        mismatches: what did not fit at the last comparison; None before the first.
        pools: base model -> the backends to which the routes send its requests; see `pooling`.
    """

    def __init__(self, table: Table, *, settle_seconds: float = SETTLE_SECONDS) -> None:
        self._due = asyncio.Event()  # table or routes have changed since a comparison began
        super().__init__(self._due.set)
        self._table = table
        self._settle_seconds = settle_seconds
        self.mismatches: Mismatches | None = None
        self.pools: Mapping[str, tuple[str, ...]] = {}

    def read(self, found: HTTPRoute) -> frozenset[Wanted]:
        """Return what a route wants."""
        return wanted(found)

    async def run(self) -> None:
        """Compare after each change, until cancelled."""
        while True:
            await self._due.wait()
            await asyncio.sleep(self._settle_seconds)
            self._due.clear()
            try:
                await in_turns(self.checking())
            except BaseException:
                self._due.set()  # for whoever starts this again
                raise

    async def follow_table(self) -> None:
        """Let each change of the table be followed by a comparison, until cancelled."""
        while True:
            self._due.set()  # and whatever has changed before this was started, perhaps again
            await self._table.swapped()

    def checking(self) -> Steps[None]:
        """Compare now, and log what is new; nothing before both table and routes are complete."""
        if self.objects is None or not self._table.synced:
            return
        found = yield from comparing(self._table.registry, self.objects)
        yield from self._log_new(found)
        if found == Mismatches() != self.mismatches:
            log.info("every base model has an HTTPRoute, and every model that a route names exists")
        self.mismatches = found
        self.pools = yield from pooling(self.objects)

    def _log_new(self, found: Mismatches) -> Steps[None]:
        """Log what did not fit before."""
        before = self.mismatches or Mismatches()
        known = {*before.unrouted, *before.unknown}
        yield
        news = 0
        for number, each in enumerate((*found.unrouted, *found.unknown), 1):
            if each not in known:
                news += 1
                if news <= _LOGGED_AT_ONCE:
                    log.warning("%s", _unrouted(each) if isinstance(each, str) else each)
            if number % _STEP_NAMES == 0:
                yield
        if news > _LOGGED_AT_ONCE:
            log.warning("%d more mismatches of models and HTTPRoutes", news - _LOGGED_AT_ONCE)


def _unrouted(name: str) -> str:
    return (
        f"no HTTPRoute matches {BASE_MODEL_HEADER}: {name}: requests for this base model get the gateway's default "
        "route"
    )
