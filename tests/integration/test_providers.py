"""What each gateway's objects amount to, in a real Envoy: the router, then an endpoint picker per pool.

agentgateway is no Envoy, so it is not here. GKE's proxies are Google's own: what is tried is an Envoy that is held to
their bound on a message back.
"""

import asyncio
import datetime
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from bbr.exchange.verdict import Outcome
from bbr.tls.pem import self_signed
from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.envoy import TYPES
from bench.harness.in_process_router import PHI, QWEN, Router
from bench.harness.ports import REFUSING_PORT
from bench.harness.recording import Upstreams
from tests.support.doctor import EXT_PROC, OFF, ON, cluster, hcm, host, per_route, routes
from tests.support.late import late
from tests.support.tools import needs_envoy

endpoint_picker = late("deploy.local.endpoint_picker")

pytestmark = needs_envoy

Config = dict[str, Any]

JSON = ("content-type", "application/json")
PATH = "/v1/chat/completions"
PODS = {QWEN: ("qwen-1", "qwen-2"), PHI: ("phi-1", "phi-2")}
PICKERS = {QWEN: "epp-qwen", PHI: "epp-phi"}

# "Config on this route, whatever it is": how Envoy Gateway turns a filter on that is off above.
ON_AS_IT_IS = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}
MODE = {
    "request_header_mode": "SEND",
    "request_body_mode": "FULL_DUPLEX_STREAMED",
    "request_trailer_mode": "SEND",
    "response_header_mode": "SKIP",
    "response_body_mode": "NONE",
    "response_trailer_mode": "SEND",
}
ENVOY_GATEWAY_BUFFER_BYTES = 32 << 10  # its connection buffer, unless a ClientTrafficPolicy says otherwise
# What Google's proxies take in one message from a callout.
GOOGLE_MESSAGE_BYTES = 64 << 10


class Picking:
    """The endpoint pickers, one per pool, which know their own pool's pods only."""

    def __init__(self, background: Background, upstreams: Upstreams) -> None:
        self._background = background
        self._servers: list[grpc.aio.Server] = []
        self.ports = {
            PICKERS[model]: background.run(self._start([f"127.0.0.1:{upstreams.ports[pod]}" for pod in pods]))
            for model, pods in PODS.items()
        }

    async def _start(self, endpoints: list[str]) -> int:
        server = endpoint_picker.build_server(endpoint_picker.Picker(endpoint_picker.Endpoints(endpoints)))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._servers.append(server)
        return int(port)

    def stop(self) -> None:
        for server in self._servers:
            self._background.run(asyncio.wait_for(server.stop(0), 90))


@dataclass
class Parts:
    """Everything behind the gateways."""

    routers: dict[bool, Router]  # by whether it serves TLS
    pods: Upstreams
    pickers: Picking

    def forget(self) -> None:
        self.pods.forget()
        for router in self.routers.values():
            router.verdicts()


@pytest.fixture(scope="module")
def parts(background: Background) -> Iterator[Parts]:
    pods = Upstreams(background)
    pods.start("default", *(pod for each in PODS.values() for pod in each))
    pickers = Picking(background, pods)
    credentials = self_signed(["localhost"], datetime.datetime.now(datetime.UTC))
    routers = {False: Router(background), True: Router(background, credentials=credentials)}
    yield Parts(routers, pods, pickers)
    for router in routers.values():
        router.stop()
    pickers.stop()
    pods.stop()


def chained(parts: Parts, *, tls: bool = False, body_mode: str = "FULL_DUPLEX_STREAMED", **bbr: Any) -> Config:
    """Return a gateway of two model routes without a catch-all: the router's filter, on for all, then the pickers'."""
    router = parts.routers[tls]
    # As Istio and kgateway have it: nobody's at the top, each pool's own on its route.
    nobody = {"request_header_mode": "SKIP", "response_header_mode": "SKIP"}
    epp = envoy.router_filter(processing_mode=nobody)
    epp["name"] = "epp"
    epp["typed_config"]["grpc_service"] = {"envoy_grpc": {"cluster_name": PICKERS[QWEN]}}
    ports = {**parts.pickers.ports, QWEN: 1, PHI: 1}
    config = envoy.configuration(
        [envoy.router_filter(body_mode, **bbr), epp], router.port, ports, http2_pools=PICKERS.values()
    )
    routes(config)[:] = [model_route(model) for model in PODS]
    clusters = config["static_resources"]["clusters"]
    clusters[:] = [each for each in clusters if each["name"] not in PODS]
    clusters.append(
        {
            "name": "pods",
            "type": "ORIGINAL_DST",
            "lb_policy": "CLUSTER_PROVIDED",
            "original_dst_lb_config": {
                "use_http_header": True,
                "http_header_name": "x-gateway-destination-endpoint",
            },
        }
    )
    if tls:
        context = {"@type": f"{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"}
        context["common_tls_context"] = {"alpn_protocols": ["h2"]}
        cluster(config)["transport_socket"] = {"name": "tls", "typed_config": context}
    return config


def model_route(model: str) -> Config:
    """Return an HTTPRoute on the base model whose backend is an InferencePool."""
    matched = {"name": envoy.BASE_MODEL_HEADER, "string_match": {"exact": model}}
    service = {"envoy_grpc": {"cluster_name": PICKERS[model]}}
    override = {"@type": f"{EXT_PROC}.ExtProcPerRoute", "overrides": {"grpc_service": service, "processing_mode": MODE}}
    return {
        "name": model,
        "match": {"prefix": "/", "headers": [matched]},
        "route": {"cluster": "pods", "timeout": "60s"},
        "typed_per_filter_config": {"epp": override},
    }


def off_at_the_top(config: Config) -> None:
    hcm(config)["http_filters"][0]["disabled"] = True


def catch_all(config: Config) -> None:
    """Append what a catch-all HTTPRoute with a direct response amounts to."""
    answer = {"status": 404, "body": {"inline_string": "no pool"}}
    routes(config).append({"name": "bbr-entry", "match": {"prefix": "/"}, "direct_response": answer})


def istio(parts: Parts) -> Config:
    """EnvoyFilter on the gateway's HCM, DestinationRule with TLS that verifies nothing."""
    return chained(parts, tls=True)


def envoy_gateway(parts: Parts) -> Config:
    """EnvoyExtensionPolicy on the Gateway, and a catch-all HTTPRoute."""
    config = chained(parts)
    catch_all(config)
    off_at_the_top(config)
    for route in routes(config):
        per_route(route, ON_AS_IT_IS)
    return config


def kgateway(parts: Parts) -> Config:
    """TrafficPolicy on the Gateway, and a catch-all HTTPRoute."""
    config = chained(parts)
    catch_all(config)
    off_at_the_top(config)
    per_route(host(config), ON)
    return config


def gke(parts: Parts) -> Config:
    """GCPRoutingExtension on the Gateway, whose proxies take no message above a bound."""
    config = chained(parts, tls=True)
    bounded(config, GOOGLE_MESSAGE_BYTES)
    return config


def bounded(config: Config, size: int) -> None:
    """Let the gateway end a stream in which the router sends a message above `size` bytes."""
    service = hcm(config)["http_filters"][0]["typed_config"]["grpc_service"]
    service["envoy_grpc"]["max_receive_message_length"] = size


PROVIDERS = [istio, envoy_gateway, kgateway, gke]


@dataclass
class Setup:
    """A provider's gateway, with all that is behind it."""

    gateway: envoy.Gateway
    parts: Parts

    def ask(self, body: bytes, *headers: tuple[str, str], path: str = PATH) -> http1.Reply:
        return http1.request(self.gateway.port, "POST", path, [JSON, *headers], body)

    def verdicts(self) -> list[Outcome]:
        return [verdict.outcome for router in self.parts.routers.values() for verdict in router.verdicts()]


@pytest.fixture(scope="module", params=PROVIDERS, ids=[each.__name__ for each in PROVIDERS])
def running(request: pytest.FixtureRequest, parts: Parts) -> Iterator[Setup]:
    with envoy.gateway(request.param(parts)) as gateway:
        yield Setup(gateway, parts)


@pytest.fixture
def setup(running: Setup) -> Setup:
    running.parts.forget()
    return running


def chat(model: str, size: int = 0, *, last: bool = False) -> bytes:
    messages = {"messages": [{"role": "user", "content": "x" * size}]}
    return json.dumps(messages | {"model": model} if last else {"model": model} | messages).encode()


@pytest.mark.parametrize("spoofed", [[], [("x-gateway-base-model-name", PHI)]], ids=["plain", "header says phi"])
@pytest.mark.parametrize(
    ("model", "base"), [(QWEN, QWEN), ("sql-lora", QWEN), (PHI, PHI)], ids=["qwen", "adapter of qwen", "phi"]
)
@pytest.mark.parametrize(("size", "last"), [(0, False), (3_000_000, False), (3_000_000, True)])
def test_model_gets_to_a_pod_of_its_pool(
    setup: Setup, model: str, base: str, size: int, last: bool, spoofed: list[tuple[str, str]]
) -> None:
    body = chat(model, size, last=last)
    reply = setup.ask(body, *spoofed)
    assert (reply.status, reply.body.decode() in PODS[base]) == (200, True)
    (got,) = setup.parts.pods.received
    assert (got.size, got.digest) == (len(body), hashlib.sha256(body).hexdigest())
    assert got.header("x-gateway-model-name") == [model]
    assert got.header("x-gateway-base-model-name") == [base]
    assert setup.verdicts() == [Outcome.ROUTED]


def test_each_pool_is_spread_over_its_own_pods(setup: Setup) -> None:
    for model, pods in PODS.items():
        assert {setup.ask(chat(model)).body.decode() for _ in range(4)} == set(pods)


def test_picked_endpoint_is_not_the_client_s_to_choose(setup: Setup) -> None:
    elsewhere = f"127.0.0.1:{setup.parts.pods.ports['phi-1']}"
    reply = setup.ask(chat(QWEN), ("x-gateway-destination-endpoint", elsewhere))
    assert reply.body.decode() in PODS[QWEN]


def test_unknown_model_is_the_router_s_404(setup: Setup) -> None:
    path = f"{PATH}?{uuid.uuid4()}"
    reply = setup.ask(chat("llama"), path=path)
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (404, "model_not_found")
    assert setup.gateway.logged(path)["details"] == "bbr:model-not-found"
    assert setup.parts.pods.received == []


def test_header_without_a_model_gets_nowhere(setup: Setup) -> None:
    path = f"{PATH}?{uuid.uuid4()}"
    assert setup.ask(b'{"messages": []}', ("x-gateway-base-model-name", PHI), path=path).status == 404
    assert setup.gateway.logged(path)["details"] in ("route_not_found", "direct_response")
    assert (setup.parts.pods.received, setup.verdicts()) == ([], [Outcome.NO_MODEL])


# -- what the guides warn of


def without_catch_all(build: Callable[[Parts], Config]) -> Callable[[Parts], Config]:
    def built(parts: Parts) -> Config:
        config = build(parts)
        routes(config).pop()
        return config

    return built


@pytest.mark.parametrize("build", [envoy_gateway, kgateway], ids=lambda build: build.__name__)
def test_without_a_catch_all_the_router_is_never_asked(parts: Parts, build: Callable[[Parts], Config]) -> None:
    parts.forget()
    with envoy.gateway(without_catch_all(build)(parts)) as gateway:
        setup = Setup(gateway, parts)
        path = f"{PATH}?{uuid.uuid4()}"
        assert setup.ask(chat(QWEN), path=path).status == 404
        assert gateway.logged(path)["details"] == "route_not_found"
    assert (setup.verdicts(), parts.pods.received) == ([], [])


def test_picker_enabled_on_model_routes_alone_is_skipped(parts: Parts) -> None:
    config = envoy_gateway(parts)
    hcm(config)["http_filters"][1]["disabled"] = True
    parts.forget()
    with envoy.gateway(config) as gateway:
        setup = Setup(gateway, parts)
        path = f"{PATH}?{uuid.uuid4()}"
        # The route is the right one, and nobody names a pod.
        assert setup.ask(chat(QWEN), path=path).status == 503
        line = gateway.logged(path)
    assert (line["route"], setup.verdicts(), parts.pods.received) == (QWEN, [Outcome.ROUTED], [])


def test_router_turned_off_on_the_catch_all_is_never_asked(parts: Parts) -> None:
    config = kgateway(parts)
    per_route(routes(config)[-1], OFF)
    parts.forget()
    with envoy.gateway(config) as gateway:
        setup = Setup(gateway, parts)
        assert setup.ask(chat(QWEN)).status == 404
    assert setup.verdicts() == []


@pytest.mark.parametrize(("size", "status"), [(20_000, 200), (60_000, 413)])
def test_buffered_body_above_envoy_gateway_s_buffer_is_refused(parts: Parts, size: int, status: int) -> None:
    config = envoy_gateway(parts)
    mode = {**MODE, "request_body_mode": "BUFFERED", "request_trailer_mode": "SKIP", "response_trailer_mode": "SKIP"}
    hcm(config)["http_filters"][0]["typed_config"]["processing_mode"] = mode
    config["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = ENVOY_GATEWAY_BUFFER_BYTES
    with envoy.gateway(config) as gateway:
        assert Setup(gateway, parts).ask(chat(PHI, size)).status == status


# How the router is away; the gateway's answers to a body of qwen's without a header, and with one that says phi.
AWAY = [
    ("FULL_DUPLEX_STREAMED", "not listening", 500, 500),
    ("FULL_DUPLEX_STREAMED", "no endpoints", 404, 200),
    ("BUFFERED", "not listening", 404, 200),
    ("BUFFERED", "no endpoints", 404, 200),
]


@pytest.mark.parametrize(("mode", "away", "plain", "spoofed"), AWAY, ids=[f"{each[0]}, {each[1]}" for each in AWAY])
def test_failing_open_lets_the_client_s_own_header_route(
    parts: Parts, mode: str, away: str, plain: int, spoofed: int
) -> None:
    config = chained(parts, body_mode=mode, failure_mode_allow=True)
    catch_all(config)
    (endpoints,) = cluster(config)["load_assignment"]["endpoints"]
    if away == "no endpoints":
        endpoints["lb_endpoints"].clear()
    else:
        endpoints["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["port_value"] = REFUSING_PORT
    parts.forget()
    with envoy.gateway(config) as gateway:
        setup = Setup(gateway, parts)
        assert setup.ask(chat(QWEN)).status == plain
        assert parts.pods.received == []
        assert setup.ask(chat(QWEN), ("x-gateway-base-model-name", PHI)).status == spoofed
    assert [got.pool in PODS[PHI] for got in parts.pods.received] == [True] * (spoofed == 200)


def test_bound_on_a_message_back_is_real(parts: Parts) -> None:
    config = gke(parts)
    bounded(config, 16 << 10)
    with envoy.gateway(config) as gateway:
        setup = Setup(gateway, parts)
        assert setup.ask(chat(QWEN)).status == 200
        assert setup.ask(chat(QWEN, 3_000_000)).status == 500
