"""What the chart's objects amount to in Envoy, in a real one: the local stack's, with filter and cluster of each.

Istio takes the filter as it is written. Envoy Gateway and kgateway make one of their own fields, off at the top and on
by route or by virtual host; what is made of them here is a reading of their documentation.
"""

import copy
import functools
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bbr.commands.doctor.finding import Severity
from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, TABLE, Router
from bench.harness.ports import REFUSING_PORT
from bench.harness.recording import Upstreams
from deploy.local import stack as local
from deploy.local.stack import Stack
from deploy.render import helm
from tests.support import doctor
from tests.support.stack import running
from tests.support.tools import needs, needs_envoy

pytestmark = [*needs_envoy, needs("helm")]

Config = dict[str, Any]
Edit = Callable[[Config], object]

JSON = ("content-type", "application/json")
PATH = "/v1/chat/completions"


@functools.cache
def spec(provider: str, kind: str) -> Config:
    """Return the `spec` of the one object of a kind that is the router's."""
    text = helm.render("helm", [dict(helm.cases())["two-models"]], {"provider.name": provider})
    found: Config
    (found,) = (
        each["spec"]
        for each in helm.documents(text)
        if each["kind"] == kind and each["metadata"]["name"] == "body-based-router"
    )
    return found


def istio(config: Config) -> None:
    on_top, of_cluster = (each["patch"]["value"] for each in spec("istio", "EnvoyFilter")["configPatches"])
    policy = spec("istio", "DestinationRule")["trafficPolicy"]
    doctor.hcm(config)["http_filters"][0] = on_top
    cluster = doctor.cluster(config)
    cluster.update(of_cluster, name=on_top["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"])
    pool, outliers = policy["connectionPool"]["http"], policy["outlierDetection"]
    limits = {"max_requests": pool["http2MaxRequests"], "max_retries": pool["maxRetries"]}
    cluster["circuit_breakers"] = {
        "thresholds": [{**limits, "max_pending_requests": pool["http1MaxPendingRequests"]}],
    }
    cluster["outlier_detection"].update(
        consecutive_local_origin_failure=outliers["consecutiveLocalOriginFailures"], interval=outliers["interval"]
    )
    assert policy["tls"] == {"mode": "SIMPLE", "insecureSkipVerify": True}
    context = {"common_tls_context": {"alpn_protocols": ["h2"]}}
    tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    cluster["transport_socket"] = {"name": "tls", "typed_config": {"@type": tls, **context}}
    cluster["health_checks"][0]["tls_options"] = {"alpn_protocols": ["h2"]}


def off_on_top(config: Config, fail_open: bool, modes: Config, retries: int) -> None:
    """Turn the router's filter off, with what a gateway's own fields say."""
    filter_ = doctor.entry(config)
    filter_["disabled"] = True
    filter_["typed_config"].update(failure_mode_allow=fail_open, processing_mode=modes)
    doctor.bbr(config)["grpc_service"]["retry_policy"]["num_retries"] = retries


def by_route(config: Config) -> None:
    policy = spec("envoy-gateway", "EnvoyExtensionPolicy")["extProc"][0]
    assert policy["processingMode"] == {"request": {"body": "FullDuplexStreamed"}}  # and no response
    modes = {
        "request_header_mode": "SEND",
        "request_body_mode": "FULL_DUPLEX_STREAMED",
        "request_trailer_mode": "SEND",
        "response_header_mode": "SKIP",
        "response_trailer_mode": "SKIP",
    }
    off_on_top(config, policy["failOpen"], modes, policy["backendSettings"]["retry"]["numRetries"])
    for route in doctor.routes(config):
        doctor.per_route(route, doctor.ON)


def by_virtual_host(config: Config) -> None:
    extension = spec("kgateway", "GatewayExtension")["extProc"]
    modes = {
        name.replace("Mode", "_mode")
        .replace("Header", "_header")
        .replace("Body", "_body")
        .replace("Trailer", "_trailer"): mode
        for name, mode in extension["processingMode"].items()
    }
    off_on_top(config, extension["failOpen"], modes, extension["grpcService"]["retry"]["attempts"])
    doctor.per_route(doctor.host(config), doctor.ON)


def without_catch_all(edit: Edit) -> Edit:
    def edited(config: Config) -> None:
        edit(config)
        del doctor.routes(config)[2:]

    return edited


@dataclass
class Gateway:
    """An Envoy before the parts of a local stack.

    Attributes:
        port: where it listens.
        admin_url: of its admin interface.
        secure: whether the router has TLS.
    """

    port: int
    admin_url: str
    secure: bool

    def ask(self, model: str, size: int = 0, *headers: tuple[str, str]) -> tuple[int, str]:
        """Return the status, and the model that answered, or the code of an error."""
        body = json.dumps({"messages": [{"role": "user", "content": "x" * size}], "model": model}).encode()
        reply = http1.request(self.port, "POST", PATH, [JSON, *headers], body)
        answer = json.loads(reply.body or b"{}")
        return reply.status, answer.get("model") or answer.get("error", {}).get("code", "")

    def findings(self) -> list[str]:
        """Return the ids of what the doctor finds wrong."""
        found = doctor.found_in(self.admin_url, TABLE, secure_serving=self.secure)
        return [each.id for each in found if each.severity is not Severity.INFO]


@pytest.fixture(scope="module")
def plain_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@contextmanager
def another_envoy(stack: Stack, edit: Edit) -> Iterator[Gateway]:
    """Run a second Envoy before a stack's parts, by an edited configuration."""
    config = yaml.safe_load(local.render(stack.ports))
    edit(config)
    for part in (config["admin"], config["static_resources"]["listeners"][0]):
        part["address"]["socket_address"]["port_value"] = 0
    with envoy.gateway(config) as running_envoy:
        yield Gateway(running_envoy.port, f"http://127.0.0.1:{running_envoy.admin}", secure=False)


@contextmanager
def secure_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Edit) -> Iterator[Gateway]:
    """Run a stack whose router has TLS, with an edited configuration of its own Envoy."""
    original = local.render

    def render(*arguments: Any) -> str:
        config = yaml.safe_load(original(*arguments))
        edit(config)
        return yaml.safe_dump(config)

    monkeypatch.setattr(local, "render", render)
    with running(tmp_path, router_args=["--secure-serving"]) as stack:
        yield Gateway(stack.ports["gateway"], stack.admin_url, secure=True)


def assert_requests_reach_their_models(gateway: Gateway) -> None:
    for model in (QWEN, PHI, "sql-lora"):
        assert gateway.ask(model) == (200, model)
    assert gateway.ask(PHI, 3 << 20) == (200, PHI)
    assert gateway.ask(QWEN, 0, ("x-gateway-base-model-name", PHI)) == (200, QWEN)
    assert gateway.ask("nobody") == (404, "model_not_found")
    assert gateway.ask("nobody", 0, ("x-gateway-base-model-name", PHI)) == (404, "model_not_found")
    assert gateway.findings() == []


def test_requests_reach_their_models_on_istio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with secure_stack(tmp_path, monkeypatch, istio) as gateway:
        assert_requests_reach_their_models(gateway)


@pytest.mark.parametrize("edit", [by_route, by_virtual_host], ids=["envoy-gateway", "kgateway"])
def test_requests_reach_their_models(plain_stack: Stack, edit: Edit) -> None:
    with another_envoy(plain_stack, edit) as gateway:
        assert_requests_reach_their_models(gateway)


@pytest.mark.parametrize("edit", [by_route, by_virtual_host], ids=["envoy-gateway", "kgateway"])
def test_without_the_catch_all_the_router_is_never_called(plain_stack: Stack, edit: Edit) -> None:
    with another_envoy(plain_stack, without_catch_all(edit)) as gateway:
        assert gateway.ask(QWEN) == (404, "")
        assert "catch-all-missing" in gateway.findings()


def with_a_host(edit: Edit, *kept: str) -> Edit:
    """Put routes for one host beside those for every host: copies of some, as a gateway makes them of `hostnames`."""

    def edited(config: Config) -> None:
        every = doctor.host(config)
        named = copy.deepcopy(every)
        named.update(name="named", domains=["llm.example.com"])
        named["routes"] = [route for route in named["routes"] if route["name"] in kept]
        for hosts in ([named], [every, named]):  # what is edited is the first one
            doctor.hcm(config)["route_config"]["virtual_hosts"] = hosts
            edit(config)

    return edited


HOST = ("host", "llm.example.com")


@pytest.mark.parametrize("edit", [by_route, by_virtual_host], ids=["envoy-gateway", "kgateway"])
def test_a_request_for_a_host_that_a_route_names_meets_the_routes_for_that_host_alone(
    plain_stack: Stack, edit: Edit
) -> None:
    with another_envoy(plain_stack, with_a_host(edit, "qwen-pool", "no-model")) as gateway:
        assert gateway.ask(QWEN, 0, HOST) == (200, QWEN)
        assert gateway.ask(PHI, 0, HOST) == (404, "model_required")
        assert gateway.ask(PHI) == (200, PHI)
    # So the chart makes a catch-all for each host: without one the router is never called.
    with another_envoy(plain_stack, with_a_host(edit, "qwen-pool")) as gateway:
        assert gateway.ask(QWEN, 0, HOST) == (404, "")
        assert gateway.ask(QWEN) == (200, QWEN)
        assert "catch-all-missing" in gateway.findings()


def test_requests_leave_a_router_that_hangs(request: pytest.FixtureRequest, background: Background) -> None:
    """Nobody accepts on its port: connections are made, and no answer comes. Without a keepalive nothing would end.

    The times are shorter than the chart's; the field is the one that it sets for Istio.
    """
    pools, router = Upstreams(background), Router(background)
    request.addfinalizer(router.stop)
    request.addfinalizer(pools.stop)
    pools.start("default", QWEN, PHI)
    _, of_cluster = (each["patch"]["value"] for each in spec("istio", "EnvoyFilter")["configPatches"])
    config = envoy.configuration([envoy.router_filter()], router.port, pools.ports)
    doctor.cluster(config).update(copy.deepcopy(of_cluster))
    options = doctor.cluster(config)["typed_extension_protocol_options"][doctor.HTTP_OPTIONS]
    keepalive = options["explicit_http_config"]["http2_protocol_options"]["connection_keepalive"]
    assert keepalive == {"interval": "5s", "timeout": "5s"}
    keepalive.update(interval="0.2s", timeout="2s")
    body = json.dumps({"model": QWEN}).encode()
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        endpoints(config, router.port, hanging.getsockname()[1])
        with envoy.gateway(config) as running_envoy:
            for _ in range(2):
                assert http1.request(running_envoy.port, "POST", PATH, [JSON], body).status == 200
            assert running_envoy.stats("cluster.bbr.http2.keepalive_timeout")["cluster.bbr.http2.keepalive_timeout"] > 0


def endpoints(config: Config, *ports: int) -> None:
    """Let the router's cluster have these."""
    doctor.cluster(config)["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}} for port in ports
    ]


def without_retries(config: Config, live: int) -> None:
    """Give the router's filter and its cluster what kgateway makes of the chart's policy, and a replica that is dead.

    Active health checks are left out, since Envoy asks a cluster that had no request only once a minute. What outlier
    detection has found is forgotten after a second, for more than one round of it.
    """
    policy = spec("kgateway", "BackendConfigPolicy")
    outliers, balancing = policy["outlierDetection"], policy["loadBalancer"]
    del doctor.bbr(config)["grpc_service"]["retry_policy"]["retry_on"]
    cluster = doctor.cluster(config)
    cluster["outlier_detection"] = {
        "consecutive_5xx": outliers["consecutive5xx"],
        "max_ejection_percent": outliers["maxEjectionPercent"],
        "interval": "0.1s",
        "base_ejection_time": "1s",
    }
    cluster["common_lb_config"] = {
        "update_merge_window": balancing["updateMergeWindow"],
        "healthy_panic_threshold": {"value": balancing["healthyPanicThreshold"]},
    }
    endpoints(config, live, REFUSING_PORT)


def test_on_kgateway_a_dead_router_costs_a_few_requests_each_time_that_it_is_tried(
    request: pytest.FixtureRequest, background: Background
) -> None:
    """Three until it is left out, and what is on its way. Envoy's default would hold that change back for a second."""
    pools, router = Upstreams(background), Router(background)
    request.addfinalizer(router.stop)
    request.addfinalizer(pools.stop)
    pools.start("default", QWEN, PHI)
    config = envoy.configuration([envoy.router_filter()], router.port, pools.ports)
    without_retries(config, router.port)
    body = json.dumps({"model": QWEN}).encode()
    failed = left_out = 0
    with envoy.gateway(config) as running_envoy:
        while left_out < 3:
            reply = http1.request(running_envoy.port, "POST", PATH, [JSON], body)
            assert reply.status in (200, 500)
            failed += reply.status == 500
            (left_out,) = running_envoy.stats("cluster.bbr.outlier_detection.ejections_enforced_total").values()
    assert 3 * left_out <= failed <= 5 * left_out
