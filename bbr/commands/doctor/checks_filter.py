"""Checks of the router's filter: does Envoy call it, show it what it needs, and use its answers?

Pure: a manager in, findings out.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from bbr.commands.doctor import expressions
from bbr.commands.doctor.finding import Finding, finding
from bbr.commands.doctor.gateway import ROUTING_HEADERS, Filter, Gateway, Manager, Route
from bbr.commands.doctor.node import Node
from bbr.headers import DESTINATION_HEADER, PRIORITY_HEADERS, STEERING_HEADERS, listed

DUPLEX: Final = "FULL_DUPLEX_STREAMED"
BUFFERING: Final = ("BUFFERED", "BUFFERED_PARTIAL")

# What the router reads of a request's head; without these a body is read for what it is not.
_READ_HEADERS: Final = (":method", ":path", "content-type", "content-encoding", "upgrade")

# What the router sets or removes.
_SET_HEADERS: Final = (*ROUTING_HEADERS, DESTINATION_HEADER, *STEERING_HEADERS, *PRIORITY_HEADERS)

_MODE_FIX: Final = """\
processing_mode: {request_header_mode: SEND, request_body_mode: FULL_DUPLEX_STREAMED, request_trailer_mode: SEND,
  response_header_mode: SKIP, response_body_mode: NONE, response_trailer_mode: SKIP}"""


def check(gateway: Gateway) -> Iterator[Finding]:
    """Yield what is wrong with the router's filter in each listener."""
    for manager in gateway.managers:
        router = manager.router
        if router:
            yield from _answers(manager, router)
            yield from _failures(manager, router)
            yield from _forwarding(manager, router)
            for mode in modes(manager, router):
                yield from _requests(manager, mode)
                yield from _endings(manager, router, mode)
                yield from _responses(manager, mode)


def modes(manager: Manager, router: Filter) -> list[Node]:
    """Return each processing mode that the router is called with, the filter's own or a route's."""
    routes: list[Route | None] = [route for route in manager.routes if router.calls(route)]
    found = [router.overridden(route, "processing_mode") for route in routes or [None]]
    return list({mode.path: mode for mode in found}.values())


def body_modes(manager: Manager, router: Filter) -> set[str]:
    """Return the request body modes that the router is called with."""
    return {mode.get("request_body_mode").text or "NONE" for mode in modes(manager, router)}


def _answers(manager: Manager, router: Filter) -> Iterator[Finding]:
    config = router.config
    pinned = []
    if config.get("route_cache_action").text == "RETAIN":
        pinned.append(config.get("route_cache_action").evidence())
    if config.get("disable_clear_route_cache").is_true:
        pinned.append(config.get("disable_clear_route_cache").evidence())
    if pinned:
        yield finding(
            "route-cache-pinned",
            manager.label,
            "Envoy may not choose the route again after the router's answer. The headers are set, but every request "
            "stays on the route that it had before.",
            pinned,
            "route_cache_action: DEFAULT   # and no disable_clear_route_cache",
        )
    yield from _mutations(manager, config.get("mutation_rules"))
    yield from _expressions(manager, router)
    if (mode := config.get("observability_mode")).is_true:
        yield finding(
            "observability-mode",
            manager.label,
            "The gateway shows the router its requests and ignores the answers: nothing is routed or removed.",
            [mode.evidence()],
            "observability_mode: false",
        )
    if (disabled := config.get("disable_immediate_response")).is_true:
        yield finding(
            "refusals-disabled",
            manager.label,
            "The gateway ignores the router's own responses: a client gets an empty 500 instead of a 404 or 400 that "
            "says what is wrong.",
            [disabled.evidence()],
            "disable_immediate_response: false",
        )


def _mutations(manager: Manager, rules: Node) -> Iterator[Finding]:
    refused = [name for name in _SET_HEADERS if _refuses(rules, name)]
    if not refused:
        return
    keys = ("disallow_all", "disallow_expression", "allow_expression", "disallow_is_error")
    found = [each.get("regex") or each for key in keys if (each := rules.get(key))]
    is_error = rules.get("disallow_is_error").is_true
    result = "Requests get a 500" if is_error else "Requests keep their first route and the client's own headers"
    yield finding(
        "mutation-disallowed",
        manager.label,
        f"The mutation rules forbid the router to change {', '.join(listed(refused))}. {result}.",
        [each.evidence() for each in found],
        "mutation_rules: {}   # or an allow_expression that matches these, and no disallow_expression that does",
    )


def _refuses(rules: Node, name: str) -> bool:
    if _matches(rules.get("disallow_expression", "regex").text, name):
        return True
    if _matches(rules.get("allow_expression", "regex").text, name):
        return False
    return rules.get("disallow_all").is_true


def _expressions(manager: Manager, router: Filter) -> Iterator[Finding]:
    """Tell which expressions the checks of this file take for one that matches nothing."""
    rules = router.config.get("mutation_rules")
    found = [rules.get(key, "regex") for key in ("disallow_expression", "allow_expression")]
    for kind in ("allowed_headers", "disallowed_headers"):
        each_of = router.config.get("forward_rules", kind).each("patterns")
        found += [each.get("safe_regex", "regex") for each in each_of]
    if reasons := {each: reason for each in found if (reason := _why_not_evaluated(each.text))}:
        why = "; ".join(sorted(set(reasons.values())))
        yield finding(
            "expression-not-evaluated",
            manager.label,
            f"These expressions were not evaluated ({why}). Check by hand which of the router's headers they match.",
            [each.evidence() for each in reasons],
            "a short expression of RE2's, as in: regex: 'x-gateway-.*'",
        )


def _why_not_evaluated(expression: str) -> str:
    """Say why an expression is not evaluated; "" if it is."""
    try:
        if expression:
            expressions.matches(expression, "")
    except expressions.NotEvaluatedError as error:
        return str(error)
    return ""


def _matches(expression: str, name: str) -> bool:
    try:
        return bool(expression) and expressions.matches(expression, name)
    except expressions.NotEvaluatedError:  # _expressions tells that
        return False


def _requests(manager: Manager, mode: Node) -> Iterator[Finding]:
    headers, body = mode.get("request_header_mode"), mode.get("request_body_mode")
    if headers.text == "SKIP":
        yield finding(
            "headers-not-sent",
            manager.label,
            "The request goes upstream before the router is asked, on the route that its client chose. The router "
            "answers every body with a 500.",
            [headers.evidence()],
            "request_header_mode: SEND",
        )
    if body.text in ("", "NONE"):
        sentence = "The router never sees a body, so it never learns a model: every request takes the default route."
        yield finding("body-not-sent", manager.label, sentence, [body.evidence("NONE")], _MODE_FIX)
    elif body.text in ("STREAMED", "GRPC"):
        why = {
            "STREAMED": "Envoy waits with the headers only for the first piece of a body. A larger body gets a 500, "
            "after a part of it has reached the default route.",
            "GRPC": "This mode is for gRPC messages; a JSON body becomes an empty 500 or takes the default route.",
        }
        yield finding("body-mode-unsuitable", manager.label, why[body.text], [body.evidence()], _MODE_FIX)
    elif body.text == "BUFFERED_PARTIAL":
        sentence = (
            "The gateway shows only a part of a body that does not fit its buffer. The router rejects it with a 413."
        )
        yield finding("body-mode-partial", manager.label, sentence, [body.evidence()], _MODE_FIX)


def _endings(manager: Manager, router: Filter, mode: Node) -> Iterator[Finding]:
    body, trailers = mode.get("request_body_mode"), mode.get("request_trailer_mode")
    if body.text in BUFFERING and trailers.text != "SEND":
        yield finding(
            "trailers-not-sent",
            manager.label,
            "The router does not see a request's trailers: routing fields that a client puts there reach the model "
            "server, and some servers merge them into the headers.",
            [trailers.evidence("SKIP")],
            "request_trailer_mode: SEND",
        )
    if body.text == "BUFFERED" and not router.config.get("allow_mode_override").is_true:
        yield finding(
            "mode-override-off",
            manager.label,
            "The body of a WebSocket or CONNECT request does not end. In BUFFERED such a request hangs, unless the "
            "router may ask for another mode.",
            [body.evidence(), router.config.get("allow_mode_override").evidence("false")],
            "allow_mode_override: true   # or request_body_mode: FULL_DUPLEX_STREAMED",
        )


def _responses(manager: Manager, mode: Node) -> Iterator[Finding]:
    sent = []
    if mode.get("response_header_mode").text != "SKIP":
        sent.append(mode.get("response_header_mode").evidence("SEND"))
    if mode.get("response_body_mode").text not in ("", "NONE"):
        sent.append(mode.get("response_body_mode").evidence())
    if mode.get("response_trailer_mode").text == "SEND":
        sent.append(mode.get("response_trailer_mode").evidence())
    if sent:
        yield finding(
            "response-events",
            manager.label,
            "The gateway sends every response to the router and waits for it: a useless round trip, or one for each "
            "piece of a streamed answer.",
            sent,
            "processing_mode: {response_header_mode: SKIP, response_body_mode: NONE, response_trailer_mode: SKIP}",
        )


def _failures(manager: Manager, router: Filter) -> Iterator[Finding]:
    places: Iterable[Node] = [router.overridden(route, "failure_mode_allow") for route in (None, *manager.routes)]
    open_ = {place.path: place.evidence() for place in places if place.is_true}
    if open_:
        yield finding(
            "fails-open",
            manager.label,
            "If the router is not available, requests in BUFFERED go where the client's own headers say, and no rule "
            "checks the model. In FULL_DUPLEX_STREAMED they fail anyway.",
            open_.values(),
            "failure_mode_allow: false",
        )
    if (service := router.config.get("http_service")) and not router.config.get("grpc_service"):
        sentence = "The filter calls an HTTP service. The router speaks gRPC, and Envoy sends such a service no bodies."
        fix = "grpc_service: {envoy_grpc: {cluster_name: bbr}}"
        yield finding("not-grpc", manager.label, sentence, [service.evidence()], fix)


def _forwarding(manager: Manager, router: Filter) -> Iterator[Finding]:
    rules = router.config.get("forward_rules")
    allowed, disallowed = (list(rules.each(f"{kind}_headers", "patterns")) for kind in ("allowed", "disallowed"))
    hidden = [
        name
        for name in _READ_HEADERS
        if any(_is_pattern(each, name) for each in disallowed)
        or (allowed and not any(_is_pattern(each, name) for each in allowed))
    ]
    if hidden:
        found = [each for each in (rules.get("allowed_headers"), rules.get("disallowed_headers")) if each]
        yield finding(
            "headers-not-forwarded",
            manager.label,
            f"The router does not see {', '.join(hidden)}, so it misreads bodies: without content-encoding, a gzip "
            "body is a 400.",
            [each.evidence() for each in found],
            "forward_rules: {}   # or allow these",
        )


def _is_pattern(pattern: Node, name: str) -> bool:
    """Tell whether a StringMatcher matches."""
    for key, holds in (("exact", str.__eq__), ("prefix", str.startswith), ("suffix", str.endswith)):
        text = pattern.get(key).value
        if isinstance(text, str):
            return bool(holds(name, text.lower() if pattern.get("ignore_case").is_true else text))
    if text := pattern.get("contains").text:
        return text in name
    return _matches(pattern.get("safe_regex", "regex").text, name)
