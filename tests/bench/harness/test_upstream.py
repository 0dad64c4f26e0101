import pytest

from bench.harness import http1
from bench.harness.upstream import Connection, reply, whole

CHUNKED = [("transfer-encoding", "chunked")]


class Transport:
    """What a connection writes on."""

    def __init__(self):
        self.written = b""
        self.state = "open"

    def write(self, octets):
        self.written += octets

    def close(self):
        self.state = "closed"

    def abort(self):
        self.state = "aborted"


class Taker:
    """Notes what comes."""

    def __init__(self, connection, head):
        self.connection = connection
        self.head = head
        self.came = []

    def take(self, piece):
        self.came.append(piece)

    def end(self, trailers):
        self.came.append(trailers)
        self.connection.write(b"answered ")

    def lost(self):
        self.came.append("lost")


class Talk:
    """A connection and what comes of it."""

    def __init__(self):
        self.takers = []
        self.malformed = []
        self.transport = Transport()
        self.connection = Connection(self._begin, self.malformed.append)
        self.connection.connection_made(self.transport)

    def _begin(self, connection, head):
        assert head.fields is head.fields
        self.takers.append(Taker(connection, head))
        return self.takers[-1]

    def send(self, octets, step=1 << 20):
        for at in range(0, len(octets), step):
            self.connection.data_received(octets[at : at + step])


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_requests_come_one_by_one(step):
    talk = Talk()
    first = http1.head("POST", "/a?b=c", [("X-Odd", "模型"), *CHUNKED]) + http1.chunked(
        b"he", b"llo", trailers=b"X-T:  1\r\n"
    )
    talk.send(first + http1.head("GET", "/", []), step)
    one, two = talk.takers
    assert (one.head.method, one.head.target) == ("POST", "/a?b=c")
    assert one.head.fields == [("host", "gateway.test"), ("X-Odd", "模型"), ("transfer-encoding", "chunked")]
    assert one.head.header("x-ODD") == ["模型"]
    assert b"".join(one.came[:-1]) == b"hello"
    assert one.came[-1] == [("X-T", "1")]
    assert (two.head.method, two.came) == ("GET", [[]])
    assert talk.transport.written == b"answered answered "
    assert talk.transport.state == "open"


def test_a_request_that_breaks_off_is_told():
    talk = Talk()
    talk.send(http1.head("POST", "/", [("content-length", "5")]) + b"he")
    talk.connection.connection_lost(None)
    assert talk.takers[0].came == [b"he", "lost"]


def test_a_connection_that_ends_between_requests_is_no_loss():
    talk = Talk()
    talk.send(http1.head("GET", "/", []))
    talk.connection.connection_lost(None)
    assert talk.takers[0].came == [[]]


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_what_follows_an_upgrade_goes_to_its_taker(method, step):
    talk = Talk()
    fields = [("connection", "upgrade"), ("upgrade", "websocket")] if method == "GET" else []
    talk.send(http1.head(method, "/" if fields else "a:1", fields) + b"GET / no more HTTP", step)
    (taker,) = talk.takers
    assert taker.head.upgrade
    assert taker.came[0] == []
    assert b"".join(taker.came[1:]) == b"GET / no more HTTP"


def test_a_client_that_says_so_is_left():
    talk = Talk()
    talk.send(http1.head("GET", "/", [("connection", "close")]))
    assert talk.transport.state == "closed"


@pytest.mark.parametrize(
    "octets",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n: no name\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nxy\r\n",
        b"x" * (2 << 20),
    ],
)
def test_what_is_no_http_is_told_and_ends_the_connection(octets):
    talk = Talk()
    talk.send(octets)
    (told,) = talk.malformed
    assert octets.endswith(told)
    assert talk.transport.state == "aborted"


def test_any_method_is_taken():
    talk = Talk()
    talk.send(b"BREW /pot HTTP/1.1\r\n\r\n")
    assert talk.takers[0].head.method == "BREW"


def test_whole_requests_are_answered_by_head_and_body():
    connection = whole(lambda head, body: reply(body.upper(), x_path=head.target))()
    connection.connection_made(transport := Transport())
    connection.data_received(http1.head("POST", "/a", CHUNKED) + http1.chunked(b"he", b"llo"))
    (answer,) = http1.ReplyReader().feed(transport.written)
    assert (answer.status, answer.headers["x-path"], answer.body) == (200, "/a", b"HELLO")


def test_a_reply():
    assert reply(b"no", "404 Not Found", x_a="b") == b"HTTP/1.1 404 Not Found\r\nx-a: b\r\ncontent-length: 2\r\n\r\nno"
