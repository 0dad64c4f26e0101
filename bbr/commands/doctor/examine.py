"""All checks of a gateway, and their findings in order."""

from bbr.commands.doctor import (
    checks_bypass,
    checks_cluster,
    checks_filter,
    checks_limits,
    checks_models,
    checks_policies,
    checks_routes,
    checks_stats,
)
from bbr.commands.doctor.finding import Finding, Severity
from bbr.commands.doctor.gateway import Gateway
from bbr.models.registry import Registry


def examine(
    gateway: Gateway, registry: Registry | None = None, *, max_body_bytes: int, secure_serving: bool = True
) -> list[Finding]:
    """Return all findings, the worst first; those of listeners that share a mistake are one, with all their evidence.

    Args:
        registry: the router's table; None if it is not known.
        max_body_bytes: the largest body that the router takes.
        secure_serving: whether the router is said to serve TLS.
    """
    found = [
        *checks_routes.check(gateway),
        *checks_policies.check(gateway),
        *checks_bypass.check(gateway),
        *checks_filter.check(gateway),
        *checks_limits.check(gateway, max_body_bytes),
        *checks_cluster.check(gateway, secure_serving=secure_serving),
        *checks_stats.check(gateway),
    ]
    if registry is not None:
        found += checks_models.check(gateway, registry)
    merged: dict[tuple[str, str], Finding] = {}
    for each in found:
        before = merged.setdefault((each.id, each.sentence), each)
        if before is not each:
            where = before.where if each.where in before.where.split("; ") else f"{before.where}; {each.where}"
            evidence = tuple(dict.fromkeys((*before.evidence, *each.evidence)))
            merged[each.id, each.sentence] = before._replace(where=where, evidence=evidence)
    order = list(Severity)
    return sorted(merged.values(), key=lambda each: order.index(each.severity))
