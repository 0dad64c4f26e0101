"""The core lab's gateway: a real Envoy as a Deployment, with the filters of the local stack's configuration.

No controller writes this one (the others of GATEWAY do): it is there to bring the router, the pickers and the model
servers together by what Envoy itself does.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import yaml

from deploy.lab.network import DOMAIN
from deploy.lab.setting import RESTRICTED
from deploy.local.gateway import TEMPLATE

PORT: Final = 8080
ADMIN_PORT: Final = 9901
NAME: Final = "gateway"

_TLS: Final = {
    "name": "envoy.transport_sockets.tls",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {"alpn_protocols": ["h2"]},
    },
}


def configuration(
    namespace: str, pickers: Sequence[tuple[str, str]], body_mode: str = "FULL_DUPLEX_STREAMED"
) -> dict[str, Any]:
    """Return Envoy's configuration.

    Args:
        namespace: of the router and the pickers.
        pickers: base model and picker's Service, for each pool.
        body_mode: of the router's filter.
    """
    config: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text("utf-8"))
    _listen(config["admin"]["address"], ADMIN_PORT)
    resources = config["static_resources"]
    listener = resources["listeners"][0]
    _listen(listener["address"], PORT)
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    router, picker = (next(each for each in manager["http_filters"] if each["name"] == name) for name in ("bbr", "epp"))
    router["typed_config"]["processing_mode"]["request_body_mode"] = body_mode
    picker["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"] = pickers[0][1]
    if body_mode == "BUFFERED":
        listener["per_connection_buffer_limit_bytes"] = 64 << 20
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    pool, rest = routes[0], routes[2:]
    manager["route_config"]["virtual_hosts"][0]["routes"] = [*(_route(pool, *each) for each in pickers), *rest]
    clusters = {cluster["name"]: cluster for cluster in resources["clusters"]}
    resources["clusters"] = [
        _service(clusters["bbr"], "bbr", f"router-endpoints.{namespace}.svc.{DOMAIN}", 9004),
        *(_service(clusters["epp-qwen"], name, f"{name}.{namespace}.svc.{DOMAIN}", 9002) for _, name in pickers),
        clusters["model_servers"],
    ]
    return config


def documents(namespace: str, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects of the gateway, and the headless Service by which it finds each router."""
    text = yaml.safe_dump(config, sort_keys=False)
    labels = {"app": NAME}
    container = {
        "name": "envoy",
        "image": "lab/envoy:1",
        "args": ["--config-path", "/etc/envoy/envoy.yaml", "--disable-hot-restart", "--concurrency", "1"],
        "ports": [{"name": "http", "containerPort": PORT}, {"name": "admin", "containerPort": ADMIN_PORT}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": ADMIN_PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/envoy"}],
        "securityContext": RESTRICTED,
    }
    pod = {"containers": [container], "volumes": [{"name": "config", "configMap": {"name": NAME}}]}
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    template = {"metadata": {"labels": labels, "annotations": {"config": digest}}, "spec": pod}
    where = {"name": NAME, "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": where, "data": {"envoy.yaml": text}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": where,
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": where,
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "router-endpoints", "namespace": namespace},
            "spec": {
                "clusterIP": "None",
                "selector": {"app": "body-based-router"},
                "ports": [{"name": "ext-proc", "port": 9004}],
            },
        },
    ]


def _route(pool: dict[str, Any], base_model: str, picker: str) -> dict[str, Any]:
    route: dict[str, Any] = yaml.safe_load(yaml.safe_dump(pool))  # a copy, its anchors resolved
    route["name"] = picker
    route["match"]["headers"][0]["string_match"]["exact"] = base_model
    override = route["typed_per_filter_config"]["epp"]["overrides"]
    override["grpc_service"]["envoy_grpc"]["cluster_name"] = picker
    return route


def _service(cluster: dict[str, Any], name: str, host: str, port: int) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(yaml.safe_dump(cluster))
    found |= {"name": name, "type": "STRICT_DNS", "dns_refresh_rate": "1s", "transport_socket": _TLS}
    found["load_assignment"]["cluster_name"] = name
    endpoint = found["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    endpoint["address"]["socket_address"] = {"address": host, "port_value": port}
    if "health_checks" in found:
        # The router's health is on its own port, in plaintext, beside ext_proc in TLS.
        endpoint["health_check_config"] = {"port_value": 9005}
        found["transport_socket_matches"] = [
            {"name": "health", "match": {"health": True}, "transport_socket": _plaintext()}
        ]
        for check in found["health_checks"]:
            check["transport_socket_match_criteria"] = {"health": True}
    return found


def _plaintext() -> dict[str, Any]:
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
    return {"name": "envoy.transport_sockets.raw_buffer", "typed_config": {"@type": kind}}


def _listen(address: dict[str, Any], port: int) -> None:
    address["socket_address"] = {"address": "0.0.0.0", "port_value": port}
