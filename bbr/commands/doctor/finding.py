"""Everything that the doctor can find: the id of each finding, its severity, and its subject.

docs/reference/doctor.md lists the same findings.
"""

import enum
from collections.abc import Iterable
from typing import Final, NamedTuple

from bbr.commands.doctor.node import Evidence


class Severity(enum.StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Finding(NamedTuple):
    """A mistake in a gateway.

    Attributes:
        id: its name in RULES, stable over versions.
        severity: see Severity.
        where: the listener or cluster.
        sentence: what is wrong and what comes of it.
        evidence: what that was read from, at least one.
        fix: what to write instead, as text of a configuration or a flag.
    """

    id: str
    severity: Severity
    where: str
    sentence: str
    evidence: tuple[Evidence, ...]
    fix: str


class Rule(NamedTuple):
    """A kind of finding."""

    severity: Severity
    about: str


_ERROR, _WARNING, _INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

RULES: Final = {
    # The router's filter: is it there, and asked?
    "router-not-found": Rule(_ERROR, "no listener has an ext_proc filter"),
    "routes-without-router": Rule(
        _ERROR, "a listener routes on the router's headers and has no router: clients choose"
    ),
    "router-uncertain": Rule(_INFO, "several ext_proc filters could be the router; say which with `--filter`"),
    "config-rejected": Rule(_ERROR, "Envoy rejected an update and runs with an older configuration, or none"),
    "catch-all-missing": Rule(
        _ERROR,
        "the filter is on by route, and a request has no route before it is routed: 404, the router never called",
    ),
    "no-catch-all": Rule(_INFO, "a request that names no model gets the gateway's empty 404"),
    "catch-all-without-router": Rule(_ERROR, "the route that requests have at first has the router's filter off"),
    "catch-all-first": Rule(
        _ERROR, "a route without a header match stands before one with it, which no request reaches"
    ),
    "spoofable-route": Rule(
        _ERROR, "a model's route has the router's filter off: a client's own header takes it there"
    ),
    "no-header-routes": Rule(_WARNING, "no route looks at the router's headers"),
    "routes-not-seen": Rule(
        _INFO, "the routes are not in the dump (scoped routes, route matchers) and were not checked"
    ),
    "picker-skipped": Rule(_ERROR, "an endpoint picker is on for a model's route only, so it is never called"),
    "picker-before-router": Rule(_ERROR, "the endpoint picker stands before the router"),
    "policy-skipped": Rule(
        _ERROR, "a policy on a model's route (authentication, limits, faults) is not in force: its filter looks earlier"
    ),
    "policy-bypassed": Rule(
        _ERROR, "a policy (authentication, limits) is not on a model's route, where a client's own header takes it"
    ),
    "cors-preflight-fails": Rule(_WARNING, "CORS is configured where browsers' preflight requests don't get it"),
    "model-route-broken": Rule(_ERROR, "the gateway answers a model's route by itself, with an error"),
    # What the filter says.
    "route-cache-pinned": Rule(_ERROR, "Envoy may not choose the route again after the router's answer"),
    "mutation-disallowed": Rule(_ERROR, "mutation rules keep the router from setting or removing its headers"),
    "expression-not-evaluated": Rule(_INFO, "a regular expression of the filter was not evaluated: check it by hand"),
    "headers-not-sent": Rule(
        _ERROR, "request_header_mode is SKIP: the request goes upstream before the router is asked"
    ),
    "body-not-sent": Rule(_ERROR, "request_body_mode is NONE: the router never sees a model"),
    "body-mode-unsuitable": Rule(_ERROR, "request_body_mode is STREAMED or GRPC, in which the router can't route"),
    "body-mode-partial": Rule(_WARNING, "request_body_mode is BUFFERED_PARTIAL: larger bodies are rejected"),
    "trailers-not-sent": Rule(_WARNING, "request_trailer_mode is not SEND: a client's routing fields in trailers pass"),
    "response-events": Rule(
        _WARNING, "the gateway sends the router the response, which costs time and tells it nothing"
    ),
    "fails-open": Rule(_WARNING, "failure_mode_allow: without the router, requests go where their own headers say"),
    "observability-mode": Rule(_ERROR, "observability_mode: the router's answers are not used"),
    "refusals-disabled": Rule(_ERROR, "disable_immediate_response: the router's errors become empty 500s"),
    "mode-override-off": Rule(_INFO, "in BUFFERED, upgrades (WebSocket) hang without allow_mode_override"),
    "headers-not-forwarded": Rule(_WARNING, "forward_rules hide headers by which the router reads bodies"),
    "not-grpc": Rule(_ERROR, "the filter calls an HTTP service; the router speaks gRPC"),
    "google-grpc": Rule(_INFO, "the filter uses google_grpc: there is no cluster to check"),
    # Time and size.
    "no-retry-policy": Rule(_WARNING, "requests are lost when a router restarts"),
    "retries-capped": Rule(_WARNING, "the cluster allows few retries at a time, so the retry policy does not help"),
    "no-stream-deadline": Rule(_WARNING, "nothing bounds a request that hangs in the router"),
    "no-keepalive": Rule(_WARNING, "nothing notices a router that hangs, or whose node is gone"),
    "message-timeout-short": Rule(
        _WARNING, "in BUFFERED, an answer after message_timeout is a 504; the default is 0.2 s"
    ),
    "buffer-below-body-limit": Rule(_WARNING, "in BUFFERED, bodies below the router's limit are a 413 at the gateway"),
    "buffer-filter-below-body-limit": Rule(_WARNING, "a buffer filter rejects bodies below the router's limit"),
    "circuit-breaker-default": Rule(_WARNING, "the router's cluster, or a picker's, rejects the 1,025th request"),
    # The way to the router.
    "cluster-missing": Rule(_ERROR, "the filter names a cluster that does not exist"),
    "cluster-not-http2": Rule(_ERROR, "the router's cluster speaks HTTP/1.1, gRPC needs HTTP/2"),
    "no-endpoints": Rule(_ERROR, "the router's cluster has no endpoints"),
    "endpoints-unhealthy": Rule(_ERROR, "no endpoint of the router's cluster is healthy"),
    "endpoint-unhealthy": Rule(_WARNING, "an endpoint of the router's cluster is not healthy"),
    "endpoint-unreachable": Rule(_WARNING, "no connection to an endpoint of the router was ever made"),
    "cluster-plaintext": Rule(_INFO, "the router's cluster is plaintext; bbr serves TLS unless --secure-serving=false"),
    "tls-mismatch": Rule(_ERROR, "one side speaks TLS and the other does not, as far as the statistics tell"),
    "certificate-refused": Rule(_ERROR, "the gateway rejects the router's certificate"),
    # Routes and the model table.
    "route-unknown-model": Rule(_WARNING, "a route matches a header value that no model of the table has"),
    "model-unrouted": Rule(_WARNING, "a base model of the table has no route"),
    # What has happened since Envoy started.
    "streams-failed": Rule(_WARNING, "streams to the router have failed"),
    "message-timeouts": Rule(_WARNING, "the router's answers came too late"),
    "failed-open": Rule(_WARNING, "requests went on without the router"),
    "mutations-rejected": Rule(_WARNING, "header mutations of the router were rejected"),
    "mutations-uncertain": Rule(
        _INFO, "header mutations were rejected, the router's or those of another filter with the same counters"
    ),
    "route-cache-kept": Rule(_WARNING, "the router asked Envoy to choose the route again and was ignored"),
    "spurious-messages": Rule(_WARNING, "Envoy got messages from the router that it did not expect"),
    "overflow": Rule(_WARNING, "a limit of the router's cluster was reached"),
    "unrouted-requests": Rule(_INFO, "requests found no route: the gateway's empty 404"),
}


def finding(id: str, where: str, sentence: str, evidence: Iterable[Evidence], fix: str) -> Finding:  # noqa: A002
    """Return a finding of RULES, with the severity that it has there."""
    return Finding(id, RULES[id].severity, where, sentence, tuple(evidence), fix)
