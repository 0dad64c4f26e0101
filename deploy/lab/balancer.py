"""A stand-in for a cloud's load balancers: gives each Service of that type an address, which kube-proxy takes."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from deploy.lab.names import SERVICE_PREFIX

# The balancer of 10.96.x.y is 10.97.x.y: one each, without a record of which are taken.
PREFIX: Final = "10.97."


def address(service: Mapping[str, Any]) -> str:
    """Return the address of a Service's load balancer; "" if it has none."""
    own = str(service["spec"].get("clusterIP") or "")
    if service["spec"].get("type") != "LoadBalancer" or not own.startswith(SERVICE_PREFIX):
        return ""
    return PREFIX + own.removeprefix(SERVICE_PREFIX)


def due(services: Iterable[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return for each Service whose status does not name its balancer yet: the status' path, and what to say there."""
    found = []
    for service in services:
        wanted = [{"ip": address(service), "ipMode": "VIP"}] if address(service) else []
        if wanted and service.get("status", {}).get("loadBalancer", {}).get("ingress") != wanted:
            meta = service["metadata"]
            path = f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}/status"
            found.append((path, {"status": {"loadBalancer": {"ingress": wanted}}}))
    return found
