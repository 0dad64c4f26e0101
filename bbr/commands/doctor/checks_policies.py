"""Policies on a model's route, and CORS: what Envoy looks up by the route that a request has before it is routed.

Which filters a request meets is decided when it begins. A filter before the router reads its settings before the
router's answer, one after it reads them later. So a policy that stands on a model's route alone is in force only if its
filter is on for all routes and stands after the router. tests/integration/test_policies.py tries each kind of filter.

Pure: a gateway in, findings out.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from bbr.commands.doctor.checks_routes import named, settings_on, why_off
from bbr.commands.doctor.finding import Finding, finding
from bbr.commands.doctor.gateway import ROUTING_HEADERS, Filter, Gateway, Manager, Route
from bbr.commands.doctor.node import Evidence, Node

_CORS: Final = "Cors"
# Filters that hold no policy: the one that sends requests upstream, and those that only count or note.
_NO_POLICY: Final = ("Router", "FilterConfig", _CORS)
_FIX: Final = """\
# the policy where requests are at first: on the gateway as a whole, or on the catch-all route as on the models' routes.
# Or, in plain Envoy: the filter on at the top, and after the router's"""

_BEFORE_FIX: Final = """\
# the router's filter before this one. Istio: an AuthorizationPolicy with the action CUSTOM stands even before the check
# of tokens, so that the chart's provider.istio.envoyFilter has to be INSERT_FIRST, as it is by default. kgateway:
# the chart's provider.kgateway.filterStage: {stage: Fault, predicate: Before}"""

# CEL that reads a header's value, as text, and how its index operators are called where it is parsed.
_CEL_TEXT: Final = re.compile(
    rf"""request\.headers\s*+\[\s*+(?:\?\s*+)?+["']({"|".join(map(re.escape, ROUTING_HEADERS))})["']""", re.IGNORECASE
)
_CEL_INDEX: Final = ("_[_]", "_[?_]")

# How a rule says what a header has to be; that it is there at all may well be asked of a client's own.
_VALUES: Final = ("string_match", "exact_match", "prefix_match", "suffix_match", "contains_match", "safe_regex_match")

_CORS_FIX: Final = """\
# a catch-all that routes to a cluster and has the CORS policy too, with the router's filter on:
- {match: {prefix: /}, route: {cluster: ANY}, typed_per_filter_config: {envoy.filters.http.cors: {...}}}"""


def check(gateway: Gateway) -> Iterator[Finding]:
    """Yield the policies that are not in force, and preflight requests that can't be answered."""
    for manager in gateway.managers:
        if manager.router is None:
            continue
        for index, found in enumerate(manager.chain):
            if found.config.type == _CORS:
                yield from _preflights(manager, found)
            elif _may_hold_policy(manager, found):
                before = index < manager.chain.index(manager.router)
                yield from _skipped(manager, found, before=before)
                if before:
                    yield from _too_early(manager, found)


def _may_hold_policy(manager: Manager, found: Filter) -> bool:
    if found is manager.router or found.config.type in _NO_POLICY:
        return False
    if any(found in each.switches for each in manager.chain):
        return False  # it turns others off, which is a finding of theirs
    return found.config.type != "ExternalProcessor" or not manager.is_picker(found)


def _skipped(manager: Manager, found: Filter, *, before: bool) -> Iterator[Finding]:
    wanting = [route for route in manager.model_routes if found.is_on(route) and found.is_silenced(route) is None]
    out = [route for route in wanting if not found.is_on(manager.entry(route))]
    other = [route for route in wanting if route not in out and before and _differs(found, route, manager.entry(route))]
    if out:
        yield finding(
            "policy-skipped",
            manager.label,
            f"The policy of {found.name} on {named(out)} is not in force. The filter is off on the route that requests "
            "have at first, and Envoy decides once, before the router answers, which filters a request meets. A test "
            "with the routing header set by hand meets the policy, so it proves nothing.",
            [*_setting(found, out[0]), *why_off(found, manager.entry(out[0]))],
            _FIX,
        )
    if other:
        entry = manager.entry(other[0])
        yield finding(
            "policy-skipped",
            manager.label,
            f"The policy of {found.name} on {named(other)} is not in force. The filter runs before the router, so it "
            "reads the policy of the route that requests have at first. A test with the routing header set by hand "
            "meets the policy, so it proves nothing.",
            [*_setting(found, other[0]), *(_setting(found, entry) if entry else ())],
            _FIX,
        )


class _Asked(NamedTuple):
    """A rule that asks for a routing header's value: the header's name, and where it is named."""

    header: str
    place: Node


def _too_early(manager: Manager, found: Filter) -> Iterator[Finding]:
    """Find a rule about a routing header before the router: it sees what a client has sent."""
    entries = [entry for route in manager.model_routes if found.is_on(entry := manager.entry(route)) and entry]
    settings = [found.config, *(setting for entry in entries for setting in settings_on(found, entry))]
    if asked := next((rule for setting in settings for each in setting.walk() if (rule := _asked(each))), None):
        yield finding(
            "policy-skipped",
            manager.label,
            f"The policy of {found.name} asks for {asked.header}, and the filter stands before the router. "
            "It sees that header as clients send it, or leave it out.",
            [asked.place.evidence()],
            _BEFORE_FIX,
        )


def _asked(rule: Node) -> _Asked | None:
    header, name = rule.get("header_name"), rule.get("name")
    # A matcher's input, or what a limit counts by.
    if rule.type == "HttpRequestHeaderMatchInput" or rule.get("descriptor_key"):
        return _Asked(header.text, header) if header.text.lower() in ROUTING_HEADERS else None
    if name.text.lower() in ROUTING_HEADERS and any(rule.get(key) for key in _VALUES):
        return _Asked(name.text, name)
    return _asked_by_cel(rule)


def _asked_by_cel(rule: Node) -> _Asked | None:
    """The place is the message that has a text, since other values in it may be credentials."""
    if found := _CEL_TEXT.search(rule.get("cel_expr_string").text or rule.get("text").text):
        return _Asked(found[1], rule)
    call = rule.get("call_expr")
    if call.get("function").text in _CEL_INDEX:
        for each in call.each("args"):
            key = each.get("const_expr", "string_value")
            if key.text.lower() in ROUTING_HEADERS:
                return _Asked(key.text, key)
    return None


def _differs(found: Filter, route: Route, entry: Route | None) -> bool:
    """Tell whether a filter that stands before the router does less for a route than the route wants.

    What the route that requests have at first says more is no policy that is lost: it is where policies belong.
    """
    if found.is_silenced(entry) is not None:
        return True
    mine = _policy(found, route)
    return mine != _policy(found, entry) and mine != _policy(found, None)


def _policy(found: Filter, route: Route | None) -> list[Any]:
    """Return the values of all settings on a route."""
    if route is None:
        return []
    return [setting.value for setting in settings_on(found, route)]


def _setting(found: Filter, route: Route) -> list[Evidence]:
    """Return where a route has a setting of a filter, or where it would have one."""
    if settings := settings_on(found, route):
        return [settings[-1].evidence(route.label)]
    return [route.node.get("typed_per_filter_config", found.name).evidence(f"{route.label}: as the filter is")]


def _preflights(manager: Manager, cors: Filter) -> Iterator[Finding]:
    """Find preflights without an answer: they stay on their first route, and the filter skips direct responses."""
    wanting, evidence = [], []
    for route in manager.model_routes:
        entry = manager.entry(route)
        if not (_has_cors(cors, route) or (entry and _has_cors(cors, entry))):
            continue
        if entry is None:
            evidence += _setting(cors, route)[-1:]
        elif answered := _direct(entry):
            evidence.append(answered)
        elif not (_has_cors(cors, entry) and cors.is_on(entry)):
            evidence += _setting(cors, entry)
        else:
            continue
        wanting.append(route)
    if wanting:
        yield finding(
            "cors-preflight-fails",
            manager.label,
            f"Browsers can't call {named(wanting)} from another origin. A preflight (OPTIONS) names no model, so it "
            "stays on the route that it has at first. That route is a direct response, has no CORS policy, or does not "
            "exist.",
            dict.fromkeys(evidence),
            _CORS_FIX,
        )


def _has_cors(cors: Filter, route: Route) -> bool:
    return any(each.type == "CorsPolicy" for each in cors.per_route(route))


def _direct(route: Route) -> Evidence | None:
    for kind in ("direct_response", "redirect"):
        if found := route.node.get(kind):
            return (found.get("status") or found).evidence(route.label)
    return None
