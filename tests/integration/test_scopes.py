"""Through a real Envoy: one name is another model for each tenant, by host and by a header that the gateway sets."""

import json
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import h2.config
import h2.connection
import h2.events
import pytest

from bbr.config import policies
from bbr.config.options import scope
from bbr.config.settings import Settings
from bbr.models.entries import Alias, BaseModel, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.steps import finish
from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from bench.harness.recording import Upstreams
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
TENANT = "x-tenant"

TABLE, _ = finish(
    merging(
        [
            Declaration(Origin(), (BaseModel(PHI, ("sql-lora",)),)),
            Declaration(
                Origin(),
                (BaseModel(QWEN, ("sql-lora", "a-only")),),
                (Alias("gpt", "a-only"),),
                scope="team-a",
                hosts=("team-a.example.com",),
            ),
            Declaration(Origin(), (), (Alias("gpt", PHI),), scope="team-b", hosts=("*.example.com",)),
        ]
    )
)
FOR_ALL = {PHI, "sql-lora"}
FOR_A = {PHI, QWEN, "sql-lora", "a-only", "gpt"}
FOR_B = {PHI, "sql-lora", "gpt"}

MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]


def ask(port: int, model: str | None, host: str, *headers: tuple[str, str], target: str | None = None) -> http1.Reply:
    """Ask for a model, or without one for the list, from a host, as it is written."""
    body = b"" if model is None else json.dumps({"model": model}).encode()
    method, path = ("GET", "/v1/models") if model is None else ("POST", "/v1/chat/completions")
    lines = [f"{method} {target or path} HTTP/1.1", f"host: {host}", f"content-length: {len(body)}"]
    lines += ["content-type: application/json", *(f"{name}: {value}" for name, value in headers)]
    return http1.exchange(port, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def listed(reply: http1.Reply) -> set[str]:
    return {each["id"] for each in json.loads(reply.body)["data"]}


class Gateways(NamedTuple):
    """Ports of gateways of one router.

    Attributes:
        any_host: lets a client ask for any host.
        one_host: knows one host alone, as a listener with a hostname does.
        named: sets the header that names the tenant, whatever a client says.
    """

    any_host: int
    one_host: int
    named: int


def virtual_hosts(config: dict[str, Any], domain: str) -> None:
    """Let a gateway know one domain alone; ports do not count, as Gateway API has it."""
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["virtual_hosts"][0]["domains"] = [domain]
    manager["route_config"]["ignore_port_in_host_matching"] = True


@pytest.fixture(scope="module", params=MODES)
def gateways(request: pytest.FixtureRequest, background: Background, upstreams: Upstreams) -> Iterator[Gateways]:
    by_host = Router(background, TABLE, policies.policy(Settings(serve_models_list=60_000)))
    where = scope(f"header:{TENANT}")
    by_header = Router(background, TABLE, policies.policy(Settings(scope=where, serve_models_list=60_000)))
    own = envoy.router_filter(request.param)
    overwrite = {"header": {"key": TENANT, "value": "team-a"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    mutations = {"request_mutations": [{"append": overwrite}]}
    names = {
        "name": "tenant",
        "typed_config": {"@type": f"{FILTERS}.header_mutation.v3.HeaderMutation", "mutations": mutations},
    }
    one_host = envoy.configuration([own], by_host.port, upstreams.ports)
    virtual_hosts(one_host, "team-b.example.com")
    with (
        envoy.gateway(envoy.configuration([own], by_host.port, upstreams.ports)) as first,
        envoy.gateway(one_host) as second,
        envoy.gateway(envoy.configuration([names, own], by_header.port, upstreams.ports)) as third,
    ):
        yield Gateways(first.port, second.port, third.port)
    by_host.stop()
    by_header.stop()


@pytest.mark.parametrize(
    ("host", "pool", "models"),
    [
        ("team-a.example.com", QWEN, FOR_A),
        ("Team-A.EXAMPLE.com:8443", QWEN, FOR_A),
        ("team-a.example.com.", QWEN, FOR_A),
        ("team-b.example.com", PHI, FOR_B),
        ("x.team-a.example.com", PHI, FOR_B),
    ],
)
def test_one_name_is_another_model_for_each_host(gateways: Gateways, host: str, pool: str, models: set[str]) -> None:
    reply = ask(gateways.any_host, "gpt", host)
    assert (reply.status, reply.body.decode()) == (200, pool)
    assert listed(ask(gateways.any_host, None, host)) == models


def test_one_adapter_is_served_by_another_base_model_for_each_host(gateways: Gateways) -> None:
    for host, pool in (("team-a.example.com", QWEN), ("team-b.example.com", PHI), ("elsewhere.test", PHI)):
        assert ask(gateways.any_host, "sql-lora", host).body.decode() == pool


@pytest.mark.parametrize("model", [QWEN, "a-only"])
@pytest.mark.parametrize("host", ["team-b.example.com", "elsewhere.test"])
def test_what_a_host_may_not_see_does_not_exist_for_it(gateways: Gateways, host: str, model: str) -> None:
    reply = ask(gateways.any_host, model, host)
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (404, "model_not_found")


HOSTILE = [
    "example.com",
    "team-a.example.com.evil.test",
    "evilteam-a.example.com.test",
    "team-a.example.com..",
    "team-a%2eexample.com",
    "team-a.example.com%00",
    "team-a.example.com,elsewhere.test",
    "user@team-a.example.com",
    "team-a.example.com@elsewhere.test",
    "team-a.example.com:80:80",
    "team-a.example.com#",
    "team-a.example.com\\",
    "[team-a.example.com]",
    "team-\u0430.example.com",
    "team-a.example\u3002com",
    "*.example.com",
    "x" * 300 + ".example.com",
    "[::1]",
    "127.0.0.1",
]


@pytest.mark.parametrize("host", HOSTILE, ids=ascii)
def test_a_host_that_is_none_is_in_no_scope(gateways: Gateways, host: str) -> None:
    """Envoy refuses some of them; none gets more than what everyone may see."""
    reply = ask(gateways.any_host, "a-only", host)
    assert reply.status in (400, 404)
    found = ask(gateways.any_host, None, host)
    assert found.status == 400 or listed(found) == FOR_ALL


@pytest.mark.parametrize("name", ["x-forwarded-host", "forwarded", "x-original-host", "x-tenant", "host2"])
def test_no_other_field_tells_the_host(gateways: Gateways, name: str) -> None:
    for value in ("team-a.example.com", "host=team-a.example.com", "team-a"):
        assert ask(gateways.any_host, "a-only", "elsewhere.test", (name, value)).status == 404


def test_two_hosts(gateways: Gateways) -> None:
    """Whatever Envoy makes of them, the first does not get what is the second's, nor the other way round."""
    for one, other in (("elsewhere.test", "team-a.example.com"), ("team-a.example.com", "elsewhere.test")):
        assert ask(gateways.any_host, "a-only", one, ("host", other)).status in (400, 404)


def ask_over_http2(port: int, model: str, authority: str, host: str) -> tuple[int, str]:
    """Ask for a model over HTTP/2 with both fields that may tell the host; 0 if the gateway resets the stream."""
    config = h2.config.H2Configuration(validate_outbound_headers=False, header_encoding="utf-8")
    client = h2.connection.H2Connection(config)
    client.initiate_connection()
    pseudo = [(":method", "POST"), (":scheme", "http"), (":path", "/v1/chat/completions"), (":authority", authority)]
    client.send_headers(1, [*pseudo, ("host", host), ("content-type", "application/json")])
    client.send_data(1, json.dumps({"model": model}).encode(), end_stream=True)
    status, body = 0, b""
    with socket.create_connection(("127.0.0.1", port), http1.TIMEOUT_SECONDS) as connection:
        connection.sendall(client.data_to_send())
        while octets := connection.recv(1 << 16):
            for event in client.receive_data(octets):
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[":status"])
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)):
                    return status, body.decode()
            connection.sendall(client.data_to_send())
    return status, body.decode()


def test_over_http2_no_host_says_another_scope_than_the_authority(gateways: Gateways) -> None:
    """Routes go by :authority; whatever becomes of a Host beside it, none gets what is another scope's."""
    a, b, elsewhere = "team-a.example.com", "team-b.example.com", "elsewhere.test"
    assert ask_over_http2(gateways.any_host, "gpt", a, a) == (200, QWEN)
    assert ask_over_http2(gateways.any_host, "gpt", b, b) == (200, PHI)
    for authority in (b, elsewhere):
        status, body = ask_over_http2(gateways.any_host, "a-only", authority, a)
        assert (status in (0, 400, 404), body != QWEN) == (True, True)
    status, body = ask_over_http2(gateways.any_host, "gpt", a, b)
    assert body in (QWEN, "") or status in (400, 404)


def test_a_target_in_absolute_form_tells_the_host(gateways: Gateways) -> None:
    path = "/v1/chat/completions"
    reply = ask(gateways.any_host, "gpt", "team-b.example.com", target=f"http://team-a.example.com{path}")
    assert reply.body.decode() == QWEN
    reply = ask(gateways.any_host, "a-only", "team-a.example.com", target=f"http://team-b.example.com{path}")
    assert reply.status == 404


def test_a_listener_with_a_hostname_is_a_boundary(gateways: Gateways) -> None:
    assert ask(gateways.one_host, "gpt", "team-b.example.com:8080").body.decode() == PHI
    for host in ("team-a.example.com", "TEAM-A.example.com:1", "team-a.example.com.", "team-b.example.com, x"):
        reply = ask(gateways.one_host, "a-only", host)
        assert reply.status in (400, 404)
        assert reply.body.decode() != QWEN


@pytest.mark.parametrize("host", ["team-a.example.com", "team-b.example.com", "elsewhere.test"])
@pytest.mark.parametrize("said", [[], [(TENANT, "team-b")], [(TENANT, "team-b"), ("X-Tenant", "team-b")]])
def test_where_the_gateway_names_the_tenant_neither_host_nor_client_does(
    gateways: Gateways, host: str, said: list[tuple[str, str]]
) -> None:
    assert ask(gateways.named, "gpt", host, *said).body.decode() == QWEN
    assert listed(ask(gateways.named, None, host, *said)) == FOR_A
