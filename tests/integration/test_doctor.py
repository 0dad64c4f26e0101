"""`bbr doctor` against real Envoys: a good one, and one that is broken on purpose for each finding.

Where a finding says what becomes of requests, the same Envoy is sent some.
"""

import copy
import datetime
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bbr.commands.doctor import admin
from bbr.commands.doctor.finding import RULES, Severity
from bbr.models.entries import BaseModel
from bbr.tls.pem import self_signed
from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, TABLE, Router
from bench.harness.model_tables import merged
from bench.harness.ports import REFUSING_PORT
from bench.harness.recording import Upstreams
from deploy.local.topology import MODELS
from tests.support.doctor import (
    EXT_PROC,
    HTTP_OPTIONS,
    LIMIT,
    OFF,
    ON,
    OUT,
    Config,
    bad,
    bbr,
    cluster,
    demo,
    diagnose,
    endpoint,
    entry,
    hcm,
    host,
    mode,
    no_endpoints,
    per_route,
    routes,
)
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

Edit = Callable[[Config], object]

SELF_SIGNED, STRANGER = (self_signed([name], datetime.datetime.now(datetime.UTC)) for name in ("localhost", "stranger"))


def edit_mode(**fields: str) -> Edit:
    return lambda config: mode(config).update(fields)


def edit_bbr(**fields: Any) -> Edit:
    return lambda config: bbr(config).update(fields)


def without_picker(config: Config) -> None:
    del hcm(config)["http_filters"][1]
    for route in routes(config):
        route.pop("typed_per_filter_config", None)


def picker_by_route(config: Config) -> None:
    hcm(config)["http_filters"][1]["disabled"] = True
    for route in routes(config)[2:]:
        del route["typed_per_filter_config"]


def picker_out_of_the_last(config: Config) -> None:
    per_route(routes(config)[-1], OUT, "epp")


def picker_first(config: Config) -> None:
    filters = hcm(config)["http_filters"]
    filters[0], filters[1] = filters[1], filters[0]


def buffer_filter(config: Config) -> None:
    settings = {"@type": f"{envoy.TYPES}.filters.http.buffer.v3.Buffer", "max_request_bytes": 1 << 20}
    hcm(config)["http_filters"].insert(1, {"name": "buffer", "typed_config": settings})


def no_deadline(config: Config) -> None:
    hcm(config)["stream_idle_timeout"] = "0s"
    del cluster(config)["typed_extension_protocol_options"][HTTP_OPTIONS]["common_http_protocol_options"]


def bare_listener(config: Config) -> None:
    other = copy.deepcopy(config["static_resources"]["listeners"][0])
    other["name"] = "bare"
    config["static_resources"]["listeners"].append(other)
    manager = other["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = manager["http_filters"][-1:]
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        route.pop("typed_per_filter_config", None)


def no_filters(config: Config) -> None:
    without_picker(config)
    del hcm(config)["http_filters"][0]


def same_headers_nowhere(config: Config) -> None:
    del routes(config)[:3]


def unclear_names(config: Config) -> None:
    without_picker(config)
    other = copy.deepcopy(entry(config))
    entry(config).update(name="one")
    other.update(name="two")
    hcm(config)["http_filters"].insert(1, other)
    for each in hcm(config)["http_filters"][:2]:
        each["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"] = "epp-qwen"
    (picker,) = [each for each in config["static_resources"]["clusters"] if each["name"] == "epp-qwen"]
    picker["typed_extension_protocol_options"] = cluster(config)["typed_extension_protocol_options"]


def google(config: Config) -> None:
    bbr(config)["grpc_service"] = {"google_grpc": {"target_uri": "127.0.0.1:1", "stat_prefix": "x"}}


def over_http(config: Config) -> None:
    uri = {"uri": "http://x/", "cluster": "bbr", "timeout": "1s"}
    del bbr(config)["grpc_service"]
    bbr(config)["http_service"] = {"http_service": {"http_uri": uri}}
    bbr(config)["processing_mode"] = {"request_header_mode": "SEND", "response_header_mode": "SKIP"}


BUFFERED = "BUFFERED"
FORBIDDEN = {"regex": "x-gateway-.*"}

# What is broken -> how; each gives exactly this error or warning, unless more are named.
BROKEN: list[tuple[str, Edit]] = [
    ("router-not-found", no_filters),
    ("routes-without-router", bare_listener),
    ("no-header-routes", same_headers_nowhere),
    ("picker-skipped", picker_by_route),
    ("picker-skipped", picker_out_of_the_last),
    ("picker-before-router", picker_first),
    ("catch-all-first", lambda config: routes(config).insert(0, routes(config).pop())),
    ("spoofable-route", lambda config: per_route(routes(config)[0], OFF)),
    ("catch-all-without-router", lambda config: per_route(routes(config)[-1], OUT)),
    ("route-cache-pinned", edit_bbr(route_cache_action="RETAIN")),
    ("route-cache-pinned", edit_bbr(disable_clear_route_cache=True)),
    ("mutation-disallowed", edit_bbr(mutation_rules={"disallow_expression": FORBIDDEN})),
    ("mutation-disallowed", edit_bbr(mutation_rules={"disallow_all": True})),
    ("headers-not-sent", edit_mode(request_header_mode="SKIP")),
    ("body-not-sent", edit_mode(request_body_mode="NONE")),
    ("body-mode-unsuitable", edit_mode(request_body_mode="STREAMED")),
    ("body-mode-unsuitable", edit_mode(request_body_mode="GRPC")),
    ("response-events", edit_mode(response_header_mode="SEND", response_body_mode="BUFFERED")),
    ("response-events", edit_mode(response_header_mode="DEFAULT")),
    ("fails-open", edit_bbr(failure_mode_allow=True)),
    ("refusals-disabled", edit_bbr(disable_immediate_response=True)),
    ("observability-mode", edit_bbr(observability_mode=True)),
    ("headers-not-forwarded", edit_bbr(forward_rules={"disallowed_headers": {"patterns": [{"prefix": "content-"}]}})),
    ("no-retry-policy", lambda config: bbr(config)["grpc_service"].pop("retry_policy")),
    ("retries-capped", lambda config: cluster(config)["circuit_breakers"]["thresholds"][0].pop("max_retries")),
    ("no-stream-deadline", no_deadline),
    (
        "no-keepalive",
        lambda config: cluster(config)["typed_extension_protocol_options"][HTTP_OPTIONS]["explicit_http_config"].update(
            http2_protocol_options={}
        ),
    ),
    ("buffer-filter-below-body-limit", buffer_filter),
    (
        "circuit-breaker-default",
        lambda config: cluster(config)["circuit_breakers"]["thresholds"][0].pop("max_requests"),
    ),
    ("cluster-not-http2", lambda config: cluster(config).pop("typed_extension_protocol_options")),
    ("no-endpoints", no_endpoints),
    ("endpoints-unhealthy", lambda config: endpoint(config).update(health_status="UNHEALTHY")),
    ("endpoint-unhealthy", lambda config: endpoint(config, 1).update(health_status="DRAINING")),
    ("not-grpc body-not-sent", over_http),
]
BROKEN_BUFFERED: list[tuple[str, Edit]] = [
    ("trailers-not-sent", edit_mode(request_trailer_mode="SKIP")),
    ("body-mode-partial", edit_mode(request_body_mode="BUFFERED_PARTIAL")),
    ("message-timeout-short", lambda config: bbr(config).pop("message_timeout")),
    ("buffer-below-body-limit", lambda config: hcm(config).pop("http2_protocol_options")),
    (
        "buffer-below-body-limit",
        lambda config: config["static_resources"]["listeners"][0].pop("per_connection_buffer_limit_bytes"),
    ),
]
REMARKS: list[tuple[str, Edit]] = [
    ("no-catch-all", lambda config: routes(config).pop()),
    ("router-uncertain", unclear_names),
    ("google-grpc", google),
    ("expression-not-evaluated", edit_bbr(mutation_rules={"allow_expression": {"regex": "x-.*" + "|" * 1024}})),
]
CASES = [
    *(pytest.param("FULL_DUPLEX_STREAMED", *each, id=f"{index} {each[0]}") for index, each in enumerate(BROKEN)),
    *(pytest.param(BUFFERED, *each, id=f"BUFFERED {index} {each[0]}") for index, each in enumerate(BROKEN_BUFFERED)),
]


@pytest.mark.parametrize("body_mode", ["FULL_DUPLEX_STREAMED", BUFFERED])
def test_a_good_gateway(body_mode: str) -> None:
    with envoy.gateway(demo(body_mode)) as gateway:
        found = diagnose(gateway, TABLE)
    assert [each.id for each in found] == ["mode-override-off"] * (body_mode == BUFFERED)


@pytest.mark.parametrize(("body_mode", "ids", "edit"), CASES)
def test_a_broken_gateway(body_mode: str, ids: str, edit: Edit) -> None:
    config = demo(body_mode)
    edit(config)
    with envoy.gateway(config) as gateway:
        assert bad(diagnose(gateway)) == set(ids.split())


@pytest.mark.parametrize(("id_", "edit"), REMARKS)
def test_a_remark(id_: str, edit: Edit) -> None:
    config = demo()
    edit(config)
    with envoy.gateway(config) as gateway:
        found = diagnose(gateway)
    assert (bad(found), id_ in {each.id for each in found}) == (set(), True)


def test_plaintext_is_a_remark_unless_the_router_serves_it() -> None:
    with envoy.gateway(demo()) as gateway:
        assert [each.id for each in diagnose(gateway, secure_serving=True)] == ["cluster-plaintext"]


def test_routes_and_table_that_do_not_fit() -> None:
    table, _ = merged([BaseModel(QWEN), BaseModel("gemma")])
    with envoy.gateway(demo()) as gateway:
        found = {each.id: each for each in diagnose(gateway, table)}
    assert set(found) == {"route-unknown-model", "model-unrouted"}
    assert PHI in found["route-unknown-model"].sentence
    assert "gemma" in found["model-unrouted"].sentence


# -- what the gateways of others look like


def discovered(folder: Path, listener: Config, clusters: list[Config], table: Config) -> Config:
    """Return a bootstrap whose listener, clusters and routes come by discovery, from files."""

    def source(name: str, kind: str, resources: list[Config]) -> Config:
        typed = [{"@type": f"type.googleapis.com/envoy.config.{kind}", **each} for each in resources]
        path = folder / f"{name}.json"
        path.write_text(json.dumps({"resources": typed}))
        return {"path_config_source": {"path": str(path)}}

    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["route_config"]
    rds = source("rds", "route.v3.RouteConfiguration", [table])
    manager["rds"] = {"route_config_name": table["name"], "config_source": rds}
    return {
        "node": {"id": "gateway", "cluster": "gateways"},
        "admin": demo()["admin"],
        "dynamic_resources": {
            "lds_config": source("lds", "listener.v3.Listener", [listener]),
            "cds_config": source("cds", "cluster.v3.Cluster", clusters),
        },
    }


@pytest.mark.parametrize(
    ("ids", "edit"), [("", lambda _: None), ("body-not-sent", edit_mode(request_body_mode="NONE"))]
)
def test_a_gateway_that_is_configured_by_discovery(tmp_path: Path, ids: str, edit: Edit) -> None:
    config = demo()
    edit(config)
    static = config["static_resources"]
    table = hcm(config)["route_config"]
    with envoy.gateway(discovered(tmp_path, static["listeners"][0], static["clusters"], table)) as gateway:
        assert bad(diagnose(gateway, TABLE)) == set(ids.split())


def test_an_update_that_envoy_refused(tmp_path: Path) -> None:
    refused = demo()
    mode(refused)["request_trailer_mode"] = "SKIP"
    listener = {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "other"}
    listener.update((key, value) for key, value in refused["static_resources"]["listeners"][0].items() if key != "name")
    (tmp_path / "lds.json").write_text(json.dumps({"resources": [listener]}))
    config = demo()
    config["node"] = {"id": "gateway", "cluster": "gateways"}
    config["dynamic_resources"] = {"lds_config": {"path_config_source": {"path": str(tmp_path / "lds.json")}}}
    with envoy.gateway(config) as gateway:
        (found,) = (each for each in diagnose(gateway) if each.severity is not Severity.INFO)
    assert found.id == "config-rejected"
    assert "request_trailer_mode" in str(found.evidence[0].value)


# -- what the findings say becomes of requests, on the same Envoy


@pytest.fixture(scope="module")
def router(background: Background) -> Iterator[Router]:
    router = Router(background)
    yield router
    router.stop()


def plain(router: Router, upstreams: Upstreams) -> Config:
    """Return a good gateway without a picker, with servers behind it."""
    config = envoy.configuration([envoy.router_filter()], router.port, upstreams.ports)
    cluster(config)["circuit_breakers"]["thresholds"][0]["max_retries"] = 1024
    return config


def off_at_the_top(config: Config) -> None:
    entry(config)["disabled"] = True


def on_by_route(config: Config) -> None:
    off_at_the_top(config)
    for route in routes(config):
        per_route(route, ON)


def on_by_host(config: Config) -> None:
    off_at_the_top(config)
    per_route(host(config), ON)


def without_last(edit: Edit) -> Edit:
    def both(config: Config) -> None:
        edit(config)
        routes(config).pop()

    return both


def on_for_models_only(config: Config) -> None:
    off_at_the_top(config)
    for route in routes(config)[:-1]:
        per_route(route, ON)


def on_for_the_last_only(config: Config) -> None:
    off_at_the_top(config)
    per_route(routes(config)[-1], ON)


def host_off_last_on(setting: Config) -> Edit:
    def edit(config: Config) -> None:
        per_route(host(config), setting)
        per_route(routes(config)[-1], ON)

    return edit


def last_unread(config: Config) -> None:
    override = {"processing_mode": {"response_header_mode": "SKIP"}}
    per_route(routes(config)[-1], {"@type": f"{EXT_PROC}.ExtProcPerRoute", "overrides": override})


# findings; where a request for QWEN ends up; and one with PHI in its own header.
WAYS: list[tuple[str, str, str, Edit]] = [
    ("", QWEN, QWEN, lambda _: None),
    ("", QWEN, QWEN, on_by_route),  # Envoy Gateway
    ("", QWEN, QWEN, on_by_host),  # kgateway
    ("catch-all-missing", "404", QWEN, without_last(on_by_route)),
    ("catch-all-missing", "404", QWEN, without_last(on_by_host)),
    ("catch-all-without-router", "default", QWEN, on_for_models_only),
    ("catch-all-without-router", "default", QWEN, lambda config: per_route(routes(config)[-1], OFF)),
    ("catch-all-without-router", "default", QWEN, lambda config: per_route(routes(config)[-1], OUT)),
    ("spoofable-route", QWEN, PHI, on_for_the_last_only),
    ("spoofable-route", QWEN, PHI, host_off_last_on(OFF)),
    ("spoofable-route", QWEN, PHI, host_off_last_on(OUT)),
    ("catch-all-first", "default", "default", lambda config: routes(config).insert(0, routes(config).pop())),
    ("body-not-sent", "default", QWEN, last_unread),
    ("route-cache-pinned", "default", PHI, edit_bbr(route_cache_action="RETAIN")),
    ("mutation-disallowed", "default", PHI, edit_bbr(mutation_rules={"disallow_expression": FORBIDDEN})),
    ("observability-mode", "default", PHI, edit_bbr(observability_mode=True)),
    ("cluster-not-http2", "500", "500", lambda config: cluster(config).pop("typed_extension_protocol_options")),
    ("no-endpoints", "500", "500", no_endpoints),
]


@pytest.mark.parametrize(
    ("ids", "asked", "spoofed", "edit"), WAYS, ids=[f"{n} {each[0]}" for n, each in enumerate(WAYS)]
)
def test_what_becomes_of_requests(
    router: Router, upstreams: Upstreams, ids: str, asked: str, spoofed: str, edit: Edit
) -> None:
    config = plain(router, upstreams)
    edit(config)
    with envoy.gateway(config) as gateway:
        assert bad(diagnose(gateway)) == set(ids.split())
        assert send(gateway) == asked
        assert send(gateway, ("x-gateway-base-model-name", PHI)) == spoofed


def send(gateway: envoy.Gateway, *headers: tuple[str, str]) -> str:
    """Return the pool that a request for sql-lora got to, or the status."""
    fields = [("content-type", "application/json"), *headers]
    reply = http1.request(gateway.port, "POST", "/v1/completions", fields, b'{"model": "sql-lora"}')
    return reply.headers["x-pool"] if reply.status == 200 else str(reply.status)


def tls(config: Config, **context: Any) -> None:
    settings = {"@type": f"{envoy.TYPES}.transport_sockets.tls.v3.UpstreamTlsContext", **context}
    cluster(config)["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": settings}


def few_at_a_time(config: Config) -> None:
    cluster(config)["circuit_breakers"]["thresholds"][0]["max_requests"] = 1


def nobody_there(config: Config) -> None:
    endpoint(config)["endpoint"]["address"]["socket_address"]["port_value"] = REFUSING_PORT


def open_and_nobody_there(config: Config) -> None:
    nobody_there(config)
    edit_bbr(failure_mode_allow=True)(config)
    edit_mode(request_body_mode=BUFFERED)(config)
    tall(config)


def tall(config: Config) -> None:
    config["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = LIMIT
    hcm(config)["http2_protocol_options"] = {"initial_stream_window_size": LIMIT}


def untrusted(config: Config) -> None:
    trusted = {"trusted_ca": {"inline_string": STRANGER.chain_pem.decode()}}
    tls(config, common_tls_context={"validation_context": trusted})


TRACES: list[tuple[str, bool, Edit]] = [
    ("route-cache-pinned route-cache-kept", False, edit_bbr(route_cache_action="RETAIN")),
    ("mutation-disallowed mutations-rejected", False, edit_bbr(mutation_rules={"disallow_all": True})),
    ("refusals-disabled spurious-messages", False, edit_bbr(disable_immediate_response=True)),
    ("endpoint-unreachable streams-failed", False, nobody_there),
    ("fails-open endpoint-unreachable failed-open streams-failed", False, open_and_nobody_there),
    ("tls-mismatch streams-failed", False, tls),
    ("tls-mismatch streams-failed", True, lambda _: None),
    ("certificate-refused streams-failed", True, untrusted),
    ("", True, tls),
]


@pytest.mark.parametrize(("ids", "secure", "edit"), TRACES, ids=[f"{n} {each[0]}" for n, each in enumerate(TRACES)])
def test_what_requests_leave_behind(
    background: Background, router: Router, upstreams: Upstreams, ids: str, secure: bool, edit: Edit
) -> None:
    used = Router(background, credentials=SELF_SIGNED) if secure else router
    config = plain(used, upstreams)
    edit(config)
    with envoy.gateway(config) as gateway:
        for model in ("sql-lora", "nobody"):
            body = json.dumps({"model": model}).encode()
            http1.request(gateway.port, "POST", "/", [("content-type", "application/json")], body)
        assert bad(diagnose(gateway)) == set(ids.split())
    if secure:
        used.stop()


def test_more_requests_at_once_than_a_circuit_breaker_allows(router: Router, upstreams: Upstreams) -> None:
    config = plain(router, upstreams)
    few_at_a_time(config)
    with envoy.gateway(config) as gateway:
        asking = [threading.Thread(target=send, args=[gateway]) for _ in range(20)]
        half = http1.head("POST", "/", [("content-type", "application/json"), ("content-length", "20")]) + b"{"
        with socket.create_connection(("127.0.0.1", gateway.port)) as first:
            first.sendall(half)
            while not gateway.stats("cluster.bbr.upstream_rq_active").get("cluster.bbr.upstream_rq_active"):
                threading.Event().wait(0.01)
            for each in asking:
                each.start()
            for each in asking:
                each.join()
        assert bad(diagnose(gateway)) == {"circuit-breaker-default", "overflow", "streams-failed"}


def test_a_request_that_found_no_route(router: Router, upstreams: Upstreams) -> None:
    config = plain(router, upstreams)
    routes(config).pop()
    with envoy.gateway(config) as gateway:
        http1.request(gateway.port, "GET", "/", [])
        found = diagnose(gateway)
    assert [each.id for each in found] == ["no-catch-all", "unrouted-requests"]


def test_an_answer_that_came_too_late(upstreams: Upstreams) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = envoy.configuration(
            [envoy.router_filter(BUFFERED, message_timeout="0.1s")], silent.getsockname()[1], upstreams.ports
        )
        with envoy.gateway(config) as gateway:
            assert send(gateway) == "504"
            assert {"message-timeout-short", "message-timeouts"} <= bad(diagnose(gateway))


# -- the command


def test_the_command(tmp_path: Path) -> None:
    config = demo()
    edit_bbr(route_cache_action="RETAIN")(config)
    with envoy.gateway(config) as gateway:
        url = f"http://127.0.0.1:{gateway.admin}"
        asked = doctor("--envoy-admin", url, "--models", str(MODELS), "--json")
        for name, path in admin.PATHS.items():
            with urllib.request.urlopen(f"http://127.0.0.1:{gateway.admin}{path}", timeout=90) as reply:
                (tmp_path / f"{name}.json").write_bytes(reply.read())
    saved = doctor("--from", str(tmp_path), "--models", str(MODELS), "--json")
    assert (asked.returncode, saved.returncode) == (1, 1)
    assert json.loads(asked.stdout) == json.loads(saved.stdout)
    assert [each["id"] for each in json.loads(asked.stdout)["findings"]] == ["route-cache-pinned", "cluster-plaintext"]
    assert json.loads(asked.stdout)["envoy_version"].startswith("1.")
    alone = doctor("--from", str(tmp_path / "config_dump.json"))
    assert alone.returncode == 1
    assert "ERROR  route-cache-pinned  (listener gateway)\n" in alone.stdout


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BBR_")}
    command = [sys.executable, "-W", "error", "-m", "bbr", "doctor", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_every_finding_was_found() -> None:
    listed = [each[0] for each in (*BROKEN, *BROKEN_BUFFERED, *REMARKS, *WAYS, *TRACES)]
    elsewhere = "config-rejected route-unknown-model model-unrouted overflow unrouted-requests message-timeouts"
    elsewhere += " cluster-plaintext mode-override-off"
    # tests/integration/test_policies.py, tests/conformance/gateways.
    elsewhere += " policy-skipped policy-bypassed cors-preflight-fails mutations-uncertain model-route-broken"
    # A cluster that is missing can't be had from files, and scoped routes only by another kind of discovery.
    unit_tests = {"cluster-missing", "routes-not-seen"}
    assert set(RULES) - {*" ".join(listed).split(), *elsewhere.split()} == unit_tests
