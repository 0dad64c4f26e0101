import ssl

import hpack
import pytest

from bbr.commands.probe.client import Address, CallEndedError, Client, Deadline, ProbeError, Tls, plain
from bbr.tls import credentials as tls
from bench.harness import h2_frames
from bench.harness.background import Background
from bench.harness.certificates import Authority
from bench.harness.grpc_client import framed
from bench.harness.in_process_router import Router
from bench.harness.ports import free_port
from tests.support.scripted_servers import speaking
from tests.support.uv_server import CREDENTIALS

SETTINGS = h2_frames.frame(h2_frames.SETTINGS)
OK = [(":status", "200"), ("content-type", "application/grpc")]
DONE = [("grpc-status", "0")]


def block(fields):
    return hpack.Encoder().encode(fields)


def headers(fields, flags=h2_frames.END_HEADERS):
    return h2_frames.frame(h2_frames.HEADERS, flags, 1, block(fields))


def ended(fields):
    return headers(fields, h2_frames.END_HEADERS | h2_frames.END_STREAM)


def to(port, seconds=20.0, tls=None, host="127.0.0.1"):
    return Client(Address(host, port), tls, Deadline(seconds))


def ask(octets, sent=b"ping", *, ends=False):
    """Make one call to a server that says `octets`, and return the first message."""
    with speaking(octets, ends=ends) as port, to(port) as client:
        call = client.open("/service/Method")
        call.send(sent, end=True)
        return call.receive()


ANSWER = headers(OK) + h2_frames.data(1, framed(b"pong")) + ended(DONE)
PADDED = h2_frames.frame(h2_frames.DATA, h2_frames.PADDED, 1, b"\x03" + framed(b"pong") + bytes(3))
IN_PARTS = h2_frames.frame(h2_frames.HEADERS, 0, 1, block(OK)[:3]) + h2_frames.frame(
    h2_frames.CONTINUATION, h2_frames.END_HEADERS, 1, block(OK)[3:]
)
WITH_PRIORITY = h2_frames.frame(
    h2_frames.HEADERS, h2_frames.END_HEADERS | h2_frames.PRIORITY_FLAG, 1, bytes(5) + block(OK)
)
GOODBYE = h2_frames.frame(h2_frames.GOAWAY, 0, 0, b"\x7f\xff\xff\xff" + bytes(4))

ANSWERS = {
    "in one go": SETTINGS + ANSWER,
    "with padding": SETTINGS + headers(OK) + PADDED,
    "headers in parts": SETTINGS + IN_PARTS + h2_frames.data(1, framed(b"pong")),
    "headers with a priority": SETTINGS + WITH_PRIORITY + h2_frames.data(1, framed(b"pong")),
    "a message in parts": SETTINGS + headers(OK) + h2_frames.data(1, framed(b"pong")[:7]) + h2_frames.data(1, b"ng"),
    "between frames of other kinds": SETTINGS
    + h2_frames.frame(h2_frames.SETTINGS, h2_frames.ACK)
    + h2_frames.frame(h2_frames.PING, 0, 0, bytes(8))
    + h2_frames.frame(h2_frames.PING, h2_frames.ACK, 0, bytes(8))
    + h2_frames.frame(0x42, 0, 0, b"of a later day")
    + h2_frames.data(7, b"of no call of ours")
    + h2_frames.frame(h2_frames.CONTINUATION, h2_frames.END_HEADERS, 1, b"of nothing")
    + ANSWER,
    "a goodbye that lets calls end": SETTINGS + GOODBYE + ANSWER,
}


@pytest.mark.parametrize("octets", ANSWERS.values(), ids=ANSWERS)
def test_answer(octets):
    assert ask(octets) == b"pong"


def test_small_windows_are_honoured():
    small = h2_frames.frame(h2_frames.SETTINGS, 0, 0, b"\x00\x04" + (3).to_bytes(4, "big"))
    more = h2_frames.frame(h2_frames.WINDOW_UPDATE, 0, 1, (99_000).to_bytes(4, "big"))
    for_all = h2_frames.frame(h2_frames.WINDOW_UPDATE, 0, 0, (99_000).to_bytes(4, "big"))
    assert ask(small + small + more + for_all + ANSWER, bytes(90_000)) == b"pong"


def test_an_answer_that_does_not_wait_for_the_request_is_taken():
    nothing = h2_frames.frame(h2_frames.SETTINGS, 0, 0, b"\x00\x04" + bytes(4))
    assert ask(nothing + ANSWER, bytes(99)) == b"pong"


FAULTS = {
    "HTTP/1": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it speaks HTTP/1, and gRPC is HTTP/2"),
    "rubbish": (
        b"SSH-2.0-\x1b[2J and more",
        "it does not speak HTTP/2: its answer begins with SSH-2",
    ),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x16\x00\x00", "it speaks TLS here: give --tls"),
    "another frame first": (h2_frames.frame(h2_frames.PING, 0, 0, bytes(8)), "it does not speak HTTP/2"),
    "a frame too long": (SETTINGS + b"\xff\xff\xff" + bytes(6), "it broke HTTP/2: a frame of 16777215 bytes"),
    "a goodbye": (
        SETTINGS + h2_frames.frame(h2_frames.GOAWAY, 0, 0, bytes(7) + b"\x0benough\x1b"),
        r"it closes the connection: GOAWAY ENHANCE_YOUR_CALM (enough\x1b)",
    ),
    "a goodbye without words": (
        SETTINGS + h2_frames.frame(h2_frames.GOAWAY, 0, 0, bytes(8)),
        "it closes the connection: GOAWAY NO_ERROR",
    ),
    "a reset": (
        SETTINGS + h2_frames.frame(h2_frames.RST_STREAM, 0, 1, bytes(3) + b"\x07"),
        "it reset the call: REFUSED",
    ),
    "a reset of its own kind": (
        SETTINGS + h2_frames.frame(h2_frames.RST_STREAM, 0, 1, b"\xff" * 4),
        "the call: 4294967295",
    ),
    "a short reset": (SETTINGS + h2_frames.frame(h2_frames.RST_STREAM, 0, 1, b"\x07"), "an unusable frame of type 3"),
    "padding of nothing": (
        SETTINGS + h2_frames.frame(h2_frames.DATA, h2_frames.PADDED, 1),
        "an unusable frame of type 0",
    ),
    "an undecodable section": (
        SETTINGS + h2_frames.frame(h2_frames.HEADERS, h2_frames.END_HEADERS, 1, b"\xff\xff\xff\xff"),
        "it broke HTTP/2: a header section that can't be decoded",
    ),
    "a section without end": (
        SETTINGS
        + h2_frames.frame(h2_frames.HEADERS, 0, 1, bytes(9))
        + 5 * h2_frames.frame(h2_frames.CONTINUATION, 0, 1, bytes(16_384)),
        "its header section is longer than 65536 bytes",
    ),
    "another status": (
        SETTINGS + headers([(":status", "404")]),
        "it is no gRPC server: it answered with HTTP status 404",
    ),
    "a message too long": (
        SETTINGS + headers(OK) + h2_frames.data(1, b"\x00\xff\xff\xff\xff"),
        "it broke gRPC: a message of 4294967295 bytes is larger than 1048576",
    ),
    "a status": (
        SETTINGS + ended([*OK, ("grpc-status", "14"), ("grpc-message", "not%20now%0A")]),
        r"the call ended with gRPC status 14: not now\n",
    ),
    "a status that is none": (SETTINGS + ended([*OK, ("grpc-status", "-")]), "the call ended with gRPC status 2"),
    "an end without a status": (
        SETTINGS + headers(OK) + h2_frames.data(1, b"", end=True),
        "gRPC status 2: the call ended without a gRPC status",
    ),
}


@pytest.mark.parametrize(("octets", "why"), FAULTS.values(), ids=FAULTS)
def test_fault(octets, why):
    with pytest.raises(ProbeError) as error:
        ask(octets)
    assert why in str(error.value)


def test_the_code_of_a_call_that_ended_is_told():
    with pytest.raises(CallEndedError) as error:
        ask(SETTINGS + ended([*OK, ("grpc-status", "12")]))
    assert error.value.code == 12


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        pytest.param(
            b"", "it closed the connection before it said anything; if it speaks TLS here, give --tls", id="before"
        ),
        pytest.param(SETTINGS, "it closed the connection", id="after its SETTINGS"),
    ],
)
def test_an_end_of_the_connection(octets, why):
    with pytest.raises(ProbeError) as error:
        ask(octets, ends=True)
    assert str(error.value) == why


def test_a_dead_port():
    with pytest.raises(ProbeError, match=r"^can't connect: Connection refused$"):
        to(free_port())


def test_a_name_that_nobody_has():
    with pytest.raises(ProbeError, match=r"^the name can't be resolved: "):
        to(9004, host="nobody.invalid")


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "bücher..example"], ids=["a long label", "an empty label"])
def test_a_name_that_is_none(host):
    with pytest.raises(ProbeError, match=r"^the name can't be resolved: it is no host name$"):
        to(9004, host=host)


@pytest.mark.parametrize("octets", [b"", SETTINGS], ids=["nothing", "SETTINGS alone"])
def test_a_server_that_does_not_answer(octets):
    with (
        pytest.raises(ProbeError, match=r"^no answer within 0\.2 s$"),
        speaking(octets) as port,
        to(port, 0.2) as client,
    ):
        client.open("/service/Method").receive()


def test_a_deadline_that_has_passed():
    with pytest.raises(ProbeError, match=r"^no answer within 0 s$"):
        to(free_port(), 0)


def test_a_server_that_reads_nothing_does_not_hold_up_the_end():
    window = h2_frames.frame(h2_frames.SETTINGS, 0, 0, b"\x00\x04\x00\xff\xff\xff")
    with pytest.raises(ProbeError, match="no answer within"), speaking(window) as port, to(port, 0.2) as client:
        client.open("/service/Method").send(bytes(1 << 20))


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
    credentials = tls.load(tmp_path / "tls.crt", tmp_path / "tls.key")
    with Background() as background:
        router = Router(background, credentials=credentials)
        try:
            yield router.port, credentials
        finally:
            router.stop()


def test_tls_without_verification_tells_what_it_was_shown(secure):
    port, credentials = secure
    with to(port, tls=Tls()) as client:
        assert client.handshake == ("TLSv1.3", "h2", credentials.fingerprint)


def test_tls_verified_by_its_authority(secure, tmp_path):
    with to(secure[0], tls=Tls(ca=tmp_path / "ca.pem", server_name="router.test")) as client:
        assert client.handshake is not None


def test_a_certificate_that_is_trusted_itself(secure, tmp_path):
    with to(secure[0], tls=Tls(ca=tmp_path / "tls.crt", server_name="router.test")) as client:
        assert client.handshake is not None


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
    with pytest.raises(ProbeError, match=f"its certificate is not to be trusted: {why}"):
        to(secure[0], tls=Tls(ca=tmp_path / ca, server_name=name))


def test_plaintext_spoken_to_tls(secure):
    with pytest.raises(ProbeError, match=r"give --tls$"):
        to(secure[0])


TLS_FAULTS = {
    "HTTP/1": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it does not speak TLS here: leave --tls out"),
    "HTTP/2": (SETTINGS, "it does not speak TLS here: leave --tls out"),
    "an alert": (b"\x15\x03\x01\x00\x02\x02\x28", "TLS failed: "),
    "the end": (b"", "it closed the connection during the TLS handshake: it may not speak TLS here"),
}


@pytest.mark.parametrize(("octets", "why"), TLS_FAULTS.values(), ids=TLS_FAULTS)
def test_tls_spoken_to_something_else(octets, why):
    with pytest.raises(ProbeError) as error, speaking(octets, ends=True) as port:
        to(port, tls=Tls())
    assert str(error.value).startswith(why)


def test_a_server_name_that_can_not_be_one():
    with pytest.raises(ProbeError, match=r"^\. is no name to ask for in TLS$"):
        to(free_port(), tls=Tls(server_name="."))


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
            with to(router.port, tls=Tls(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem")) as client:
                assert client.handshake is not None
            with pytest.raises(ProbeError, match="it wants a client's certificate: give --tls-cert and --tls-key"):
                to(router.port, tls=Tls())
        finally:
            router.stop()


def test_files_that_can_not_be_used(tmp_path):
    (tmp_path / "empty.pem").write_bytes(b"")
    for given in ({"ca": tmp_path / "none"}, {"ca": tmp_path / "empty.pem"}, {"cert": tmp_path / "none"}):
        with pytest.raises(OSError, match=r"No such file|NO_CERTIFICATE"):
            to(1, tls=Tls(**given))


def test_an_address_is_written_as_it_is_given():
    assert str(Address("::1", 9004)) == "[::1]:9004"
    assert str(Address("bbr", 9004)) == "bbr:9004"


def test_text_of_a_peer_is_plain():
    assert plain("a\x1b\n\u202e") == r"a\x1b\n\u202e"
    assert plain("x" * 400) == "x" * 300 + "..."


def test_a_call_may_be_reset_behind_its_end():
    ending = ended([*OK, ("grpc-status", "12")]) + h2_frames.frame(h2_frames.RST_STREAM, 0, 1, bytes(4))
    answer = h2_frames.frame(h2_frames.HEADERS, h2_frames.END_HEADERS, 3, block(OK)) + h2_frames.data(
        3, framed(b"pong")
    )
    with speaking(SETTINGS + ending + answer) as port, to(port) as client:
        with pytest.raises(CallEndedError):
            client.open("/service/Method").receive()
        assert client.open("/service/Other").receive() == b"pong"
