"""A real Envoy in front of the router over TLS, and in front of one whose connections are soon too old."""

import concurrent.futures
import datetime
import json
import threading
import urllib.request

import pytest

from bbr.tls.credentials import Credentials
from bbr.tls.pem import self_signed
from bbr.transports.serving import ConnectionLimits
from bench.harness import envoy
from bench.harness.envoy import TYPES
from bench.harness.in_process_router import PHI, QWEN, Router
from tests.support.tools import needs_envoy
from tests.support.waiting import until

pytestmark = needs_envoy

AGE_SECONDS = 0.3
# How many connections Envoy must have made to the router, one after the other.
CONNECTIONS = 6
SUITES = "cluster.bbr.ssl.ciphers."
MADE = "cluster.bbr.upstream_cx_total"


@pytest.fixture(scope="module")
def transport(request):
    return request.param


@pytest.fixture(scope="module")
def credentials():
    return self_signed(["localhost"], datetime.datetime.now(datetime.UTC))


def upstream_tls(credentials: Credentials | None, *, alpn: bool = True):
    """Return the router cluster's TLS; with credentials only they are trusted, without all are."""
    common = {"alpn_protocols": ["h2"]} if alpn else {}
    if credentials:
        common["validation_context"] = {"trusted_ca": {"inline_string": credentials.chain_pem.decode()}}
    return {
        "name": "tls",
        "typed_config": {
            "@type": f"{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": "localhost",
            "common_tls_context": common,
        },
    }


def configuration(router, upstreams, tls):
    config = envoy.configuration([envoy.router_filter()], router.port, upstreams.ports)
    if tls:
        cluster = next(each for each in config["static_resources"]["clusters"] if each["name"] == "bbr")
        cluster["transport_socket"] = tls
    return config


def ask(port, model, size=100):
    body = json.dumps({"messages": [{"role": "user", "content": "x" * size}], "model": model}).encode()
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=90) as reply:  # noqa: S310
        reply.read()
        return reply.status


@pytest.mark.parametrize("verified", [True, False], ids=["the certificate is pinned", "nothing is verified"])
@pytest.mark.parametrize("alpn", [True, False], ids=["ALPN by its configuration", "ALPN by Envoy itself"])
@pytest.mark.grpcio
def test_routes_over_tls(background, upstreams, transport, credentials, verified, alpn):
    router = Router(background, transport=transport, credentials=credentials)
    tls = upstream_tls(credentials if verified else None, alpn=alpn)
    with envoy.gateway(configuration(router, upstreams, tls)) as gateway:
        upstreams.forget()
        assert ask(gateway.port, QWEN) == 200
        assert ask(gateway.port, PHI, 3_000_000) == 200
        assert [exchange.verdict.base_model for exchange in router.exchanges] == [QWEN, PHI]
        assert gateway.stats("cluster.bbr.ssl.handshake")["cluster.bbr.ssl.handshake"] >= 1
    router.stop()


def test_envoy_chooses_the_cheapest_suite(background, upstreams, credentials):
    router = Router(background, credentials=credentials)
    with envoy.gateway(configuration(router, upstreams, upstream_tls(credentials))) as gateway:
        assert ask(gateway.port, QWEN) == 200
        suites = {name.rpartition(".")[2] for name in gateway.stats(SUITES)}
    router.stop()
    # Without instructions for AES, Envoy prefers ChaCha20.
    assert suites <= {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"}
    assert suites


def test_certificate_that_is_not_trusted_is_not_talked_to(background, upstreams, transport, credentials):
    router = Router(background, transport=transport, credentials=credentials)
    other = self_signed(["localhost"], datetime.datetime.now(datetime.UTC))
    with envoy.gateway(configuration(router, upstreams, upstream_tls(other))) as gateway:
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(gateway.port, QWEN)
        assert refused.value.code == 500
        refused.value.close()
        assert router.exchanges == []
    router.stop()


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "TLS"])
def test_no_request_is_lost_over_many_connection_ages_j6(background, upstreams, transport, credentials, tls):
    limits = ConnectionLimits(max_age_seconds=AGE_SECONDS, grace_seconds=10)
    router = Router(background, transport=transport, credentials=credentials if tls else None, limits=limits)
    with envoy.gateway(configuration(router, upstreams, upstream_tls(credentials) if tls else None)) as gateway:
        enough = threading.Event()

        def load(_):
            statuses = []
            while not enough.is_set():
                statuses.append(ask(gateway.port, QWEN, 2_000))
            return statuses

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            running = [pool.submit(load, number) for number in range(8)]
            try:
                until(lambda: gateway.stats(MADE)[MADE] >= CONNECTIONS)
            finally:
                enough.set()
            statuses = [status for each in running for status in each.result()]
        assert set(statuses) == {200}
        assert len(statuses) > 8 * CONNECTIONS
    router.stop()
    upstreams.forget()
