"""The process's numbers in the formats of Prometheus and OpenMetrics.

Imported only when somebody asks for metrics, because prometheus_client takes 60 ms to load.
"""

import itertools
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from prometheus_client import GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import CollectorRegistry

from bbr import __version__, built
from bbr.admin.vitals import Vitals
from bbr.exchange.verdict import Outcome
from bbr.refusal import INVALID_JSON_REASONS
from bbr.telemetry.field_counts import FieldCounts
from bbr.telemetry.genai import GenAi
from bbr.telemetry.metrics import Histogram, Metrics
from bbr.text import encodable
from bbr.transports.serving import TransportCounts

if TYPE_CHECKING:
    from bbr.sources.discovery import Discovery

# The values of a sample's labels.
L = TypeVar("L", bound=tuple[str, ...])

# Samples that are written in one go: about a millisecond's, for which a request may have to wait.
_SAMPLES_AT_ONCE: Final = 100

# A family without any takes as long as so many samples.
_FAMILY_SAMPLES: Final = 8

# Base models whose samples are taken in one go.
_MODELS_AT_ONCE: Final = 50

# And histograms.
_HISTOGRAMS_AT_ONCE: Final = 8

_OPEN_METRICS_END: Final = b"# EOF\n"

# What stands before a family's samples. In a label, a line feed alone is escaped.
_HEADINGS: Final = re.compile(rb"^# [^\n]*+\n", re.MULTILINE)

# GIE's router, and llm-d's payload processor.
_UPSTREAM_PREFIXES: Final = ("bbr", "ipp")

# The Go routers' buckets of their plugin_duration_seconds.
_PLUGIN_BOUNDS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


class _One:
    """A metric as what the encoders take: something to collect from."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """Give the metric."""
        return (self._metric,)


def expose(vitals: Vitals, accept: str, process: Iterable[Metric] | None = None) -> tuple[str, Iterator[bytes]]:
    """Return the content type that a scraper wants, of those that there are, and the text in pieces.

    Each piece takes about a millisecond to make, so that requests can be served in between.

    Args:
        vitals: of the process.
        accept: the header field.
        process: what `of_system` has returned; None to ask the system as the last piece is made.
    """
    encode, content_type = choose_encoder(accept)
    return content_type, _pieces(cast(Callable[[Any], bytes], encode), families(vitals, process))


def _pieces(encode: Callable[[Any], bytes], found: Iterable[Metric]) -> Iterator[bytes]:
    end = b""
    piece: list[bytes] = []
    room = _SAMPLES_AT_ONCE
    introduced = ""
    for metric in found:
        samples = metric.samples
        start = 0
        while start < max(len(samples), 1):
            part = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            part.samples = samples[start : start + room]
            text = _encoded(encode, part)
            if text.endswith(_OPEN_METRICS_END):
                end = _OPEN_METRICS_END
                text = text.removesuffix(end)
            if metric.name == introduced:
                text = _HEADINGS.sub(b"", text)
            introduced = metric.name
            piece.append(text)
            start += room
            room -= len(part.samples) + _FAMILY_SAMPLES
            if room <= 0:
                yield b"".join(piece)
                piece.clear()
                room = _SAMPLES_AT_ONCE
    yield b"".join((*piece, end))


def _encoded(encode: Callable[[Any], bytes], metric: Metric) -> bytes:
    try:
        return encode(_One(metric))
    except UnicodeEncodeError:  # a label is no text; the other samples must not be lost for that
        metric.samples = [
            each._replace(labels={name: encodable(value) for name, value in each.labels.items()})
            for each in metric.samples
        ]
        return encode(_One(metric))


def of_system() -> list[Metric]:
    """Return what the system and the interpreter know of the process. To count 10,000 open files takes 8 ms."""
    throwaway = CollectorRegistry()
    return [*ProcessCollector(registry=throwaway).collect(), *GCCollector(registry=throwaway).collect()]


def families(vitals: Vitals, process: Iterable[Metric] | None = None) -> Iterator[Metric]:
    """Give all metric families, their samples as they are now; a large one as several, one after the other."""
    totals: Counter[str] = Counter()
    yield from _requests(vitals, totals)
    yield from _bodies(vitals)
    yield _gauge("bbr_streams", "ext_proc calls in progress", vitals.metrics.running)
    yield from _transport(vitals.main.counts())
    yield from _table(vitals)
    yield from _process(vitals)
    yield from _upstream_names(vitals, totals)
    if vitals.body_fields is not None:
        yield _fields(vitals.body_fields)
    if vitals.genai is not None:
        yield from _genai(vitals.genai)
    yield from of_system() if process is None else process


def _requests(vitals: Vitals, totals: Counter[str]) -> Iterator[Metric]:
    """Give the counts of requests, and add them up by their outcomes: of 10,000 base models that takes a while too."""
    metrics = vitals.metrics
    models = iter([*metrics.models])
    while some := [(name, metrics.models[name]) for name in itertools.islice(models, _MODELS_AT_ONCE)]:
        for _, counts in some:
            totals.update(counts.outcomes)
        yield _counters(
            "bbr_requests",
            "Requests by their outcome. base_model is empty unless the model table has it",
            ("outcome", "base_model"),
            {
                (str(outcome), base_model): number
                for base_model, counts in some
                for outcome, number in counts.outcomes.items()
            },
        )
    yield from _counters_in_parts(
        "bbr_alias_requests",
        "Requests for an alias, by the model that it stood for. Pairs beyond the first 1,000 have empty labels",
        ("alias", "model"),
        metrics.aliases,
    )
    yield from _counters_in_parts(
        "bbr_scope_requests",
        "Requests in a scope of the model table, by their outcome",
        ("scope", "outcome"),
        metrics.scopes,
    )
    yield _counters(
        "bbr_request_reasons",
        "Requests whose outcome has a reason: that of the bbr:<reason> in a gateway's access log",
        ("outcome", "reason"),
        metrics.reasons,
    )
    yield _histogram(
        "bbr_request_duration_seconds",
        "Time from a request's first message to its decision, with the wait for its body",
        metrics.duration,
    )
    yield _histogram("bbr_request_busy_seconds", "Time that the router itself worked on a request", metrics.busy)
    yield _counter("bbr_requests_routed_early", "Requests routed before their body had ended", metrics.early)
    yield _counter("bbr_requests_decoded", "Requests whose body went on without its Content-Encoding", metrics.decoded)


def _bodies(vitals: Vitals) -> Iterator[Metric]:
    metrics, ledger = vitals.metrics, vitals.ledger
    yield _histogram("bbr_request_body_bytes", "Request body bytes that gateways have sent to the router", metrics.body)
    yield _counter(
        "bbr_late_body_messages", "Body messages after the request's end (a second end_of_stream)", metrics.late_bodies
    )
    yield _gauge(
        "bbr_buffered_bytes",
        "Bytes held for peers now: bodies, messages, answers, calls, connections",
        ledger.held_bytes,
    )
    yield _gauge("bbr_buffered_bytes_limit", "The limit of the bytes held: --max-buffered-bytes", ledger.max_bytes)
    yield _gauge("bbr_buffered_bytes_peak", "The most bytes held at any time", ledger.peak_bytes)
    yield _counter("bbr_buffer_refusals", "Bodies rejected because there was no room", ledger.refused)


def _fields(counts: FieldCounts) -> Metric:
    fields = counts.config.fields
    return _counters(
        "bbr_body_fields",
        "Requests whose body was read, by what happened to a field of --body-field: found, absent, late or refused",
        ("field", "header", "result"),
        {
            (fields[index].name, fields[index].header, result): number
            for (index, result), number in counts.requests.items()
        },
    )


def _genai(counts: GenAi) -> Iterator[Metric]:
    """Give OpenTelemetry's names as Prometheus has them: dots become underscores, and the unit is in the name."""
    labels = (
        *("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
        *("bbr_routed_model", "bbr_base_model", "error_type"),
    )
    requests = iter(list(counts.requests.items()))
    while some := list(itertools.islice(requests, _SAMPLES_AT_ONCE)):
        yield _counters(
            "bbr_gen_ai_requests",
            "Requests by OpenTelemetry's attributes for generative AI. Models are empty unless the model table holds "
            "them; error_type is why the router refused a request",
            labels,
            {tuple(each): number for each, number in some},
        )
    histograms = iter(list(counts.first_token.items()))
    while found := list(itertools.islice(histograms, _HISTOGRAMS_AT_ONCE)):
        times = HistogramMetricFamily(
            "gen_ai_server_time_to_first_token_seconds",
            "From a request's first message to the first piece of its response, where the gateway shows it",
            labels=labels[:-1],
        )
        for each, histogram in found:
            times.add_metric(each[:-1], buckets=_cumulative(histogram), sum_value=histogram.total)
        yield times


def _transport(counts: TransportCounts) -> Iterator[Metric]:
    if counts.connections is None:
        return  # grpcio does not count them
    yield _gauge("bbr_connections", "Connections to the ext_proc port that are open now", counts.connections)
    yield _counter("bbr_connections_opened", "Connections to the ext_proc port so far", counts.connections_total or 0)
    yield _counter(
        "bbr_connections_turned_away",
        "Connections closed at once, over --max-connections",
        counts.turned_away_total or 0,
    )
    yield _counters(
        "bbr_connection_failures",
        "Connections that ended because of a fault of the peer",
        ("layer", "reason"),
        counts.failures,
    )
    resets = {(reason,): number for reason, number in counts.resets.items()}
    yield _counters("bbr_stream_resets", "Streams that the router has reset, by the reason", ("reason",), resets)


def _table(vitals: Vitals) -> Iterator[Metric]:
    table = vitals.sources.table
    registry = table.registry
    names = sum(layer.own_size for layer in registry.layers())
    base_models = sum(len(layer.base_models) for layer in registry.layers())
    yield _gauge("bbr_models", "Names in the model table: base models, adapters and aliases", names)
    yield _gauge("bbr_base_models", "Base models in the model table", base_models)
    yield _gauge("bbr_scopes", "Scopes of the model table", len(registry.scopes))
    synced = "Whether the model table has been complete at least once; it stays 1 if a source fails later"
    yield _gauge("bbr_table_synced", synced, int(table.synced))
    yield _gauge("bbr_table_age_seconds", "Seconds since the model table was last swapped", table.age_seconds)
    yield _counter("bbr_table_reloads", "Changes of the model table", table.reloads_total)
    yield _gauge("bbr_table_broken_objects", "Objects whose current content can't be used", len(table.broken))
    yield _counter("bbr_table_failures", "Times that an object was found to be broken", table.failures_total)
    yield _gauge("bbr_table_conflicts", "Conflicting claims in the model table", len(table.conflicts))
    yield _counter("bbr_table_conflicts_found", "Conflicts found so far", table.conflicts_total)
    yield from _sources(vitals)
    if vitals.sources.discovery is not None:
        yield from _discovery(vitals.sources.discovery)
    mismatches = vitals.sources.mismatches
    if mismatches is not None:
        yield _gauges(
            "bbr_route_mismatches",
            "Base models and HTTPRoutes that do not match, with --discover-routes",
            ("kind",),
            {
                ("unrouted-base-model",): len(mismatches.unrouted),
                ("unknown-model-in-route",): len(mismatches.unknown),
            },
        )


def _sources(vitals: Vitals) -> Iterator[Metric]:
    label = ("source",)
    yield _gauges(
        "bbr_source_age_seconds",
        "Seconds since a source last proved that nothing was missed. What is known stays in use, however old it is",
        label,
        {(source,): age for source, age in vitals.ages().items()},
    )
    yield _gauges(
        "bbr_source_failing",
        "Whether the router fails to follow a source of the model table",
        label,
        {(source,): int(bool(why)) for source, why in vitals.sources.failing().items()},
    )
    reflectors = vitals.sources.reflectors
    if not reflectors:
        return
    lists = {(each.what,): each.lists_total for each in reflectors}
    yield _counters("bbr_source_lists", "Complete lists of a Kubernetes collection", label, lists)
    failures = {(each.what,): each.failures_total for each in reflectors}
    what = "How often a Kubernetes collection could not be listed or watched"
    yield _counters("bbr_source_failures", what, label, failures)


def _discovery(discovery: "Discovery") -> Iterator[Metric]:
    yield _gauge("bbr_discovery_pools", "InferencePools whose model servers are asked", discovery.followed)
    yield _gauge(
        "bbr_discovery_adapters", "Adapters that model servers list, and that the router routes", discovery.adapters
    )
    servers = {(state,): number for state, number in discovery.servers().items()}
    yield _gauges("bbr_discovery_servers", "Model servers that are asked", ("state",), servers)
    refused = {(reason,): number for reason, number in discovery.refused().items()}
    what = "Adapters that model servers list, and that the router ignores"
    yield _gauges("bbr_discovery_refused", what, ("reason",), refused)
    polls = {(result,): number for result, number in discovery.polls.items()}
    yield _counters("bbr_discovery_polls", "Questions to model servers, by their result", ("result",), polls)


def _tasks(vitals: Vitals) -> Iterator[Metric]:
    tasks = vitals.supervisor.failures
    restarts = {(name,): task.restarts for name, task in tasks.items()}
    what = "Failures of a long-running task, after each of which it was restarted"
    yield _counters("bbr_task_restarts", what, ("task",), restarts)
    failing = {(name,): int(bool(task.failing)) for name, task in tasks.items()}
    yield _gauges("bbr_task_failing", "Whether a long-running task has failed in the last minute", ("task",), failing)


def _process(vitals: Vitals) -> Iterator[Metric]:
    yield _gauge("bbr_ready", "Whether health checks are answered with SERVING", int(vitals.serving.now))
    yield from _tasks(vitals)
    if vitals.certificates is not None:
        yield _gauge(
            "bbr_certificate_expiry_timestamp_seconds",
            "When the certificate of the ext_proc port expires",
            vitals.certificates.credentials.not_after.timestamp(),
        )
    build = (__version__, vitals.settings.transport, platform.python_version(), built.HOW)
    yield _gauges("bbr_build_info", "What this process is", ("version", "transport", "python", "build"), {build: 1})


def _upstream_names(vitals: Vitals, totals: Counter[str]) -> Iterator[Metric]:
    """Give what dashboards and alerts of the Go routers ask for: GIE's by bbr_, IPP's by ipp_."""
    metrics = vitals.metrics
    no_model = totals[Outcome.NO_MODEL]
    for prefix in _UPSTREAM_PREFIXES:
        yield from _upstream(metrics, prefix, totals)
    yield from _responses(metrics)
    refused = {reason: number for (outcome, reason), number in metrics.reasons.items() if outcome == Outcome.REFUSED}
    broken = sum(number for reason, number in refused.items() if reason in INVALID_JSON_REASONS)
    yield _counter("bbr_model_not_in_body", "bbr_body_field_not_found, by its older name", no_model)
    yield _counter("bbr_model_not_parsed", "Bodies that could not be read, by the older name", broken)


def _upstream(metrics: Metrics, prefix: str, totals: Counter[str]) -> Iterator[Metric]:
    no_model = totals[Outcome.NO_MODEL]
    yield _gauges(f"{prefix}_info", "As the Go routers have it", ("commit", "build_ref"), {("", __version__): 1})
    success = no_model + totals[Outcome.ROUTED]
    yield _counter(f"{prefix}_success", "Bodies that were read without an error", success)
    # With --compat such a request is routed.
    empty = sum(number for (_, reason), number in metrics.reasons.items() if reason == "model-empty")
    for name, what, number in (
        (f"{prefix}_body_field_not_found", "Bodies without the field", no_model),
        (f"{prefix}_body_field_empty", "Bodies in which the field is empty", empty),
    ):
        yield _counters(name, what, ("field",), {("model",): number})
    duration = HistogramMetricFamily(
        f"{prefix}_plugin_duration_seconds",
        "bbr_request_busy_seconds, as the Go routers have it",
        labels=("extension_point", "plugin_type", "plugin_name"),
    )
    labels = ("request", "body-field-to-header", "body-field-to-header")
    buckets = [each for each in _cumulative(metrics.busy) if each[0] == "+Inf" or float(each[0]) in _PLUGIN_BOUNDS]
    duration.add_metric(labels, buckets=buckets, sum_value=metrics.busy.total)
    yield duration


def _responses(metrics: Metrics) -> Iterator[Metric]:
    models = iter([*metrics.responses])
    while some := [(name, metrics.responses[name]) for name in itertools.islice(models, _HISTOGRAMS_AT_ONCE)]:
        family = HistogramMetricFamily(
            "ipp_request_ttft_seconds",
            "From a request's first message to the first piece of its response, where the gateway shows it. model is "
            "empty unless the model table has it",
            labels=("model",),
        )
        for model, histogram in some:
            family.add_metric((model,), buckets=_cumulative(histogram), sum_value=histogram.total)
        yield family


def _histogram(name: str, what: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, what, buckets=_cumulative(histogram), sum_value=histogram.total)


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    found = []
    seen = 0
    for bound, count in zip((*histogram.bounds, None), histogram.buckets, strict=True):
        seen += count
        found.append(("+Inf" if bound is None else str(float(bound)), float(seen)))
    return found


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=value)


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(name, what, value=value)


def _gauges(name: str, what: str, labels: tuple[str, ...], values: Mapping[L, float]) -> Metric:
    found = GaugeMetricFamily(name, what, labels=labels)
    for each, value in values.items():
        found.add_metric(each, value)
    return found


def _counters_in_parts(name: str, what: str, labels: tuple[str, ...], values: Mapping[L, float]) -> Iterator[Metric]:
    """Give a counter of many samples as several, one after the other, each made in a moment; one if it has none.

    Meanwhile a scraper that does not read has 80 KB held for 10,000 of them, and not eight times as much.
    """
    left = iter([*values])
    some = [*itertools.islice(left, _SAMPLES_AT_ONCE)]
    while True:
        yield _counters(name, what, labels, {each: values[each] for each in some})
        some = [*itertools.islice(left, _SAMPLES_AT_ONCE)]
        if not some:
            return


def _counters(name: str, what: str, labels: tuple[str, ...], values: Mapping[L, float]) -> Metric:
    found = CounterMetricFamily(name, what, labels=labels)
    for each, value in values.items():
        found.add_metric(each, value)
    return found
