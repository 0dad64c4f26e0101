import contextlib
import ssl

import pytest

from bbr.commands.probe.client import Client
from bbr.commands.probe.wire import Address, Deadline, ProbeError, Tls, Wire
from bbr.tls import credentials as tls
from bbr.tls import pem
from bench.harness import h2_frames
from bench.harness.background import Background
from bench.harness.certificates import Authority
from bench.harness.in_process_router import Router
from bench.harness.ports import REFUSING_PORT
from tests.support.scripted_servers import speaking
from tests.support.uv_server import CREDENTIALS

SETTINGS = h2_frames.frame(h2_frames.SETTINGS)


def wired(port, seconds=20.0, tls=None, host="127.0.0.1"):
    return Wire(Address(host, port), tls, Deadline(seconds))


def test_a_dead_port():
    with pytest.raises(ProbeError, match=r"^can't connect: Connection refused$"):
        wired(REFUSING_PORT)


def test_a_name_that_nobody_has():
    with pytest.raises(ProbeError, match=r"^the name can't be resolved: "):
        wired(9004, host="nobody.invalid")


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "bücher..example"], ids=["a long label", "an empty label"])
def test_a_name_that_is_none(host):
    with pytest.raises(ProbeError, match=r"^the name can't be resolved: it is not a host name$"):
        wired(9004, host=host)


def test_a_deadline_that_has_passed():
    with pytest.raises(ProbeError, match=r"^no answer within 0 s$"):
        wired(REFUSING_PORT, 0)


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def secure(authority, tmp_path):
    """The port of a router whose certificate is for router.test, and the file with what verifies it."""
    issued = authority.issue("router.test")
    (tmp_path / "ca.pem").write_bytes(authority.root_pem)
    (tmp_path / "tls.crt").write_bytes(issued.chain_pem)
    (tmp_path / "tls.key").write_bytes(issued.key_pem)
    credentials = pem.load(tmp_path / "tls.crt", tmp_path / "tls.key")
    with Background() as background:
        router = Router(background, credentials=credentials)
        try:
            yield router.port, credentials
        finally:
            router.stop()


def test_tls_without_verification_tells_what_it_was_shown(secure):
    port, credentials = secure
    with contextlib.closing(wired(port, tls=Tls())) as wire:
        assert wire.handshake == ("TLSv1.3", "h2", credentials.fingerprint)


def test_tls_verified_by_its_authority(secure, tmp_path):
    with contextlib.closing(wired(secure[0], tls=Tls(ca=tmp_path / "ca.pem", server_name="router.test"))) as wire:
        assert wire.handshake is not None


def test_a_certificate_that_is_trusted_itself(secure, tmp_path):
    with contextlib.closing(wired(secure[0], tls=Tls(ca=tmp_path / "tls.crt", server_name="router.test"))) as wire:
        assert wire.handshake is not None


@pytest.mark.parametrize(
    ("ca", "name", "why"),
    [
        pytest.param("ca.pem", "other.test", "Hostname mismatch", id="another name"),
        pytest.param("ca.pem", None, "IP address mismatch", id="the host of the address"),
        pytest.param(
            "other.pem",
            "router.test",
            "(certificate signature failure|unable to get local issuer)",
            id="another authority",
        ),
    ],
)
def test_a_certificate_that_is_not_to_be_trusted(secure, tmp_path, ca, name, why):
    (tmp_path / "other.pem").write_bytes(Authority().root_pem)
    with pytest.raises(ProbeError, match=f"its certificate is not trusted: {why}"):
        wired(secure[0], tls=Tls(ca=tmp_path / ca, server_name=name))


def test_plaintext_spoken_to_tls(secure):
    with pytest.raises(ProbeError, match=r"give --tls$"):
        Client(wired(secure[0]))


TLS_FAULTS = {
    "HTTP/1": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it does not speak TLS here: leave --tls out"),
    "HTTP/2": (SETTINGS, "it does not speak TLS here: leave --tls out"),
    "an alert": (b"\x15\x03\x01\x00\x02\x02\x28", "TLS failed: "),
    "the end": (b"", "it closed the connection during the TLS handshake: it may not speak TLS here"),
}


@pytest.mark.parametrize(("octets", "why"), TLS_FAULTS.values(), ids=TLS_FAULTS)
def test_tls_spoken_to_something_else(octets, why):
    with pytest.raises(ProbeError) as error, speaking(octets, ends=True) as port:
        wired(port, tls=Tls())
    assert str(error.value).startswith(why)


def test_a_server_name_that_can_not_be_one():
    with pytest.raises(ProbeError, match=r"^\. is not a name that TLS can ask for$"):
        wired(REFUSING_PORT, tls=Tls(server_name="."))


def asking_for_a_certificate(authority_pem):
    """Return a server's context that takes clients with a certificate only."""
    context = tls.server_context(CREDENTIALS)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority_pem.decode())
    return context


def test_a_client_certificate(authority, tmp_path, monkeypatch):
    issued = authority.issue("gateway.test")
    (tmp_path / "cert.pem").write_bytes(issued.chain_pem)
    (tmp_path / "key.pem").write_bytes(issued.key_pem)
    context = asking_for_a_certificate(authority.root_pem)
    monkeypatch.setattr("bbr.tls.credentials.server_context", lambda _: context)
    with Background() as background:
        router = Router(background, credentials=CREDENTIALS)
        try:
            with contextlib.closing(
                wired(router.port, tls=Tls(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem"))
            ) as wire:
                assert wire.handshake is not None
            with pytest.raises(ProbeError, match="it wants a client's certificate: give --tls-cert and --tls-key"):
                Client(wired(router.port, tls=Tls()))
        finally:
            router.stop()


def test_files_that_can_not_be_used(tmp_path):
    (tmp_path / "empty.pem").write_bytes(b"")
    for given in ({"ca": tmp_path / "none"}, {"ca": tmp_path / "empty.pem"}, {"cert": tmp_path / "none"}):
        with pytest.raises(OSError, match=r"No such file|NO_CERTIFICATE"):
            wired(1, tls=Tls(**given))


def test_what_a_request_says_of_its_server(secure):
    with contextlib.closing(wired(secure[0], tls=Tls(server_name="router.test"))) as wire:
        assert (wire.scheme, wire.authority) == ("https", "router.test")
    with speaking(b"") as port, contextlib.closing(wired(port)) as wire:
        assert (wire.scheme, wire.authority) == ("http", f"127.0.0.1:{port}")


def test_as_much_is_read_as_is_wanted_and_the_rest_later():
    with speaking(b"abcdef", ends=True) as port, contextlib.closing(wired(port)) as wire:
        assert [wire.read(size) for size in (1, 0, 4)] == [b"a", b"", b"bcde"]
        with pytest.raises(ProbeError, match="it closed the connection before it said anything"):
            wire.read(2)


def test_a_failure_after_the_preface_says_so_shortly():
    with speaking(b"", ends=True) as port, contextlib.closing(wired(port)) as wire:
        wire.speaks_http2 = True
        with pytest.raises(ProbeError, match=r"^it closed the connection$"):
            wire.read(1)


def test_an_address_is_written_as_it_is_given():
    assert str(Address("::1", 9004)) == "[::1]:9004"
    assert str(Address("bbr", 9004)) == "bbr:9004"
