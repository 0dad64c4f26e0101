"""Whatever a server sends, the probe says in one sentence what is wrong, and ends."""

from hypothesis import example, given
from hypothesis import strategies as st

from bbr.commands.probe.client import Client
from bbr.commands.probe.wire import ProbeError
from bench.harness import h2_frames

SETTINGS = h2_frames.frame(h2_frames.SETTINGS)


class Script:
    """A wire whose peer says what is written, and then nothing more."""

    scheme, authority, handshake, speaks_http2 = "http", "peer", None, False

    def __init__(self, octets):
        self.rest = octets
        self.sent = 0

    def read(self, size):
        if len(self.rest) < size:
            raise ProbeError("no answer within 5 s")
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def send(self, octets):
        self.sent += len(octets)

    def close(self):
        self.rest = b""


OK = b"\x88\x5f\x10application/grpc"  # RFC 7541: :status 200, and content-type by its index
frames = st.builds(
    h2_frames.frame,
    st.integers(0, 12),
    st.sampled_from([0, 1, 4, 5, 8, 9, 0x20, 0x2D]) | st.integers(0, 255),
    st.sampled_from([0, 1, 1, 1, 3, 0x7FFFFFFF]),
    st.sampled_from([b"", OK, bytes(4), bytes(5), bytes(8), b"\x00\x00\x00\x00\x04pong", b"\x00\x05" + b"\xff" * 4])
    | st.binary(max_size=40),
)


@given(st.lists(frames, max_size=12), st.integers(0, 60))
@example([h2_frames.frame(h2_frames.HEADERS, 0x24, 1, bytes(5) + OK)], 0)
@example([h2_frames.frame(h2_frames.GOAWAY, 0, 0, b"\x7f\xff\xff\xff" + bytes(4))], 0)
def test_a_server_is_refused_in_one_sentence(said, cut):
    octets = SETTINGS + b"".join(said)
    sentence = ""
    script = Script(octets[: len(octets) - cut] if cut else octets)
    try:
        with Client(script) as client:
            call = client.open("/service/Method")
            call.send(bytes(100), end=True)
            while True:
                call.receive()
    except ProbeError as error:
        sentence = str(error)
    assert sentence
    assert "\n" not in sentence
    assert script.sent < 100_000


@given(st.binary(max_size=64))
@example(b"HTTP/1.1 400 Bad Request\r\n")
@example(b"\x15\x03\x01\x00\x02\x02\x28" + bytes(4))
def test_what_is_no_http2_is_refused_in_one_sentence(octets):
    sentence = ""
    try:
        Client(Script(octets))
    except ProbeError as error:
        sentence = str(error)
    assert "\n" not in sentence
    assert sentence or octets[3:5] == b"\x04\x00"
