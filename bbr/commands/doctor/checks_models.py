"""Checks whether the gateway's routes fit the router's model table, which finds typing errors in both. Pure."""

from collections.abc import Iterator
from typing import Final

from bbr.commands.doctor.finding import Finding, finding
from bbr.commands.doctor.gateway import ROUTING_HEADERS, Gateway
from bbr.commands.doctor.node import Evidence, Node
from bbr.models.registry import Registry
from bbr.sources.routes import Wanted, compare
from bbr.text import brief

# Findings of each kind; a table that is not the gateway's would fill the screen.
_SHOWN: Final = 20


def check(gateway: Gateway, registry: Registry) -> Iterator[Finding]:
    """Yield the values that no model has, and the base models that no route names."""
    if registry.identity:
        return
    places: dict[Wanted, Node] = {}
    where: dict[Wanted, str] = {}
    for manager in gateway.managers:
        for route in manager.model_routes if manager.router else ():
            for want in route.wants:
                found = _wanted(want)
                if found:
                    places.setdefault(found[0], found[1])
                    where.setdefault(found[0], f"{manager.label}, route {route.label}")
    if not places:
        return  # no route looks at the headers, which is said elsewhere
    mismatches = compare(registry, {"": places})
    for unknown in mismatches.unknown[:_SHOWN]:
        claim = Wanted(unknown.header, unknown.value)
        sentence = f"The route matches {claim.header}: {claim.value}, which no model of the table has."
        fix = f"models:\n- name: {brief(claim.value)}   # in the table, or the right name in the route"
        yield finding("route-unknown-model", where[claim], sentence, [places[claim].evidence()], fix)
    for name in mismatches.unrouted[:_SHOWN]:
        origin = registry.anywhere(name)
        evidence = Evidence("table", name, str(origin.origin) if origin else None)
        sentence = f"No route matches {name}: its requests take the default route."
        fix = f"match: {{headers: [{{name: x-gateway-base-model-name, string_match: {{exact: {brief(name)}}}}}]}}"
        yield finding("model-unrouted", "table", sentence, [evidence], fix)


def _wanted(want: Node) -> tuple[Wanted, Node] | None:
    """Return what a header match asks for and where; None if any value will do."""
    if want.get("present_match").is_true:
        return None
    header = ROUTING_HEADERS[want.get("name").text.lower()]
    for place in (want.get("string_match", "exact"), want.get("exact_match")):
        if isinstance(place.value, str):
            return Wanted(header, place.text), place
    return Wanted(header, "", exact=False), want
