"""Clients' certificates and rotation over real sockets, by both transports and foreign clients."""

import datetime
import logging
import shutil
import socket
import ssl
import subprocess

import grpc
import pytest

from bbr.exchange.policy import BodyMode
from bbr.pb.health_pb2 import HealthCheckRequest, HealthCheckResponse
from bench.harness import messages
from bench.harness.certificates import YEAR, Authority, client_context, credentials, shown
from bench.harness.grpc_client import PROCESS
from bench.harness.in_process_router import TRANSPORTS, Router

DEADLINE_SECONDS = 90.0
HEADERS = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)
SERVER = Authority()
CLIENTS = Authority()
SPIFFE = "spiffe://cluster.local/ns/gateways/sa/envoy"

transports = pytest.mark.parametrize("transport", TRANSPORTS)


@pytest.fixture
def serve(background):
    routers = []

    def start(transport, *allowed, ca_pem=CLIENTS.root_pem):
        routers.append(
            Router(
                background, transport=transport, credentials=credentials(SERVER.issue("localhost"), ca_pem, *allowed)
            )
        )
        return routers[-1]

    yield start
    for router in routers:
        router.stop()


def channel(router, issued=None):
    pair = (issued.key_pem, issued.chain_pem) if issued else (None, None)
    trust = grpc.ssl_channel_credentials(SERVER.root_pem, *pair)
    return grpc.secure_channel(f"127.0.0.1:{router.port}", trust, [("grpc.ssl_target_name_override", "localhost")])


def health(connected):
    """Return the status code of a health check."""
    request = HealthCheckRequest().SerializeToString()
    try:
        answer = connected.unary_unary("/grpc.health.v1.Health/Check")(request, timeout=DEADLINE_SECONDS)
    except grpc.RpcError as error:
        return error.code()
    assert HealthCheckResponse.FromString(answer).status == HealthCheckResponse.SERVING
    return grpc.StatusCode.OK


def check(router, issued=None):
    with channel(router, issued) as connected:
        return health(connected)


LET_IN = {
    "any certificate of the authority": ((), ("other.example",)),
    "one without a name": ((), ()),
    "by its DNS name": (("gateway.example",), ("x.example", "Gateway.Example")),
    "by a wildcard": (("no.example", "*.example"), ("gateway.example",)),
    "by its URI": ((SPIFFE,), (SPIFFE,)),
    "by the stem of its URI": (("spiffe://cluster.local/ns/gateways/*",), (SPIFFE,)),
}


@transports
@pytest.mark.parametrize(("allowed", "names"), LET_IN.values(), ids=LET_IN)
def test_let_in(serve, transport, allowed, names):
    assert check(serve(transport, *allowed), CLIENTS.issue(*names)) == grpc.StatusCode.OK


@transports
def test_let_in_by_an_intermediate_authority_that_is_trusted_alone_or_with_its_root(serve, transport):
    below = CLIENTS.intermediate()
    issued = below.issue("gateway.example")
    alone = issued.chain_pem.partition(b"-----END CERTIFICATE-----\n")[2]
    assert check(serve(transport), issued) == grpc.StatusCode.OK
    assert check(serve(transport, ca_pem=alone), issued) == grpc.StatusCode.OK


REFUSED = {
    "no certificate": lambda: None,
    "another authority's": lambda: Authority().issue("gateway.example"),
    "expired": lambda: CLIENTS.issue("gateway.example", not_after=datetime.datetime.now(datetime.UTC)),
    "not yet valid": lambda: CLIENTS.issue("gateway.example", life=YEAR / 2),
    "for servers only": lambda: CLIENTS.issue("gateway.example", server_only=True),
}


@transports
@pytest.mark.parametrize("issue", REFUSED.values(), ids=REFUSED)
def test_refused_in_the_handshake(serve, transport, issue):
    router = serve(transport, "gateway.example")
    assert check(router, issue()) == grpc.StatusCode.UNAVAILABLE
    assert router.exchanges == []


def first_octet(port, client):
    """Return the first octet that a server sends after the handshake, as a client sees it."""
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as plain,
        client.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.recv(1)


@transports
def test_not_a_word_of_http2_before_a_client_is_verified(serve, transport):
    port, client = serve(transport).port, client_context(SERVER.root_pem, "h2")
    # By TLS 1.3 a client is done before the server has seen its certificate: the refusal comes instead of an answer.
    if transport == "uv":
        with pytest.raises(ssl.SSLError, match=r"(?i)alert.certificate.required"):
            first_octet(port, client)
    else:  # C-core closes without an alert
        assert first_octet(port, client) == b""


@transports
@pytest.mark.parametrize("names", [("other.example", SPIFFE), ()], ids=["other names", "no name"])
def test_a_certificate_for_other_names(serve, transport, names, caplog):
    caplog.set_level(logging.INFO)
    router = serve(transport, "gateway.example")
    refused = {"uv": grpc.StatusCode.UNAVAILABLE, "grpcio": grpc.StatusCode.PERMISSION_DENIED}
    with channel(router, CLIENTS.issue(*names)) as connected:
        assert health(connected) == refused[transport]
        call = connected.stream_stream(PROCESS)(iter([HEADERS]), timeout=DEADLINE_SECONDS)
        assert call.code() == refused[transport]
    assert router.exchanges == []
    how = {"uv": "a connection failed: TLS", "grpcio": "a call was refused"}
    why = "the client's certificate has no subject alternative name, and --tls-client-san requires one"
    if names:
        why = f"--tls-client-san allows none of the names in the client's certificate: DNS:{names[0]}, URI:{SPIFFE}"
    # On a slow machine, ten seconds later: another line, which may count the connections in between.
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("bbr")]
    told = {line.partition(" (")[0] for line in lines}
    assert told == {f"{how[transport]}: {why}"}


@transports
def test_openssl_s_client(serve, transport, tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, the command, is not installed")
    issued = CLIENTS.issue("gateway.example")
    (tmp_path / "client.pem").write_bytes(issued.chain_pem + issued.key_pem)
    (tmp_path / "root.pem").write_bytes(SERVER.root_pem)
    command = [openssl, "s_client", "-connect", f"127.0.0.1:{serve(transport, 'gateway.example').port}", "-alpn", "h2"]
    command += ["-servername", "localhost", "-CAfile", str(tmp_path / "root.pem"), "-verify_return_error"]
    for version in ("-tls1_2", "-tls1_3"):
        options = {"input": b"", "capture_output": True, "timeout": DEADLINE_SECONDS, "check": False}
        shows = ["-cert", str(tmp_path / "client.pem"), "-key", str(tmp_path / "client.pem")]
        let_in = subprocess.run([*command, version, *shows], **options)
        assert let_in.returncode == 0, let_in.stderr
        assert b"ALPN protocol: h2" in let_in.stdout
    refused = subprocess.run([*command, "-tls1_2"], **options)
    assert refused.returncode == 1
    assert (b"alert handshake failure" in refused.stderr) == (transport == "uv")  # C-core closes without an alert
    assert subprocess.run([*command, "-tls1_1", *shows], **options).returncode == 1


@transports
def test_new_connections_see_the_new_certificate_and_old_ones_live_on(serve, transport):
    router = serve(transport)
    old_client = CLIENTS.issue("gateway.example")
    client = client_context(SERVER.root_pem, "h2", shows=old_client)
    with channel(router, old_client) as connected:
        assert health(connected) == grpc.StatusCode.OK
        before = shown(router.port, client)
        clients = Authority()
        renewed = SERVER.issue("localhost")
        router.use(credentials(renewed, clients.root_pem))
        after = shown(router.port, client_context(SERVER.root_pem, "h2", shows=clients.issue("gateway.example")))
        assert after == ssl.PEM_cert_to_DER_cert(renewed.chain_pem.decode()) != before
        # A client of the authority that went: not let in any more, but the connection that it has lives on.
        assert check(router, old_client) == grpc.StatusCode.UNAVAILABLE
        assert health(connected) == grpc.StatusCode.OK
    for _ in range(3):  # a certificate that stays is not read anew
        assert check(router, clients.issue("gateway.example")) == grpc.StatusCode.OK
