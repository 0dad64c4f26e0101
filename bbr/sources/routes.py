"""Whether the model table and the cluster's HTTPRoutes fit: the mismatch that costs users days.

A base model that no route names gets the gateway's default route, and most often a 404 that says nothing. A header
value that no model has is a route that no request takes: a typing error, or a model that was renamed.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from bbr.headers import BASE_MODEL_HEADER, MODEL_HEADER
from bbr.models.registry import Kind, Registry
from bbr.sources.reflector import Metadata
from bbr.sources.table import Table

log = logging.getLogger(__name__)

# Table and routes are rarely changed by the same hand at the same moment.
SETTLE_SECONDS: Final = 5.0

# Of mismatches that come up at once, so many are logged one by one.
_LOGGED_AT_ONCE: Final = 20

_EXACT: Final = "Exact"
_HEADERS: Final = {name.lower(): name for name in (BASE_MODEL_HEADER, MODEL_HEADER)}


class _Header(msgspec.Struct):
    name: str
    value: str
    type: str = _EXACT


class _Match(msgspec.Struct):
    headers: list[_Header] | None = None


class _Rule(msgspec.Struct):
    matches: list[_Match] | None = None


class _Spec(msgspec.Struct):
    rules: list[_Rule] | None = None


class HTTPRoute(msgspec.Struct):
    """What is read of an HTTPRoute (gateway.networking.k8s.io/v1)."""

    metadata: Metadata
    spec: _Spec | None = None


class Wanted(NamedTuple):
    """What a header match of a route asks for.

    Attributes:
        header: the routing header, in the router's spelling.
        value: its value.
        exact: whether the value is meant as it stands; otherwise it is a regular expression, in some gateway's dialect.
    """

    header: str
    value: str
    exact: bool = True


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
        return f"HTTPRoute {self.route} wants {self.header}: {self.value}, which is no {what}: no request will take it"


class Mismatches(NamedTuple):
    """What does not fit.

    Attributes:
        unrouted: base models that no route names, in the table's order. Empty if a route has a regular expression for a
            routing header: it may mean any of them.
        unknown: header values that no model has, sorted.
    """

    unrouted: tuple[str, ...] = ()
    unknown: tuple[Unknown, ...] = ()


def wanted(route: HTTPRoute) -> frozenset[Wanted]:
    """Return what a route's matches ask of the routing headers."""
    rules = (route.spec.rules if route.spec else None) or ()
    return frozenset(
        Wanted(_HEADERS[header.name.lower()], header.value, header.type == _EXACT)
        for rule in rules
        for match in rule.matches or ()
        for header in match.headers or ()
        if header.name.lower() in _HEADERS
    )


def compare(registry: Registry, routes: Mapping[str, Iterable[Wanted]]) -> Mismatches:
    """Compare the table with what the routes want.

    A base model counts as named if a route wants it as base model, or as the model that was asked for.
    """
    claims = [
        Unknown(route, each.header, each.value) for route, several in routes.items() for each in several if each.exact
    ]
    named = {claim.value for claim in claims}
    patterns = any(not each.exact for several in routes.values() for each in several)
    return Mismatches(
        () if patterns else tuple(name for name in registry.base_models if name not in named),
        tuple(sorted(claim for claim in claims if not _is_known(registry, claim))),
    )


def _is_known(registry: Registry, claim: Unknown) -> bool:
    entry = registry.find(claim.value)
    kinds = (Kind.BASE_MODEL,) if claim.header == BASE_MODEL_HEADER else (Kind.BASE_MODEL, Kind.ADAPTER)
    return entry is not None and entry.kind in kinds  # no header ever names an alias


class RouteCheck:
    """Compares the table with the routes whenever one of them has changed; a reflector's sink.

    Args:
        table: whose snapshots are compared.
        settle_seconds: how long after a change.

    Attributes:
        mismatches: what did not fit at the last comparison; None before the first.
    """

    def __init__(self, table: Table, *, settle_seconds: float = SETTLE_SECONDS) -> None:
        self._table = table
        self._settle_seconds = settle_seconds
        self._wanted: dict[str, frozenset[Wanted]] | None = None
        self._changed = asyncio.Event()
        self.mismatches: Mismatches | None = None

    def read(self, found: HTTPRoute) -> frozenset[Wanted]:
        """Return what a route wants."""
        return wanted(found)

    def replace(self, kept: dict[str, frozenset[Wanted]]) -> None:
        """Take all routes that there are."""
        self._wanted = kept
        self._changed.set()

    def put(self, key: str, kept: frozenset[Wanted]) -> None:
        """Take a route that is new or has changed."""
        assert self._wanted is not None  # noqa: S101 (a watch begins after a list)
        self._wanted[key] = kept
        self._changed.set()

    def remove(self, key: str) -> None:
        """Let a route go."""
        assert self._wanted is not None  # noqa: S101 (a watch begins after a list)
        self._wanted.pop(key, None)
        self._changed.set()

    async def run(self) -> None:
        """Compare after each change, until cancelled."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(self._settle_seconds)
            self._changed.clear()
            try:
                self.check()
            except BaseException:
                self._changed.set()  # for whoever starts this again
                raise

    async def follow_table(self) -> None:
        """Let each change of the table be followed by a comparison, until cancelled."""
        while True:
            self._changed.set()  # and whatever has changed before this was started, perhaps again
            await self._table.swapped()

    def check(self) -> None:
        """Compare now, and log what is new; nothing before both table and routes are complete."""
        if self._wanted is None or not self._table.synced:
            return
        found = compare(self._table.registry, self._wanted)
        before = self.mismatches or Mismatches()
        known = {*before.unrouted, *before.unknown}
        news = [_unrouted(name) for name in found.unrouted if name not in known]
        news += [str(claim) for claim in found.unknown if claim not in known]
        for line in news[:_LOGGED_AT_ONCE]:
            log.warning("%s", line)
        if len(news) > _LOGGED_AT_ONCE:
            log.warning("%d more mismatches of models and HTTPRoutes", len(news) - _LOGGED_AT_ONCE)
        if found == Mismatches() != self.mismatches:
            log.info("every base model is named by an HTTPRoute, and every model that they name is there")
        self.mismatches = found


def _unrouted(name: str) -> str:
    return (
        f"no HTTPRoute wants {BASE_MODEL_HEADER}: {name}: requests for this base model get the gateway's default route"
    )
