"""The way from the gateway to the router: its cluster, the endpoints, TLS.

Pure: a gateway in, findings out.
"""

from collections.abc import Iterator

from bbr.commands.doctor import checks_limits
from bbr.commands.doctor.finding import Finding, finding
from bbr.commands.doctor.gateway import Cluster, Gateway
from bbr.commands.doctor.node import Evidence, Node


def check(gateway: Gateway, *, secure_serving: bool) -> Iterator[Finding]:
    """Yield what is wrong with the cluster of each router's filter.

    Args:
        secure_serving: whether the router is said to serve TLS.
    """
    for name, place, label in _wanted(gateway):
        cluster = gateway.clusters.get(name)
        if cluster is None:
            sentence = f"The filter calls the cluster {name}, which does not exist (yet)."
            fix = "create it; in Kubernetes, see whether the Service of the router exists"
            yield finding("cluster-missing", label, sentence, [place.evidence()], fix)
            continue
        yield from _protocol(cluster, secure_serving)
        yield from _endpoints(cluster)
        yield from _connections(cluster, gateway.cluster_stats(cluster))
        yield from checks_limits.check_cluster(cluster)
    for name in sorted(_pickers(gateway) - {name for name, _, _ in _wanted(gateway)}):
        if cluster := gateway.clusters.get(name):
            yield from checks_limits.check_cluster(cluster)
    for manager in gateway.managers:
        google = manager.router.config.get("grpc_service", "google_grpc") if manager.router else None
        if google:
            sentence = "The filter uses google_grpc, so retries, limits and endpoints can't be checked."
            fix = "grpc_service: {envoy_grpc: {cluster_name: bbr}}"
            yield finding("google-grpc", manager.label, sentence, [google.get("target_uri").evidence()], fix)


def _wanted(gateway: Gateway) -> Iterator[tuple[str, Node, str]]:
    seen = set()
    for manager in gateway.managers:
        if manager.router is None:
            continue
        for route in (None, *manager.routes):
            place = manager.router.overridden(route, "grpc_service", "envoy_grpc", "cluster_name")
            if place.text and place.text not in seen:
                seen.add(place.text)
                yield place.text, place, manager.label


def _pickers(gateway: Gateway) -> set[str]:
    """Return the clusters that the endpoint pickers of model routes are called by."""
    keys = ("grpc_service", "envoy_grpc", "cluster_name")
    return {
        picker.overridden(route, *keys).text
        for manager in gateway.managers
        for picker in manager.filters
        if picker is not manager.router and manager.is_picker(picker)
        for route in manager.model_routes
        if picker.calls(route)
    }


def _protocol(cluster: Cluster, secure_serving: bool) -> Iterator[Finding]:
    explicit = cluster.http_options.get("explicit_http_config")
    others = [cluster.http_options.get(key) for key in ("auto_config", "use_downstream_protocol_config")]
    if not explicit.get("http2_protocol_options") and not any((*others, cluster.node.get("http2_protocol_options"))):
        yield finding(
            "cluster-not-http2",
            f"cluster {cluster.name}",
            "Envoy speaks HTTP/1.1 to this cluster, but the router speaks only HTTP/2: every request is a 500. In "
            "Kubernetes, the Service's port has no appProtocol.",
            [explicit.get("http2_protocol_options").evidence("HTTP/1.1")],
            "explicit_http_config: {http2_protocol_options: {}}   # of the cluster's HttpProtocolOptions\n"
            "appProtocol: kubernetes.io/h2c                       # of the Service's port; on GKE, HTTP2",
        )
    if secure_serving and not cluster.node.get("transport_socket") and not cluster.node.get("transport_socket_matches"):
        yield finding(
            "cluster-plaintext",
            f"cluster {cluster.name}",
            "The gateway speaks plaintext to the router, which serves TLS by default.",
            [cluster.node.get("transport_socket").evidence("plaintext")],
            "--secure-serving=false   # of `bbr serve`; if the router has it, give it to `bbr doctor` too",
        )


def _endpoints(cluster: Cluster) -> Iterator[Finding]:
    where = f"cluster {cluster.name}"
    if not cluster.status:
        return
    hosts = list(cluster.status.each("host_statuses"))
    if not hosts:
        sentence = "There is no endpoint: every request is a 500 (no_healthy_upstream)."
        evidence = [cluster.status.get("host_statuses").evidence("none")]
        fix = "start a router; in Kubernetes, see whether its pods are ready and the Service selects them"
        yield finding("no-endpoints", where, sentence, evidence, fix)
        return
    sick = [why for host in hosts if (why := _sickness(host))]
    fix = "see the routers' logs, and what their health checks on --grpc-health-port say"
    if len(sick) == len(hosts):
        sentence = f"None of {len(hosts)} endpoints is healthy."
        yield finding("endpoints-unhealthy", where, sentence, sick, fix)
    elif sick:
        sentence = f"{len(sick)} of {len(hosts)} endpoints are not healthy."
        yield finding("endpoint-unhealthy", where, sentence, sick, fix)


def _sickness(host: Node) -> Evidence | None:
    health = host.get("health_status")
    flags = (
        "failed_active_health_check",
        "failed_outlier_check",
        "failed_active_degraded_check",
        "excluded_via_immediate_hc_fail",
    )
    for flag in flags:
        if health.get(flag).is_true:
            return health.get(flag).evidence(_address(host))
    status = health.get("eds_health_status")
    return None if status.text in ("", "HEALTHY", "UNKNOWN") else status.evidence(_address(host))


def _address(host: Node) -> str:
    socket = host.get("address", "socket_address")
    return f"{socket.get('address').text}:{socket.get('port_value').number}"


def _connections(cluster: Cluster, stats: dict[str, tuple[str, int]]) -> Iterator[Finding]:
    """Tell what the connections of the past say: TLS on one side only leaves traces of its own kind."""
    where = f"cluster {cluster.name}"
    secure = cluster.node.get("transport_socket")
    shakes, refused, broken = (
        stats.get(f"ssl.{key}", ("", 0)) for key in ("handshake", "fail_verify_error", "connection_error")
    )
    if refused[1] and not shakes[1]:
        sentence = (
            "The gateway does not trust the router's certificate, which is self-signed unless --tls-cert gives one."
        )
        evidence = [Evidence("stats", *refused)]
        fix = "common_tls_context: {validation_context: {trusted_ca: ...}}   # the router's CA; or none, to trust all"
        yield finding("certificate-refused", where, sentence, evidence, fix)
        return
    if secure and broken[1] and not shakes[1]:
        sentence = "The gateway speaks TLS, and no handshake ever succeeded: the router seems to serve plaintext."
        evidence = [Evidence("stats", *broken), secure.get("name").evidence()]
        yield finding("tls-mismatch", where, sentence, evidence, "--secure-serving=true   # of `bbr serve`")
        return
    for host in cluster.status.each("host_statuses"):
        yield from _host(cluster, host)


def _host(cluster: Cluster, host: Node) -> Iterator[Finding]:
    counts = {each.get("name").text: each.get("value") for each in host.each("stats")}
    made, failed, errors, requests = (
        counts.get(key, Node("clusters", None)) for key in ("cx_total", "cx_connect_fail", "rq_error", "rq_total")
    )
    if failed.number and failed.number == made.number:
        sentence = f"No connection to {_address(host)} was ever made."
        fix = "see whether the router runs there, on the port that the cluster names (--grpc-port)"
        yield finding(
            "endpoint-unreachable", f"cluster {cluster.name}", sentence, [failed.evidence(), made.evidence()], fix
        )
    elif (
        not cluster.node.get("transport_socket")
        and made.number
        and errors.number
        and errors.number == requests.number
        and _speaks_http2(cluster)
    ):
        yield finding(
            "tls-mismatch",
            f"cluster {cluster.name}",
            f"Connections to {_address(host)} are made, but every request on them fails: the gateway speaks "
            "plaintext, and the router seems to serve TLS, its default.",
            [made.evidence(), errors.evidence(), requests.evidence()],
            "transport_socket:   # of the cluster\n"
            "  name: envoy.transport_sockets.tls\n"
            "  typed_config:\n"
            "    '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n"
            "# or --secure-serving=false of `bbr serve`",
        )


def _speaks_http2(cluster: Cluster) -> bool:
    explicit = cluster.http_options.get("explicit_http_config", "http2_protocol_options")
    return bool(explicit or cluster.node.get("http2_protocol_options"))
