"""Checks of Envoy's counters: what has gone wrong since Envoy started. Pure."""

from collections.abc import Iterator
from typing import Final

from bbr.commands.doctor.finding import Finding, finding
from bbr.commands.doctor.gateway import Gateway, Manager
from bbr.commands.doctor.node import Evidence

# id -> the counters of the filter, what they mean, what to do.
_FILTER: Final = {
    "streams-failed": (
        ("streams_failed",),
        "Streams to the router have failed. Each was a request that got a 500 or went on without the router.",
        "see %RESPONSE_CODE_DETAILS% in the access log, and the cluster's findings",
    ),
    "message-timeouts": (
        ("message_timeouts",),
        "The router's answers took longer than message_timeout. Each was a 504.",
        "message_timeout: 5s",
    ),
    "failed-open": (
        ("failure_mode_allowed",),
        "Requests went on without the router, on their own headers.",
        "failure_mode_allow: false",
    ),
    "mutations-rejected": (
        ("rejected_header_mutations",),
        "Header mutations were rejected: routing headers were not set, or a client's own were not removed.",
        "mutation_rules: {allow_expression: {regex: 'x-gateway-.*'}}",
    ),
    "route-cache-kept": (
        ("clear_route_cache_disabled", "clear_route_cache_ignored", "clear_route_cache_upstream_ignored"),
        "A filter asked Envoy to choose the route again and was ignored: those requests kept their first route.",
        "route_cache_action: DEFAULT   # and the filter in the listener, not in a cluster's upstream filters",
    ),
    "spurious-messages": (
        ("spurious_msgs_received",),
        "Envoy got messages that it did not expect. Each was a failed request.",
        "see whether this filter really calls bbr, and report it if so",
    ),
}

_UNCERTAIN: Final = (
    "Header mutations were rejected, and the listener's ext_proc filters share this counter. Endpoint pickers answer "
    "with all headers of a request, of which Envoy rejects some each time (`:method`): then it rises all the time, "
    "and nothing is wrong."
)
_UNCERTAIN_FIX: Final = "stat_prefix: bbr   # in the router's filter, so that its counters are its own"

_OVERFLOWS: Final = (
    "upstream_rq_pending_overflow",
    "upstream_rq_active_overflow",
    "upstream_rq_retry_overflow",
    "upstream_cx_overflow",
)


def check(gateway: Gateway) -> Iterator[Finding]:
    """Yield what the counters of each router's filter and cluster show."""
    seen = set()
    for manager in gateway.managers:
        if manager.router is None:
            continue
        prefix = _prefix(manager)
        if prefix in seen:
            continue
        seen.add(prefix)
        yield from _filter(gateway, manager, prefix)
        yield from _overflows(gateway, manager.router.cluster.text)
        routeless = gateway.stats_below(f"http.{manager.node.get('stat_prefix').text}.").get("no_route", ("", 0))
        if routeless[1]:
            sentence = "Requests found no route, and got the gateway's empty 404."
            fix = "a catch-all route as the last one, with the router's filter on"
            yield finding("unrouted-requests", manager.label, sentence, [Evidence("stats", *routeless)], fix)


def _prefix(manager: Manager) -> str:
    own = _own(manager)
    return f"http.{manager.node.get('stat_prefix').text}.ext_proc.{f'{own}.' if own else ''}"


def _filter(gateway: Gateway, manager: Manager, prefix: str) -> Iterator[Finding]:
    counted = gateway.stats_below(prefix)
    shared = [each for each in manager.filters if each.config.get("stat_prefix").text == _own(manager)]
    note = ""
    if len(shared) > 1:
        note = (
            " The listener's ext_proc filters share these counters (give each a stat_prefix), so it may be another's."
        )
    for id_, (names, sentence, fix) in _FILTER.items():
        evidence = [Evidence("stats", *counted[name]) for name in names if counted.get(name, ("", 0))[1]]
        if evidence and id_ == "mutations-rejected" and len(shared) > 1:
            # Pickers answer with all headers of a request, of which Envoy refuses some for each.
            yield finding("mutations-uncertain", manager.label, _UNCERTAIN, evidence, _UNCERTAIN_FIX)
        elif evidence:
            yield finding(id_, manager.label, sentence + note, evidence, fix)


def _own(manager: Manager) -> str:
    return manager.router.config.get("stat_prefix").text if manager.router else ""


def _overflows(gateway: Gateway, name: str) -> Iterator[Finding]:
    cluster = gateway.clusters.get(name)
    if cluster is None:
        return
    counted = gateway.cluster_stats(cluster)
    evidence = [Evidence("stats", *counted[key]) for key in _OVERFLOWS if counted.get(key, ("", 0))[1]]
    if evidence:
        yield finding(
            "overflow",
            f"cluster {name}",
            "A circuit breaker has rejected requests to the router, or retries.",
            evidence,
            "circuit_breakers: {thresholds: [{max_requests: 65536, max_pending_requests: 65536, max_retries: 1024}]}",
        )
