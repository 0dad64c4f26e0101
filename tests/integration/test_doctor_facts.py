"""What `bbr doctor` says of time, size and trailers: a real Envoy does it. And a stack in use gives no finding."""

import gzip
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, TABLE, Router
from bench.harness.recording import Upstreams
from tests.support.doctor import HTTP_OPTIONS, LIMIT, Config, bad, bbr, cluster, diagnose, found_in, hcm, routes
from tests.support.h2_client import H2Client
from tests.support.stack import running
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

BUFFERED = "BUFFERED"
JSON = ("content-type", "application/json")
SPOOFED = ("x-gateway-base-model-name", PHI)
BODY = b'{"model": "sql-lora"}'
LARGE = json.dumps({"model": "sql-lora", "prompt": "x" * 200_000}).encode()


@pytest.fixture(scope="module")
def router(background: Background) -> Iterator[Router]:
    router = Router(background)
    yield router
    router.stop()


def plain(router: Router, upstreams: Upstreams, body_mode: str = "FULL_DUPLEX_STREAMED", **fields: Any) -> Config:
    filters = [envoy.router_filter(body_mode, **fields)]
    config = envoy.configuration(filters, router.port, upstreams.ports)
    cluster(config)["circuit_breakers"]["thresholds"][0]["max_retries"] = 1024
    config["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = LIMIT
    hcm(config)["http2_protocol_options"] = {"initial_stream_window_size": LIMIT, "allow_connect": True}
    bbr(config)["processing_mode"]["request_trailer_mode"] = "SEND"
    return config


@pytest.mark.parametrize(("mode", "passed"), [("SEND", []), ("SKIP", [SPOOFED])])
def test_routing_fields_in_trailers(
    router: Router, upstreams: Upstreams, mode: str, passed: list[tuple[str, str]]
) -> None:
    config = plain(router, upstreams, BUFFERED)
    bbr(config)["processing_mode"]["request_trailer_mode"] = mode
    options = cluster(config)["typed_extension_protocol_options"][HTTP_OPTIONS]
    http1 = {"@type": options["@type"], "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}}}
    cluster(config, QWEN)["typed_extension_protocol_options"] = {HTTP_OPTIONS: http1}
    upstreams.received.clear()
    with envoy.gateway(config) as gateway, H2Client(gateway.port) as client:
        assert client.request("POST", "/", [JSON], BODY, trailers=[SPOOFED]).status == 200
        assert bad(diagnose(gateway)) == ({"trailers-not-sent"} if passed else set())
    (got,) = upstreams.received
    assert (got.pool, got.trailers) == (QWEN, passed)


def post(gateway: envoy.Gateway, body: bytes, *headers: tuple[str, str]) -> int:
    return http1.request(gateway.port, "POST", "/", [JSON, *headers], body).status


def test_the_buffer_of_a_listener(router: Router, upstreams: Upstreams) -> None:
    status = {}
    for mode in (BUFFERED, "FULL_DUPLEX_STREAMED"):
        config = plain(router, upstreams, mode)
        config["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = 100_000
        with envoy.gateway(config) as gateway:
            status[mode] = post(gateway, LARGE), bad(diagnose(gateway))
    assert status == {BUFFERED: (413, {"buffer-below-body-limit"}), "FULL_DUPLEX_STREAMED": (200, set())}


def test_a_buffer_that_routes_raise(router: Router, upstreams: Upstreams) -> None:
    config = plain(router, upstreams, BUFFERED)
    config["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = 100_000
    routes(config)[-1]["request_body_buffer_limit"] = LIMIT
    with envoy.gateway(config) as gateway:
        assert (post(gateway, LARGE), bad(diagnose(gateway))) == (200, set())


def test_the_window_of_http2(router: Router, upstreams: Upstreams) -> None:
    config = plain(router, upstreams, BUFFERED)
    hcm(config)["http2_protocol_options"]["initial_stream_window_size"] = 65535
    with envoy.gateway(config) as gateway, H2Client(gateway.port) as client:
        stream = client.start("POST", "/", [JSON])
        client.send(stream, LARGE[:65_535])
        client.send(stream, LARGE[65_535:65_600])
        assert client.wait_headers(stream).status == 413
        assert bad(diagnose(gateway)) == {"buffer-below-body-limit"}


def test_headers_that_are_not_forwarded(router: Router, upstreams: Upstreams) -> None:
    config = plain(router, upstreams)
    body = gzip.compress(BODY)
    statuses = []
    for rules in ({}, {"disallowed_headers": {"patterns": [{"exact": "content-encoding"}]}}):
        bbr(config)["forward_rules"] = rules
        with envoy.gateway(config) as gateway:
            statuses.append((post(gateway, body, ("content-encoding", "gzip")), bad(diagnose(gateway))))
    assert statuses == [(200, set()), (400, {"headers-not-forwarded"})]


def half_sent(gateway: envoy.Gateway, seconds: float) -> int | None:
    """Return the status that an upload gets which stands still, or None if there is none within `seconds`."""
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(http1.head("POST", "/", [JSON, ("content-length", "1000")]) + b"{")
        connection.settimeout(seconds)
        began = time.monotonic()
        try:
            line = connection.recv(100)
        except TimeoutError:
            assert time.monotonic() - began >= seconds
            return None
        return int(line.split()[1])


@pytest.mark.parametrize(
    ("bound", "status", "ids"),
    [("grpc_service.timeout", None, {"no-stream-deadline", "no-retry-policy"}), ("cluster", 500, {"no-retry-policy"})],
)
def test_what_ends_a_stream(
    router: Router, upstreams: Upstreams, bound: str, status: int | None, ids: set[str]
) -> None:
    config = plain(router, upstreams, message_timeout="0.2s")
    hcm(config)["stream_idle_timeout"] = "0s"
    del bbr(config)["grpc_service"]["retry_policy"]
    if bound == "cluster":
        options = cluster(config)["typed_extension_protocol_options"][HTTP_OPTIONS]
        options["common_http_protocol_options"] = {"max_stream_duration": "0.5s"}
    else:
        bbr(config)["grpc_service"]["timeout"] = "0.5s"
    with envoy.gateway(config) as gateway:
        assert bad(diagnose(gateway)) == ids
        assert half_sent(gateway, 90 if status else 1.5) == status


@pytest.mark.parametrize(("allowed", "answered"), [(False, False), (True, True)])
def test_upgrades_in_buffered(router: Router, upstreams: Upstreams, allowed: bool, answered: bool) -> None:
    config = plain(router, upstreams, BUFFERED, allow_mode_override=allowed)
    head = http1.head("GET", "/", [("connection", "upgrade"), ("upgrade", "websocket")])
    with envoy.gateway(config) as gateway:
        assert [each.id for each in diagnose(gateway)] == ["mode-override-off"] * (not allowed)
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            connection.sendall(head)
            connection.settimeout(90 if answered else 1)
            if answered:
                assert connection.recv(100).startswith(b"HTTP/1.1 101 ")
            else:
                with pytest.raises(TimeoutError):
                    connection.recv(100)


@pytest.mark.parametrize("body_mode", ["FULL_DUPLEX_STREAMED", BUFFERED])
def test_a_stack_in_use_gives_no_finding(tmp_path: Path, body_mode: str) -> None:
    with running(tmp_path, body_mode=body_mode) as stack:
        for model in (QWEN, PHI, "sql-lora", "nobody"):
            body = json.dumps({"model": model, "messages": []}).encode()
            reply = http1.request(stack.ports["gateway"], "POST", "/v1/chat/completions", [JSON], body)
            assert reply.status == (404 if model == "nobody" else 200)
        found = [each.id for each in found_in(stack.admin_url, TABLE)]
        assert found == ["mode-override-off"] * (body_mode == BUFFERED)
