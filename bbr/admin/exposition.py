"""The process's numbers in the formats of Prometheus and OpenMetrics.

Imported only when somebody asks for metrics, because prometheus_client takes 60 ms to load.
"""

import itertools
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

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
from bbr.transports.serving import TransportCounts

if TYPE_CHECKING:
    from bbr.sources.discovery import Discovery

# Samples that are written in one go: about a millisecond's, for which a request may have to wait.
_SAMPLES_AT_ONCE: Final = 100

# Base models whose samples are taken in one go.
_MODELS_AT_ONCE: Final = 50

# And histograms.
_HISTOGRAMS_AT_ONCE: Final = 8

_OPEN_METRICS_END: Final = b"# EOF\n"

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


def expose(vitals: Vitals, accept: str) -> tuple[str, Iterator[bytes]]:
    """Return the content type that a scraper wants, of those that there are, and the text in pieces.

    Each piece takes about a millisecond to make, so that requests can be served in between.
    """
    encode, content_type = choose_encoder(accept)
    return content_type, _pieces(cast(Callable[[Any], bytes], encode), families(vitals))


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
            text = encode(_One(part))
            if text.endswith(_OPEN_METRICS_END):
                end = _OPEN_METRICS_END
                text = text.removesuffix(end)
            if metric.name == introduced:
                text = b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"# "))
            introduced = metric.name
            piece.append(text)
            start += room
            room -= len(part.samples)
            if room <= 0:
                yield b"".join(piece)
                piece.clear()
                room = _SAMPLES_AT_ONCE
    yield b"".join((*piece, end))


def families(vitals: Vitals) -> Iterator[Metric]:
    """Give all metric families, their samples as they are now; a large one as several, one after the other."""
    yield from _requests(vitals)
    yield from _bodies(vitals)
    yield _gauge("bbr_streams", "ext_proc calls in progress", vitals.metrics.running)
    yield from _transport(vitals.main.counts())
    yield from _table(vitals)
    yield from _process(vitals)
    yield from _upstream_names(vitals)
    if vitals.body_fields is not None:
        yield _fields(vitals.body_fields)
    if vitals.genai is not None:
        yield from _genai(vitals.genai)
    throwaway = CollectorRegistry()
    yield from ProcessCollector(registry=throwaway).collect()
    yield from GCCollector(registry=throwaway).collect()


def _requests(vitals: Vitals) -> Iterator[Metric]:
    metrics = vitals.metrics
    models = iter(list(metrics.models.items()))
    while some := list(itertools.islice(models, _MODELS_AT_ONCE)):
        requests = CounterMetricFamily(
            "bbr_requests",
            "Requests by their outcome. base_model is empty unless the model table has it",
            labels=("outcome", "base_model"),
        )
        for base_model, counts in some:
            for outcome, number in counts.outcomes.items():
                requests.add_metric((str(outcome), base_model), number)
        yield requests
    yield _pairs(
        "bbr_alias_requests",
        "Requests for an alias, by the model that it stood for. Pairs beyond the first 1,000 have empty labels",
        ("alias", "model"),
        metrics.aliases,
    )
    yield _pairs(
        "bbr_scope_requests",
        "Requests in a scope of the model table, by what came of them",
        ("scope", "outcome"),
        metrics.scopes,
    )
    yield _pairs(
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
    family = CounterMetricFamily(
        "bbr_body_fields",
        "Requests whose body was read, by what became of a field of --body-field: found, absent, late or refused",
        labels=("field", "header", "result"),
    )
    for (index, result), number in counts.requests.items():
        field = counts.config.fields[index]
        family.add_metric((field.name, field.header, result), number)
    return family


def _genai(counts: GenAi) -> Iterator[Metric]:
    """Give OpenTelemetry's names as Prometheus has them: dots become underscores, and the unit is in the name."""
    labels = (
        *("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
        *("bbr_routed_model", "bbr_base_model", "error_type"),
    )
    requests = iter(list(counts.requests.items()))
    while some := list(itertools.islice(requests, _SAMPLES_AT_ONCE)):
        family = CounterMetricFamily(
            "bbr_gen_ai_requests",
            "Requests by OpenTelemetry's attributes for generative AI. Models are empty unless the model table holds "
            "them; error_type is why the router refused a request",
            labels=labels,
        )
        for each, number in some:
            family.add_metric(each, number)
        yield family
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
        return  # grpcio does not tell
    yield _gauge("bbr_connections", "Connections to the ext_proc port that are open now", counts.connections)
    yield _counter("bbr_connections_opened", "Connections to the ext_proc port so far", counts.connections_total or 0)
    yield _counter(
        "bbr_connections_turned_away",
        "Connections closed at once, over --max-connections",
        counts.turned_away_total or 0,
    )
    failures = CounterMetricFamily(
        "bbr_connection_failures", "Connections that ended because of a fault of the peer", labels=("layer", "reason")
    )
    for (layer, reason), number in counts.failures.items():
        failures.add_metric((layer, reason), number)
    yield failures
    resets = CounterMetricFamily(
        "bbr_stream_resets", "Streams that the router has reset, by the reason", labels=("reason",)
    )
    for reason, number in counts.resets.items():
        resets.add_metric((reason,), number)
    yield resets


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
        unfit = GaugeMetricFamily(
            "bbr_route_mismatches",
            "Base models and HTTPRoutes that do not match, with --discover-routes",
            labels=("kind",),
        )
        unfit.add_metric(("unrouted-base-model",), len(mismatches.unrouted))
        unfit.add_metric(("unknown-model-in-route",), len(mismatches.unknown))
        yield unfit


def _sources(vitals: Vitals) -> Iterator[Metric]:
    ages = GaugeMetricFamily(
        "bbr_source_age_seconds",
        "Seconds since a source last proved that nothing was missed. What is known stays in use, however old it is",
        labels=("source",),
    )
    for source, age in vitals.ages().items():
        ages.add_metric((source,), age)
    yield ages
    failing = GaugeMetricFamily(
        "bbr_source_failing", "Whether the router fails to follow a source of the model table", labels=("source",)
    )
    for source, why in vitals.sources.failing().items():
        failing.add_metric((source,), int(bool(why)))
    yield failing
    if not vitals.sources.reflectors:
        return
    lists = CounterMetricFamily("bbr_source_lists", "Complete lists of a Kubernetes collection", labels=("source",))
    failures = CounterMetricFamily(
        "bbr_source_failures", "How often a Kubernetes collection could not be listed or watched", labels=("source",)
    )
    for each in vitals.sources.reflectors:
        lists.add_metric((each.what,), each.lists_total)
        failures.add_metric((each.what,), each.failures_total)
    yield lists
    yield failures


def _discovery(discovery: "Discovery") -> Iterator[Metric]:
    yield _gauge("bbr_discovery_pools", "InferencePools whose model servers are asked", discovery.followed)
    yield _gauge(
        "bbr_discovery_adapters", "Adapters that model servers list, and that the router routes", discovery.adapters
    )
    for name, what, label, found in (
        ("bbr_discovery_servers", "Model servers that are asked", "state", discovery.servers()),
        (
            "bbr_discovery_refused",
            "Adapters that model servers list, and that the router ignores",
            "reason",
            discovery.refused(),
        ),
    ):
        family = GaugeMetricFamily(name, what, labels=(label,))
        for value, number in found.items():
            family.add_metric((value,), number)
        yield family
    polls = CounterMetricFamily(
        "bbr_discovery_polls", "Questions to model servers, by their result", labels=("result",)
    )
    for result, number in discovery.polls.items():
        polls.add_metric((result,), number)
    yield polls


def _tasks(vitals: Vitals) -> Iterator[Metric]:
    restarts = CounterMetricFamily(
        "bbr_task_restarts", "Failures of a long-running task, after each of which it was restarted", labels=("task",)
    )
    failing = GaugeMetricFamily(
        "bbr_task_failing", "Whether a long-running task has failed in the last minute", labels=("task",)
    )
    for name, task in vitals.supervisor.failures.items():
        restarts.add_metric((name,), task.restarts)
        failing.add_metric((name,), int(bool(task.failing)))
    yield restarts
    yield failing


def _process(vitals: Vitals) -> Iterator[Metric]:
    yield _gauge("bbr_ready", "Whether health checks are answered with SERVING", int(vitals.serving.now))
    yield from _tasks(vitals)
    if vitals.certificates is not None:
        yield _gauge(
            "bbr_certificate_expiry_timestamp_seconds",
            "When the certificate of the ext_proc port expires",
            vitals.certificates.credentials.not_after.timestamp(),
        )
    build = GaugeMetricFamily(
        "bbr_build_info", "What this process is", labels=("version", "transport", "python", "build")
    )
    build.add_metric((__version__, vitals.settings.transport, platform.python_version(), built.HOW), 1)
    yield build


def _upstream_names(vitals: Vitals) -> Iterator[Metric]:
    """Give what dashboards and alerts of the Go routers ask for: GIE's by bbr_, IPP's by ipp_."""
    metrics = vitals.metrics
    no_model = metrics.outcome_total(Outcome.NO_MODEL)
    for prefix in _UPSTREAM_PREFIXES:
        yield from _upstream(metrics, prefix, no_model)
    yield from _responses(metrics)
    refused = {reason: number for (outcome, reason), number in metrics.reasons.items() if outcome == Outcome.REFUSED}
    broken = sum(number for reason, number in refused.items() if reason in INVALID_JSON_REASONS)
    yield _counter("bbr_model_not_in_body", "bbr_body_field_not_found, by its older name", no_model)
    yield _counter("bbr_model_not_parsed", "Bodies that could not be read, by the older name", broken)


def _upstream(metrics: Metrics, prefix: str, no_model: int) -> Iterator[Metric]:
    info = GaugeMetricFamily(f"{prefix}_info", "As the Go routers have it", labels=("commit", "build_ref"))
    info.add_metric(("", __version__), 1)
    yield info
    success = no_model + metrics.outcome_total(Outcome.ROUTED)
    yield _counter(f"{prefix}_success", "Bodies that were read without an error", success)
    # With --compat such a request is routed.
    empty = sum(number for (_, reason), number in metrics.reasons.items() if reason == "model-empty")
    for name, what, number in (
        (f"{prefix}_body_field_not_found", "Bodies without the field", no_model),
        (f"{prefix}_body_field_empty", "Bodies in which the field is empty", empty),
    ):
        family = CounterMetricFamily(name, what, labels=("field",))
        family.add_metric(("model",), number)
        yield family
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
    models = iter(list(metrics.responses.items()))
    while some := list(itertools.islice(models, _HISTOGRAMS_AT_ONCE)):
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


def _pairs(name: str, what: str, labels: tuple[str, str], counts: Mapping[tuple[str, str], int]) -> Metric:
    found = CounterMetricFamily(name, what, labels=labels)
    for pair, number in counts.items():
        found.add_metric(pair, number)
    return found
