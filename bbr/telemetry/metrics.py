"""What the process counts of its exchanges: plain integers, read when somebody asks.

`Metrics.count` stands on every exchange's way, and does nothing but add. bbr.admin.exposition turns the numbers into
Prometheus' words; the status page and the log's summary read the same ones.

No client can make it grow: a base model becomes a key only if the model table knows it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, TypeVar

from bbr.exchange.exchange import Exchange
from bbr.exchange.verdict import Verdict
from bbr.models.entries import Kind
from bbr.models.routing import Route, Rule
from bbr.telemetry.recent import RecentNames

K = TypeVar("K")

# Upper bounds of buckets. Seconds from a request's first message to its decision; a slow client's upload is in it.
DURATION_BOUNDS: Final[tuple[float, ...]] = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.1,
    0.25,
    1.0,
    5.0,
    30.0,
    60.0,
)
# Seconds that the router itself took. The Go routers' bounds, and two below: most requests take 20 us.
BUSY_BOUNDS: Final[tuple[float, ...]] = (
    0.00002,
    0.00005,
    0.0001,
    0.0002,
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
)
# Seconds from a request's first message to the first piece of its response. The payload processor's bounds.
RESPONSE_BOUNDS: Final[tuple[float, ...]] = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# Bytes of a request's body.
BODY_BOUNDS: Final[tuple[float, ...]] = tuple(float(1 << shift) for shift in range(10, 27, 2))
# The bucket of a size, by the bits of what is one less: the bounds are powers of two. A third of a search's cost.
_BODY_BUCKETS: Final = tuple(bisect_left(BODY_BOUNDS, 1 << bits) for bits in range(64))

# A table whose base models change all day long would leave their names here for good.
MAX_BASE_MODELS: Final = 10_000

# Pairs of an alias and a model that it stands for, of which more would make a scrape too long.
MAX_ALIAS_PAIRS: Final = 1_000

# Adapters that count by their own names, of a table whose names change all day long.
MAX_ADAPTERS: Final = 10_000

# Looked up once: to look up a member of an enum takes long.
_ALIAS: Final = Kind.ALIAS
_ADAPTER: Final = Kind.ADAPTER

# Pairs of a scope and an outcome. A table whose scopes change all day long would leave their names here for good.
MAX_SCOPE_PAIRS: Final = 10_000

# Those by which a base model is whatever the client has written, and those for models that the table does not hold.
_OF_CLIENTS: Final = frozenset((Rule.NO_TABLE, Rule.UNKNOWN_PASSTHROUGH, Rule.UNKNOWN_EMPTY))
_UNKNOWN: Final = frozenset((Rule.UNKNOWN_PASSTHROUGH, Rule.UNKNOWN_EMPTY, Rule.UNKNOWN_DEFAULT))


class Histogram:
    """How often a value fell into each bucket.

    Attributes:
        bounds: the buckets' upper bounds, inclusive, ascending.
        buckets: counts, one for each bound and one for what is above the last.
        total: the sum of all values.
    """

    __slots__ = ("bounds", "buckets", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.buckets)

    def quantile(self, share: float) -> float | None:
        """Return an upper bound for a quantile: that of the bucket in which it lies; None without any value.

        Of what lies above the last bound only that is known: infinity.
        """
        wanted = share * self.count
        seen = 0
        for bound, count in zip((*self.bounds, float("inf")), self.buckets, strict=True):
            seen += count
            if count and seen >= wanted:
                return bound
        return None


class ModelCounts:
    """What came of the requests for one base model.

    Attributes:
        outcomes: outcome -> requests.
        duration: seconds from the first message to the decision.
    """

    __slots__ = ("duration", "outcomes")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.duration = Histogram(DURATION_BOUNDS)


class Metrics:
    """The counts of one process.

    Args:
        max_base_models: requests for more base models than these count as those for none.
        max_alias_pairs: see `aliases`.
        max_adapters: see `adapters`.
        max_scope_pairs: see `scopes`.

    Attributes:
        running: exchanges that have begun and are not over.
        models: base model -> its counts. "" is for requests of which none is known from the table: without a model,
            refused, or by a policy that takes the client's word.
        reasons: (outcome, reason) -> requests, for outcomes that have reasons: the `bbr:<reason>` of a refusal.
        duration: seconds from the first message to the decision, of all requests, whatever their model.
        busy: seconds that the router took for a decision.
        body: bytes of the bodies.
        early: requests that were routed before their body had ended.
        decoded: requests whose body went on decoded.
        late_bodies: messages of a body that came after its end.
        unknown: the models asked for lately that the table does not hold, whether the requests were rejected or not.
        responses: requested model, "" if the table does not hold it -> seconds from the first message to the first
            piece of the response's body, of requests whose response the gateway showed.
        scopes: (scope, outcome) -> requests in a scope of the model table; those beyond `max_scope_pairs` as one,
            ("", "").
        aliases: (alias, model that it stood for) -> requests routed so; those beyond `max_alias_pairs` as one,
            ("", "").
        adapters: adapter, or the pattern that it fits -> requests routed by that name; those beyond `max_adapters` as
            one, "".
    """

    def __init__(
        self,
        max_base_models: int = MAX_BASE_MODELS,
        max_alias_pairs: int = MAX_ALIAS_PAIRS,
        max_adapters: int = MAX_ADAPTERS,
        max_scope_pairs: int = MAX_SCOPE_PAIRS,
    ) -> None:
        self._max_base_models = max_base_models
        self._max_alias_pairs = max_alias_pairs
        self._max_adapters = max_adapters
        self._max_scope_pairs = max_scope_pairs
        self.running = 0
        self.models: dict[str, ModelCounts] = {"": ModelCounts()}
        self.reasons: dict[tuple[str, str], int] = {}
        self.duration = Histogram(DURATION_BOUNDS)
        self.busy = Histogram(BUSY_BOUNDS)
        self.body = Histogram(BODY_BOUNDS)
        self.early = 0
        self.decoded = 0
        self.late_bodies = 0
        self.unknown = RecentNames()
        self.responses: dict[str, Histogram] = {}
        self.aliases: dict[tuple[str, str], int] = {}
        self.adapters: dict[str, int] = {}
        self.scopes: dict[tuple[str, str], int] = {}

    def count(self, exchange: Exchange) -> None:
        """Count an exchange that is over."""
        verdict = exchange.verdict
        route = verdict.route
        if route is None:
            counts = self.models[""]
        elif route.rule.__class__ is Rule:
            counts = self._by_rule(route, exchange)
        else:
            base_model = route.base_model
            counts = self.models.get(base_model) or self._new(base_model)
            if route.rule is _ADAPTER:
                _count_one(self.adapters, route.pattern or verdict.model or "", self._max_adapters, "")
            elif route.rule is _ALIAS:
                alias = route.pattern or verdict.model or ""
                _count_one(self.aliases, (alias, route.model), self._max_alias_pairs, ("", ""))
        outcomes = counts.outcomes
        outcomes[verdict.outcome] = outcomes.get(verdict.outcome, 0) + 1
        size = verdict.body_bytes
        body = self.body
        body.buckets[_BODY_BUCKETS[(size - 1).bit_length()]] += 1
        body.total += size
        times = exchange.times
        if times.decided is not None:
            took = times.decided - times.began
            bucket = bisect_left(DURATION_BOUNDS, took)
            duration = counts.duration
            duration.buckets[bucket] += 1
            duration.total += took
            # Not added up when it is asked for: of 10,000 base models that takes 20 ms.
            duration = self.duration
            duration.buckets[bucket] += 1
            duration.total += took
            took = times.busy_seconds
            busy = self.busy
            busy.buckets[bisect_left(BUSY_BOUNDS, took)] += 1
            busy.total += took
        if times.responded is not None:
            self._count_response(exchange, times.responded - times.began)
        if verdict.reason or verdict.late_bodies or verdict.early or verdict.decoded or verdict.scope:
            self._count_more(exchange)

    def _new(self, base_model: str) -> ModelCounts:
        if len(self.models) > self._max_base_models:
            return self.models[""]
        counts = self.models[base_model] = ModelCounts()
        return counts

    def _by_rule(self, route: Route, exchange: Exchange) -> ModelCounts:
        """Return the counts for a request whose model the table does not hold, or that names none."""
        model = exchange.verdict.model
        if route.rule in _UNKNOWN and model is not None:
            self.unknown.add(model, exchange.times.began)
        if route.rule in _OF_CLIENTS:
            return self.models[""]
        return self.models.get(route.base_model) or self._new(route.base_model)

    def _count_response(self, exchange: Exchange, took: float) -> None:
        model = name_in_table(exchange.verdict)
        if model not in self.responses and len(self.responses) >= self._max_base_models:
            model = ""
        self.responses.setdefault(model, Histogram(RESPONSE_BOUNDS)).add(took)

    def _count_more(self, exchange: Exchange) -> None:
        """Count what few requests have."""
        verdict = exchange.verdict
        self.early += verdict.early
        self.decoded += verdict.decoded and not verdict.status
        self.late_bodies += verdict.late_bodies
        if verdict.reason:
            key = (str(verdict.outcome), verdict.reason)
            self.reasons[key] = self.reasons.get(key, 0) + 1
        if verdict.scope:
            _count_one(self.scopes, (verdict.scope, str(verdict.outcome)), self._max_scope_pairs, ("", ""))
        if verdict.reason == "model-not-found" and verdict.model is not None:
            self.unknown.add(verdict.model, exchange.times.began)


def name_in_table(verdict: Verdict) -> str:
    """Return the name, or the pattern, of the model table that a request was routed by.

    "" if it was not routed by one: then its model is whatever the client has written, and no label of a metric.
    """
    route = verdict.route
    if route is None or route.rule.__class__ is Rule:
        return ""
    return route.pattern or verdict.model or ""


def _count_one(counts: dict[K, int], key: K, most: int, rest: K) -> None:
    """Count one more of a key; of a key that would be one too many, under the rest."""
    if key not in counts and len(counts) >= most:
        key = rest
    counts[key] = counts.get(key, 0) + 1
