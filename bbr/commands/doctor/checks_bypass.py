"""Policies that a client gets past by sending a routing header itself: its request begins at the model's route.

A request that names its model in the body begins at the catch-all, and meets the filters that are on there. One that
has the routing header from its client begins at the model's route. The router overwrites the header later, but Envoy
has then decided which filters the request meets, and those before the router have read their settings. So a policy that
the catch-all has and a model's route lacks is no policy at all. tests/integration/test_policies.py tries each kind of
filter.

Pure: a gateway in, findings out.
"""

from collections.abc import Iterator
from typing import Final

from bbr.commands.doctor.checks_routes import named, settings_on, why_off
from bbr.commands.doctor.finding import Finding, finding
from bbr.commands.doctor.gateway import Filter, Gateway, Manager, Route
from bbr.commands.doctor.node import Evidence

# Filters that decide who gets in and how often -> the fields of their own configuration that are rules for every route.
# Without one, such a filter does nothing on a route without a setting for it.
_GATES: Final = {
    "ApiKeyAuth": ("credentials",),
    "BasicAuth": ("users",),
    "JwtAuthentication": ("rules", "filter_state_rules"),
    "OAuth2": ("config",),
    "ExtAuthz": ("grpc_service", "http_service"),
    "RBAC": ("rules", "matcher"),
    "RateLimit": ("rate_limits",),
    "LocalRateLimit": ("token_bucket",),
    "RateLimitQuotaFilterConfig": ("bucket_matchers",),
    "ExternalProcessor": ("grpc_service", "http_service"),
    # Code of one's own, often for the same ends.
    "Lua": ("default_source_code", "inline_code"),
    "Wasm": ("config",),
    "DynamicModuleFilter": ("dynamic_module_config",),
}

_FIX: Final = """\
# the policy on the models' routes too. Envoy Gateway: mergeType: StrategicMerge in a route's SecurityPolicy, which else
# takes the place of the Gateway's. And no routing headers from outside (Envoy Gateway: ClientTrafficPolicy):
early_header_mutation_extensions:   # of the listener's HttpConnectionManager
- name: envoy.http.early_header_mutation.header_mutation
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
    mutations: [{remove: x-gateway-base-model-name}, {remove: x-gateway-model-name}]"""


def check(gateway: Gateway) -> Iterator[Finding]:
    """Yield the policies that are in force only for clients that send no routing header."""
    for manager in gateway.managers:
        if manager.router is None:
            continue
        position = manager.chain.index(manager.router)
        for index, found in enumerate(manager.chain):
            if found is not manager.router and found.config.type in _GATES and not _picks(manager, found):
                yield from _bypassed(manager, found, before=index < position)


def _picks(manager: Manager, found: Filter) -> bool:
    return found.config.type == "ExternalProcessor" and manager.is_picker(found)


def _bypassed(manager: Manager, found: Filter, *, before: bool) -> Iterator[Finding]:
    open_to = [
        route
        for route in manager.model_routes
        if manager.can_begin_at(route) and _lacks(found, route, manager.entry(route), before=before)
    ]
    if open_to:
        yield finding(
            "policy-bypassed",
            manager.label,
            f"The policy of {found.name} is on the route that requests have at first, and not on {named(open_to)}. A "
            "client that sends the routing header itself begins on a model's route and never meets the policy.",
            dict.fromkeys([*_in_force(found, manager.entry(open_to[0])), *_lacking(found, open_to[0])]),
            _FIX,
        )


def _lacks(found: Filter, route: Route, entry: Route | None, *, before: bool) -> bool:
    """Tell whether a request that begins at `route` meets less of a filter than one that begins at `entry`."""
    if not found.is_on(entry) or found.is_silenced(entry) is not None:
        return False
    if not found.is_on(route):
        return True
    # What stands after the router reads its settings on the route where the request ends, wherever it has begun.
    if not before:
        return False
    if found.is_silenced(route) is not None:
        return True
    return bool(entry and settings_on(found, entry)) and not settings_on(found, route) and not _has_rules(found)


def _has_rules(found: Filter) -> bool:
    return any(found.config.get(key) for key in _GATES[found.config.type])


def _in_force(found: Filter, entry: Route | None) -> list[Evidence]:
    settings = settings_on(found, entry) if entry else []
    if entry and settings:
        return [settings[-1].evidence(entry.label)]
    return [found.node.get("disabled").evidence("on for every route that does not turn it off")]


def _lacking(found: Filter, route: Route) -> list[Evidence]:
    if not found.is_on(route) or found.is_silenced(route) is not None:
        return why_off(found, route)
    return [route.node.get("typed_per_filter_config", found.name).evidence(f"{route.label}: the filter has no rule")]
