import hpack
import pytest

from bbr.commands.probe.client import CallEndedError, Client
from bbr.commands.probe.wire import Address, Deadline, ProbeError, Wire
from bench.harness import h2_frames
from bench.harness.grpc_client import framed
from tests.support.scripted_servers import speaking

SETTINGS = h2_frames.frame(h2_frames.SETTINGS)
OK = [(":status", "200"), ("content-type", "application/grpc")]
DONE = [("grpc-status", "0")]


def block(fields):
    return hpack.Encoder().encode(fields)


def headers(fields, flags=h2_frames.END_HEADERS):
    return h2_frames.frame(h2_frames.HEADERS, flags, 1, block(fields))


def ended(fields):
    return headers(fields, h2_frames.END_HEADERS | h2_frames.END_STREAM)


def to(port, seconds=20.0):
    return Client(Wire(Address("127.0.0.1", port), None, Deadline(seconds)))


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
    "a short reset": (
        SETTINGS + h2_frames.frame(h2_frames.RST_STREAM, 0, 1, b"\x07"),
        "it broke HTTP/2: FrameDataMissingError, Frame data missing or invalid",
    ),
    "data of no call": (SETTINGS + h2_frames.data(7, b"x"), "it broke HTTP/2: NoSuchStreamError, 7"),
    "a header section of no beginning": (
        SETTINGS + h2_frames.frame(h2_frames.CONTINUATION, h2_frames.END_HEADERS, 1, b"x"),
        "it broke HTTP/2: ",
    ),
    "padding of nothing": (
        SETTINGS + h2_frames.frame(h2_frames.DATA, h2_frames.PADDED, 1),
        "it broke HTTP/2: FrameDataMissingError, Frame data missing or invalid",
    ),
    "an undecodable section": (
        SETTINGS + h2_frames.frame(h2_frames.HEADERS, h2_frames.END_HEADERS, 1, b"\xff\xff\xff\xff"),
        "it broke HTTP/2: ProtocolError, Error decoding header block",
    ),
    "a section without end": (
        SETTINGS
        + h2_frames.frame(h2_frames.HEADERS, 0, 1, bytes(9))
        + 65 * h2_frames.frame(h2_frames.CONTINUATION, 0, 1, bytes(16_384)),
        "it broke HTTP/2: ProtocolError, Too many continuation frames received",
    ),
    "another status": (
        SETTINGS + headers([(":status", "404")]),
        "it is not a gRPC server: it answered with HTTP status 404",
    ),
    "a message too long": (
        SETTINGS + headers(OK) + h2_frames.data(1, b"\x00\xff\xff\xff\xff"),
        "it broke gRPC: a message of 4294967295 bytes is larger than 1048576",
    ),
    "a status": (
        SETTINGS + ended([*OK, ("grpc-status", "14"), ("grpc-message", "not%20now%0A")]),
        r"the call ended with gRPC status 14: not now\n",
    ),
    "a status of many digits": (
        SETTINGS + ended([*OK, ("grpc-status", "1" * 5_000)]),
        "the call ended with gRPC status 2",
    ),
    "a status in other digits": (
        SETTINGS + ended([*OK, ("grpc-status", "\u0661".encode())]),
        "the call ended with gRPC status 2",
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


@pytest.mark.parametrize("octets", [b"", SETTINGS], ids=["nothing", "SETTINGS alone"])
def test_a_server_that_does_not_answer(octets):
    with (
        pytest.raises(ProbeError, match=r"^no answer within 0\.2 s$"),
        speaking(octets) as port,
        to(port, 0.2) as client,
    ):
        client.open("/service/Method").receive()


def test_a_server_that_reads_nothing_does_not_hold_up_the_end():
    window = h2_frames.frame(h2_frames.SETTINGS, 0, 0, b"\x00\x04\x00\xff\xff\xff")
    with pytest.raises(ProbeError, match="no answer within"), speaking(window) as port, to(port, 0.2) as client:
        client.open("/service/Method").send(bytes(1 << 20))


def test_no_call_is_begun_after_a_goodbye():
    last = h2_frames.frame(h2_frames.GOAWAY, 0, 0, (1).to_bytes(4, "big") + bytes(4))
    with speaking(SETTINGS + last + ANSWER) as port, to(port) as client:
        assert client.open("/service/Method").receive() == b"pong"
        with pytest.raises(ProbeError, match=r"^it closes the connection: GOAWAY NO_ERROR$"):
            client.open("/service/Other")


def test_more_is_taken_than_one_window_has():
    large = b"".join(h2_frames.data(1, bytes(16_384)) for _ in range(12))
    with (
        speaking(
            SETTINGS + headers(OK) + h2_frames.data(1, b"\x00" + (12 * 16_384).to_bytes(4, "big")) + large
        ) as port,
        to(port) as client,
    ):
        assert client.open("/service/Method").receive() == bytes(12 * 16_384)


def test_a_call_may_be_reset_behind_its_end():
    ending = ended([*OK, ("grpc-status", "12")]) + h2_frames.frame(h2_frames.RST_STREAM, 0, 1, bytes(4))
    answer = h2_frames.frame(h2_frames.HEADERS, h2_frames.END_HEADERS, 3, block(OK)) + h2_frames.data(
        3, framed(b"pong")
    )
    with speaking(SETTINGS + ending + answer) as port, to(port) as client:
        with pytest.raises(CallEndedError):
            client.open("/service/Method").receive()
        assert client.open("/service/Other").receive() == b"pong"
