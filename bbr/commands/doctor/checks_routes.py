"""Whether a request passes the router on its way to a route, and its picker after it.

Pure: a gateway in, findings out. How per-route settings work was tried on Envoy 1.40.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from bbr.commands.doctor.finding import Finding, finding
from bbr.commands.doctor.gateway import Filter, Gateway, Manager, Route
from bbr.commands.doctor.node import Evidence, Node
from bbr.text import brief

# Of routes that share a mistake, so many are named.
_NAMED: Final = 5
# Filters that take limits from a route's own fields too.
_RATE_LIMITS: Final = ("RateLimit", "LocalRateLimit")

_FILTER_FIX: Final = """\
http_filters:   # the first of them
- name: bbr
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
    grpc_service: {envoy_grpc: {cluster_name: bbr}}
    processing_mode: {request_header_mode: SEND, request_body_mode: FULL_DUPLEX_STREAMED, request_trailer_mode: SEND,
      response_header_mode: SKIP}"""

_PER_ROUTE: Final = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"

_CATCH_ALL_FIX: Final = """\
routes:
...   # the models' routes
- {match: {prefix: /}, direct_response: {status: 404}}   # last, with the router's filter on"""


def check(gateway: Gateway) -> Iterator[Finding]:
    """Yield what is wrong with the way of a request through each listener."""
    for details in gateway.errors:
        sentence = "Envoy has rejected an update. It keeps its earlier configuration, or has none."
        fix = "what the message says; with FULL_DUPLEX_STREAMED, request_trailer_mode must be SEND"
        yield finding("config-rejected", "gateway", sentence, [details.evidence()], fix)
    if not any(manager.router for manager in gateway.managers):
        where = [manager.node.get("http_filters").evidence("no filters") for manager in gateway.managers]
        yield finding(
            "router-not-found",
            "gateway",
            "No listener calls the router: no HTTP filter is an ext_proc filter, all of them are endpoint pickers, or "
            "none has the name that --filter says.",
            where or [Evidence("config_dump", ".configs", None, "no HTTP listener")],
            _FILTER_FIX,
        )
        return
    for manager in gateway.managers:
        router = manager.router
        if router is None:
            yield from _bare(manager)
            continue
        yield from _unsure(manager, router)
        yield from _entries(manager, router)
        yield from _pickers(manager, router)


def _bare(manager: Manager) -> Iterator[Finding]:
    if manager.model_routes:
        sentence = "The routes of this listener look at the router's headers, and only clients set them here."
        evidence = _wants(manager.model_routes)
        yield finding("routes-without-router", manager.label, sentence, evidence, _FILTER_FIX)


def _unsure(manager: Manager, router: Filter) -> Iterator[Finding]:
    if not manager.is_sure:
        names = [each.node.get("name").evidence() for each in manager.filters]
        sentence = f"Several ext_proc filters could be the router's; {router.name} is assumed to be."
        yield finding("router-uncertain", manager.label, sentence, names, _filter_flag(router))
    if manager.unseen:
        sentence = "Some routes are not in the dump as routes, so they were not checked."
        evidence = [each.evidence() for each in manager.unseen]
        yield finding("routes-not-seen", manager.label, sentence, evidence, "none; check these routes yourself")
    elif manager.routes and not manager.model_routes:
        sentence = (
            "No route looks at X-Gateway-Base-Model-Name or X-Gateway-Model-Name: what the router sets changes nothing."
        )
        fix = "match: {prefix: /, headers: [{name: x-gateway-base-model-name, string_match: {exact: MODEL}}]}"
        evidence = [manager.routes[0].table.get("virtual_hosts").evidence()]
        yield finding("no-header-routes", manager.label, sentence, evidence, fix)


def _entries(manager: Manager, router: Filter) -> Iterator[Finding]:
    missing, bare, first, spoofable = [], [], [], []
    order = {route.node.path: index for index, route in enumerate(manager.routes)}
    for route in manager.model_routes:
        entry = manager.entry(route)
        if entry is None:
            missing.append(route)
        elif order[entry.node.path] < order[route.node.path]:
            first.append(route)
        elif not router.calls(entry):
            bare.append(entry)
        if not router.calls(route) and manager.can_begin_at(route):
            spoofable.append(route)
    yield from _broken(manager)
    yield from _without_entry(manager, router, missing)
    yield from _without_router(manager, router, bare, spoofable)
    if first:
        sentence = f"A route without a header match stands before {named(first)}: no request ever gets there."
        evidence = [*_matches(manager.entry(first[0])), *_wants(first)]
        yield finding("catch-all-first", manager.label, sentence, evidence, _CATCH_ALL_FIX)


def _broken(manager: Manager) -> Iterator[Finding]:
    """Find model routes that the gateway answers itself, since it can't use their backend."""
    broken = [
        route for route in manager.model_routes if (route.node.get("direct_response", "status").number or 0) >= 500
    ]
    if broken:
        yield finding(
            "model-route-broken",
            manager.label,
            f"{named(broken)}: the gateway answers with an error by itself, since it can't use the route's backend. "
            "Envoy Gateway does so for InferencePools without Envoy AI Gateway beside it.",
            [route.node.get("direct_response", "status").evidence(route.label) for route in broken[:_NAMED]],
            "kubectl describe httproute   # ResolvedRefs says why; install Envoy AI Gateway, or route to a Service",
        )


def _without_entry(manager: Manager, router: Filter, missing: list[Route]) -> Iterator[Finding]:
    if missing and router.calls(None):
        sentence = "No route takes requests that name no model: they get the gateway's empty 404."
        yield finding("no-catch-all", manager.label, sentence, _wants(missing), _CATCH_ALL_FIX)
    elif missing:
        yield finding(
            "catch-all-missing",
            manager.label,
            "The router's filter is on by route only, and a request has no route before the router has set a header: "
            "it gets a 404, and the router is never called.",
            [router.node.get("disabled").evidence(), *_wants(missing)],
            _CATCH_ALL_FIX,
        )


def _without_router(manager: Manager, router: Filter, bare: list[Route], spoofable: list[Route]) -> Iterator[Finding]:
    if bare:
        yield finding(
            "catch-all-without-router",
            manager.label,
            f"Requests have the route {named(bare)} at first, and there the router's filter is off: they stay there.",
            why_off(router, bare[0]),
            f"{_on(router)}   # on that route, or on its virtual host",
        )
    if spoofable:
        yield finding(
            "spoofable-route",
            manager.label,
            f"The router's filter is off on {named(spoofable)}: a client that sends the header itself gets there with "
            "any body, past the router.",
            why_off(router, spoofable[0]),
            f"{_on(router)}   # on every route, or on their virtual host",
        )


def _pickers(manager: Manager, router: Filter) -> Iterator[Finding]:
    position = manager.filters.index(router)
    for index, picker in enumerate(manager.filters):
        wanting = [
            route
            for route in manager.model_routes
            if picker is not router and picker.is_on(route) and picker.is_silenced(route) is None
        ]
        if not wanting:
            continue
        if index < position:
            if manager.is_picker(picker):
                yield finding(
                    "picker-before-router",
                    manager.label,
                    f"{picker.name} stands before {router.name}: it picks for the route that a request had before it "
                    "was routed.",
                    [picker.node.get("name").evidence(), router.node.get("name").evidence()],
                    f"http_filters: {brief(router.name)} first, then {brief(picker.name)}",
                )
            continue
        skipped = [route for route in wanting if not picker.is_on(manager.entry(route))]
        if skipped:
            yield finding(
                "picker-skipped",
                manager.label,
                f"{picker.name} is on for {named(skipped)}, but off on the route that requests have at first. "
                "Envoy decides that once, so it is never called after the router's answer.",
                why_off(picker, manager.entry(skipped[0])),
                _on_but_where_not_wanted(brief(picker.name)),
            )


def why_off(found: Filter, route: Route | None) -> list[Evidence]:
    """Return why a filter is off on a route."""
    if switch := found.switched_off(route):
        settings = [switch.node, *(route.settings(switch.name) if route else ())]
        return [settings[-1].evidence(f"{switch.name} turns {found.name} off")]
    settings = route.settings(found.name) if route else []
    silenced = found.is_silenced(route)
    if found.is_on(route) and silenced is not None:
        return [silenced.evidence()]
    evidence = [settings[-1].get("disabled").evidence() if settings else found.node.get("disabled").evidence()]
    if route and not settings:
        evidence.append(route.node.get("typed_per_filter_config", found.name).evidence("nothing turns it on"))
    return evidence


def settings_on(found: Filter, route: Route) -> list[Node]:
    """Return the settings of a filter on a route, from the least specific place to the most, limits last."""
    limits = (route.host.get("rate_limits"), route.node.get("route", "rate_limits"))
    return route.settings(found.name) + [each for each in limits if each and found.config.type in _RATE_LIMITS]


def _on(found: Filter) -> str:
    return f"typed_per_filter_config: {{{brief(found.name)}: {{'@type': {_PER_ROUTE}, overrides: {{}}}}}}"


def _on_but_where_not_wanted(name: str) -> str:
    return (
        f"http_filters: [{{name: {name}, disabled: false, ...}}]   # on at the top; where not wanted:\n"
        f"typed_per_filter_config: {{{name}: {{'@type': {_PER_ROUTE}, disabled: true}}}}"
    )


def _filter_flag(router: Filter) -> str:
    return f"--filter {brief(router.name)}   # of `bbr doctor`"


def _wants(routes: Sequence[Route]) -> list[Evidence]:
    return [route.wants[0].get("name").evidence(route.label) for route in routes[:_NAMED]]


def _matches(route: Route | None) -> list[Evidence]:
    return [route.node.get("match").evidence(route.label)] if route else []


def named(routes: list[Route]) -> str:
    """Return the labels of the first few routes."""
    names = list(dict.fromkeys(route.label for route in routes))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
