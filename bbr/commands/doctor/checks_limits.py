"""Checks of time and size: what happens if a router hangs or restarts, with large bodies, or with many requests.

Pure: a gateway in, findings out.
"""

from collections.abc import Iterator
from typing import Final

from bbr.commands.doctor.checks_filter import BUFFERING, body_modes
from bbr.commands.doctor.finding import Finding, finding
from bbr.commands.doctor.gateway import Cluster, Filter, Gateway, Manager

# Envoy's defaults (1.40).
BUFFER_BYTES: Final = 1 << 20
STREAM_WINDOW_BYTES: Final = 16 << 20
REQUESTS: Final = 1024
RETRIES: Final = 3
MESSAGE_TIMEOUT_SECONDS: Final = 0.2
IDLE_SECONDS: Final = 300.0

# A restart or a busy second of the router should not cost a request.
_SHORT_SECONDS: Final = 1.0

_RETRY_FIX: Final = """\
grpc_service:
  retry_policy:
    retry_on: connect-failure,refused-stream,reset,reset-before-request,unavailable,5xx
    num_retries: 3
    retry_back_off: {base_interval: 0.01s, max_interval: 0.05s}"""


def check(gateway: Gateway, max_body_bytes: int) -> Iterator[Finding]:
    """Yield what is too small, too short or missing.

    Args:
        max_body_bytes: the largest body that the router takes.
    """
    for manager in gateway.managers:
        router = manager.router
        if router is None:
            continue
        cluster = gateway.clusters.get(router.cluster.text)
        yield from _buffers(manager, router, max_body_bytes)
        yield from _buffer_filter(manager, max_body_bytes)
        yield from _time(manager, router, cluster)
        yield from _retries(manager, router, cluster)
        if cluster:
            yield from _keepalive(cluster)


def check_cluster(cluster: Cluster) -> Iterator[Finding]:
    """Yield what is too small in a cluster that ext_proc calls."""
    limits = [cluster.threshold(key, REQUESTS) for key in ("max_requests", "max_pending_requests")]
    small = [place.evidence(f"{value}") for value, place in limits if value <= REQUESTS]
    if small:
        yield finding(
            "circuit-breaker-default",
            f"cluster {cluster.name}",
            "A circuit breaker is at Envoy's default or below. A request uses a stream to the router until its body "
            "has ended, and a stream to a picker until its response has ended. Requests above the limit get a 500.",
            small,
            "circuit_breakers: {thresholds: [{max_requests: 65536, max_pending_requests: 65536, max_retries: 1024}]}",
        )


def _buffers(manager: Manager, router: Filter, max_body_bytes: int) -> Iterator[Finding]:
    if not body_modes(manager, router) & {*BUFFERING}:
        return  # full duplex holds no body: a small buffer costs it nothing
    limit = manager.listener.get("per_connection_buffer_limit_bytes")
    window = manager.node.get("http2_protocol_options", "initial_stream_window_size")
    codec = manager.node.get("codec_type").text
    small = []
    if codec != "HTTP2" and _below(limit.number, BUFFER_BYTES, max_body_bytes) and not _raised(manager, max_body_bytes):
        small.append(limit.evidence(f"HTTP/1.1; the default is {BUFFER_BYTES}"))
    if codec != "HTTP1" and _below(window.number, STREAM_WINDOW_BYTES, max_body_bytes):
        small.append(window.evidence(f"HTTP/2; the default is {STREAM_WINDOW_BYTES}"))
    if small:
        yield finding(
            "buffer-below-body-limit",
            manager.label,
            f"The gateway rejects bodies with a 413 that the router would accept (--max-body-bytes {max_body_bytes}).",
            small,
            f"per_connection_buffer_limit_bytes: {max_body_bytes}                        # of the listener, HTTP/1.1\n"
            f"http2_protocol_options: {{initial_stream_window_size: {max_body_bytes}}}   # of the connection manager\n"
            "# or request_body_mode: FULL_DUPLEX_STREAMED, which has no such limit",
        )


def _raised(manager: Manager, max_body_bytes: int) -> bool:
    """Tell whether every route that a request can have at first raises the limit for its requests."""
    entries = [route for route in manager.routes if not route.wants]
    limits = []
    for route in entries:
        found = route.node.get("request_body_buffer_limit") or route.host.get("request_body_buffer_limit")
        limits.append(found.number or 0)
    return bool(limits) and min(limits) >= max_body_bytes


def _below(value: int | None, default: int, limit: int) -> bool:
    return (default if value is None else value) < limit


def _buffer_filter(manager: Manager, max_body_bytes: int) -> Iterator[Finding]:
    for each in manager.node.each("http_filters"):
        limit = each.get("typed_config", "max_request_bytes")
        is_on = each.get("typed_config").type == "Buffer" and not each.get("disabled").is_true
        if is_on and limit.number is not None and limit.number < max_body_bytes:
            yield finding(
                "buffer-filter-below-body-limit",
                manager.label,
                f"The filter {each.get('name').text} buffers whole bodies, and rejects bodies with a 413 that the "
                f"router would accept (--max-body-bytes {max_body_bytes}).",
                [limit.evidence()],
                f"max_request_bytes: {max_body_bytes}   # or no buffer filter",
            )


def _time(manager: Manager, router: Filter, cluster: Cluster | None) -> Iterator[Finding]:
    timeout = router.config.get("message_timeout")
    seconds = MESSAGE_TIMEOUT_SECONDS if timeout.seconds is None else timeout.seconds
    if seconds < _SHORT_SECONDS and body_modes(manager, router) & {*BUFFERING}:
        sentence = "If the router answers later than message_timeout, the client gets a 504. A busy moment is enough."
        evidence = [timeout.evidence(f"{seconds:g} s")]
        yield finding("message-timeout-short", manager.label, sentence, evidence, "message_timeout: 5s")
    bounds = [
        manager.node.get("common_http_protocol_options", "max_stream_duration"),
        manager.node.get("request_timeout"),
    ]
    if cluster:
        bounds.append(cluster.http_options.get("common_http_protocol_options", "max_stream_duration"))
        bounds.append(cluster.node.get("common_http_protocol_options", "max_stream_duration"))
    idle = manager.node.get("stream_idle_timeout")
    if idle.seconds == 0 and not any(bound.seconds for bound in bounds):
        yield finding(
            "no-stream-deadline",
            manager.label,
            "Nothing ends a request that hangs in the router. FULL_DUPLEX_STREAMED has no message_timeout, the timeout "
            "of grpc_service does not end a stream, and the idle timeout is off.",
            [idle.evidence("off"), bounds[-2].evidence() if cluster else bounds[0].evidence()],
            "# in the router's cluster, HttpProtocolOptions; with a retry policy it counts once for each try:\n"
            "common_http_protocol_options: {max_stream_duration: 120s}",
        )


def _keepalive(cluster: Cluster) -> Iterator[Finding]:
    options = [
        cluster.http_options.get("explicit_http_config", "http2_protocol_options"),
        cluster.http_options.get("auto_config", "http2_protocol_options"),
        cluster.http_options.get("use_downstream_protocol_config", "http2_protocol_options"),
        cluster.node.get("http2_protocol_options"),
    ]
    found = [each.get("connection_keepalive") for each in options if each]
    if found and not any(each.get("interval").seconds for each in found):
        place = found[0].get("interval") if found[0] else found[0]
        yield finding(
            "no-keepalive",
            f"cluster {cluster.name}",
            "If a router hangs, or its node is gone, its connections stay open. Requests that are sent over them wait "
            "until something else ends them, such as max_stream_duration.",
            [place.evidence()],
            "explicit_http_config: {http2_protocol_options: {connection_keepalive: {interval: 5s, timeout: 5s}}}",
        )


def _retries(manager: Manager, router: Filter, cluster: Cluster | None) -> Iterator[Finding]:
    policies = [
        router.config.get("grpc_service", "retry_policy"),
        router.config.get("grpc_service", "envoy_grpc", "retry_policy"),
    ]
    if not router.cluster:
        return
    if not any(policies):
        sentence = "When a router restarts, the requests that it is reading are lost: Envoy tries no other router."
        evidence = [policies[0].evidence()]
        yield finding("no-retry-policy", manager.label, sentence, evidence, _RETRY_FIX)
    elif not any(each.get("retry_on").text for each in policies):
        sentence = (
            "The retry policy has no conditions, so Envoy never retries. kgateway's `retry` without retryOn does this."
        )
        evidence = [each.get("retry_on").evidence() for each in policies if each]
        yield finding("no-retry-policy", manager.label, sentence, evidence, _RETRY_FIX)
    elif cluster and not any(each.get("retry_budget") for each in cluster.node.each("circuit_breakers", "thresholds")):
        value, place = cluster.threshold("max_retries", RETRIES)
        if value <= RETRIES:
            yield finding(
                "retries-capped",
                f"cluster {cluster.name}",
                f"The filter has a retry policy, and its cluster allows {value} retries at a time: with more requests "
                "at once, most of them are still lost when a router restarts.",
                [place.evidence(f"{value}")],
                "circuit_breakers: {thresholds: [{max_retries: 1024, max_requests: 65536, max_pending_requests: "
                "65536}]}",
            )
