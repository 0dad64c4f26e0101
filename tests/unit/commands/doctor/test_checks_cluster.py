import copy

import pytest

from bbr.commands.doctor import checks_cluster
from tests.support.doctor import EXT_PROC, HTTP_OPTIONS, bbr, cluster, demo, hcm, per_route, routes, saved

CONFIG = demo()


def found(edit=lambda _: None, *, secure=False, **others):
    config = copy.deepcopy(CONFIG)
    edit(config)
    return {each.id: each for each in checks_cluster.check(saved(config, **others), secure_serving=secure)}


def status(*hosts):
    return {"cluster_statuses": [{"name": "bbr", **({"host_statuses": list(hosts)} if hosts else {})}]}


def host(health=None, **counts):
    return {
        "address": {"socket_address": {"address": "10.0.0.1", "port_value": 9004}},
        "health_status": health or {"eds_health_status": "HEALTHY"},
        "stats": [{"name": name, "value": str(value)} for name, value in counts.items()],
    }


def stats(**counts):
    return {"stats": [{"name": f"cluster.bbr.ssl.{name}", "value": value} for name, value in counts.items()]}


def secure(config):
    cluster(config)["transport_socket"] = {"name": "tls"}


def protocol(**options):
    def edit(config):
        cluster(config)["typed_extension_protocol_options"] = {HTTP_OPTIONS: options}

    return edit


def old_http2(config):
    del cluster(config)["typed_extension_protocol_options"]
    cluster(config)["http2_protocol_options"] = {}


def google(config):
    bbr(config)["grpc_service"] = {"google_grpc": {"target_uri": "x:1"}}


def another_on_a_route(config):
    overrides = {"grpc_service": {"envoy_grpc": {"cluster_name": "nobody"}}}
    per_route(routes(config)[0], {"@type": f"{EXT_PROC}.ExtProcPerRoute", "overrides": overrides})


@pytest.mark.parametrize(
    ("ids", "edit"),
    [
        ("", lambda _: None),
        ("cluster-missing", lambda config: config["static_resources"].update(clusters=[])),
        ("cluster-missing", another_on_a_route),
        ("google-grpc", google),
        ("cluster-not-http2", protocol(explicit_http_config={"http_protocol_options": {}})),
        ("cluster-not-http2", lambda config: cluster(config).pop("typed_extension_protocol_options")),
        ("", protocol(auto_config={})),
        ("", protocol(use_downstream_protocol_config={"http2_protocol_options": {}})),
        ("", old_http2),
        ("circuit-breaker-default", lambda config: cluster(config).pop("circuit_breakers")),
        ("circuit-breaker-default", lambda config: cluster(config, "epp-phi").pop("circuit_breakers")),
        ("", lambda config: cluster(config, "model_servers").pop("circuit_breakers")),
        ("", lambda config: hcm(config).update(http_filters=[])),
    ],
)
def test_clusters(ids, edit):
    assert set(found(edit)) == set(ids.split())


def test_plaintext():
    assert set(found(secure=True)) == {"cluster-plaintext"}
    assert found(secure, secure=True) == {}
    assert found(lambda config: cluster(config).update(transport_socket_matches=[]), secure=True) == {}


@pytest.mark.parametrize(
    ("ids", "hosts"),
    [
        ("no-endpoints", []),
        ("", [host()]),
        ("", [host({}), host({"eds_health_status": "UNKNOWN"})]),
        ("endpoints-unhealthy", [host({"failed_active_health_check": True, "eds_health_status": "HEALTHY"})]),
        ("endpoints-unhealthy", [host({"eds_health_status": "DRAINING"}), host({"failed_outlier_check": True})]),
        ("endpoint-unhealthy", [host(), host({"eds_health_status": "UNHEALTHY"})]),
        ("endpoint-unreachable", [host(), host(cx_total=3, cx_connect_fail=3)]),
        ("", [host(cx_total=3, cx_connect_fail=2)]),
        ("tls-mismatch", [host(cx_total=9, rq_error=12, rq_total=12)]),
        ("", [host(cx_total=9, rq_error=11, rq_total=12)]),
        ("", [host(rq_error=12, rq_total=12)]),
    ],
)
def test_endpoints(ids, hosts):
    assert set(found(clusters=status(*hosts))) == set(ids.split())


def test_endpoints_are_not_judged_without_the_answer_of_clusters():
    assert found(clusters=None) == {}


def test_failing_requests_over_http1_are_no_sign_of_tls():
    hosts = status(host(cx_total=9, rq_error=12, rq_total=12))
    edit = protocol(explicit_http_config={"http_protocol_options": {}})
    assert set(found(edit, clusters=hosts)) == {"cluster-not-http2"}


@pytest.mark.parametrize(
    ("ids", "edit", "counts"),
    [
        ("certificate-refused", secure, {"fail_verify_error": 2}),
        ("", secure, {"fail_verify_error": 2, "handshake": 1}),
        ("tls-mismatch", secure, {"connection_error": 2}),
        ("", secure, {"connection_error": 2, "handshake": 1}),
        ("", lambda _: None, {"connection_error": 2}),
    ],
)
def test_handshakes(ids, edit, counts):
    assert set(found(edit, stats=stats(**counts))) == set(ids.split())


def test_an_address_stands_in_the_evidence():
    sick = found(clusters=status(host({"failed_active_health_check": True})))["endpoints-unhealthy"]
    assert [(each.value, each.note) for each in sick.evidence] == [(True, "10.0.0.1:9004")]
