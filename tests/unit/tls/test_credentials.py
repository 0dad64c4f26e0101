import dataclasses
import datetime
import os
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from bbr.tls import credentials as tls
from bbr.tls import pem
from bbr.tls.client_names import AllowedName
from bbr.tls.credentials import Clients
from bench.harness.certificates import Authority, client_context
from tests.support.tls import handshake

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.mark.parametrize("offered", [(), ("http/1.1",), ("http/1.1", "h2"), ("h2",)], ids=str)
def test_alpn_agrees_on_nothing_but_h2(offered):
    made = pem.self_signed(["localhost"], datetime.datetime.now(datetime.UTC))
    server, _ = handshake(tls.server_context(made), client_context(made.chain_pem, *offered))
    assert server.selected_alpn_protocol() == ("h2" if "h2" in offered else None)


def test_tls_1_2_is_served_with_suites_that_http2_allows_alone():
    made = pem.self_signed(["localhost"], datetime.datetime.now(datetime.UTC))
    client = client_context(made.chain_pem, "h2")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    server, _ = handshake(tls.server_context(made), client)
    assert (server.version(), server.cipher()[0][:11]) == ("TLSv1.2", "ECDHE-ECDSA")
    client.set_ciphers("ECDHE-ECDSA-AES128-SHA256")  # CBC: forbidden by RFC 9113, appendix A
    with pytest.raises(ssl.SSLError, match=r"(?i)no.shared.cipher"):
        handshake(tls.server_context(made), client)


@pytest.mark.parametrize("first", ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"])
def test_the_client_s_order_of_suites_decides(first):
    made = pem.self_signed(["localhost"], datetime.datetime.now(datetime.UTC))
    client = client_context(made.chain_pem, "h2")
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # Python has no way to order those of TLS 1.3
    client.set_ciphers(f"ECDHE-ECDSA-{first}:ECDHE+AESGCM:ECDHE+CHACHA20")
    server, _ = handshake(tls.server_context(made), client)
    assert server.cipher()[0] == f"ECDHE-ECDSA-{first}"


def test_tls_1_1_is_refused():
    context = tls.server_context(pem.self_signed(["localhost"], NOW))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_certificates_that_a_client_compresses_are_not_accepted():
    context = tls.server_context(pem.self_signed(["localhost"], NOW))
    # SSL_OP_NO_RX_CERTIFICATE_COMPRESSION; test_session.py tries it on OpenSSL 3.2 and later.
    assert context.options & 1 << 33


def test_a_key_is_never_on_a_disk(monkeypatch):
    opened = []
    load = ssl.SSLContext.load_cert_chain

    def watch(self, path, **options):
        opened.append(path)
        load(self, path, **options)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watch)
    before = set(os.listdir("/proc/self/fd"))
    tls.server_context(pem.self_signed(["localhost"], NOW))
    assert [path[:14] for path in opened] == ["/proc/self/fd/"]
    assert set(os.listdir("/proc/self/fd")) == before


def der(issued):
    return x509.load_pem_x509_certificate(issued.chain_pem).public_bytes(serialization.Encoding.DER)


def test_clients_are_let_in_by_name(authority):
    clients = Clients(authority.root_pem, (AllowedName("gateway.example"),))
    assert clients.refusal(der(authority.issue("gateway.example"))) == ""
    assert clients.refusal(der(authority.issue("other.example"))) == (
        "--tls-client-san allows none of the names in the client's certificate: DNS:other.example"
    )
    assert Clients(authority.root_pem).refusal(b"whatever has been verified") == ""


def test_an_authority_is_trusted_for_itself_even_if_it_is_an_intermediate_one(authority):
    below = authority.intermediate()
    issued = below.issue("gateway.example")
    own = x509.load_pem_x509_certificates(issued.chain_pem)[1].public_bytes(serialization.Encoding.PEM)
    made = pem.self_signed(["localhost"], datetime.datetime.now(datetime.UTC))
    made = dataclasses.replace(made, clients=Clients(own))
    server, _ = handshake(tls.server_context(made), client_context(made.chain_pem, "h2", shows=issued))
    assert server.getpeercert(binary_form=True) == der(issued)
    stranger = client_context(made.chain_pem, "h2", shows=authority.issue("gateway.example"))
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate.verify.failed"):
        handshake(tls.server_context(made), stranger)


def test_no_session_of_a_client_with_a_certificate_is_resumed_by_tls_1_3(authority):
    made = pem.self_signed(["localhost"], datetime.datetime.now(datetime.UTC))
    context = tls.server_context(dataclasses.replace(made, clients=Clients(authority.root_pem)))
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert tls.server_context(made).verify_mode == ssl.CERT_NONE
