import hashlib
import socket

import pytest

from bench.harness import http1
from bench.harness.background import Background
from bench.harness.recording import Upstreams
from tests.support.waiting import until

UPGRADE = [("connection", "upgrade"), ("upgrade", "websocket")]


@pytest.fixture
def background():
    with Background() as background:
        yield background


@pytest.fixture
def upstreams(background):
    upstreams = Upstreams(background)
    upstreams.start("one", "two")
    yield upstreams
    upstreams.stop()


def test_what_came_is_recorded_by_pool(upstreams):
    octets = http1.head("PUT", "/a?b", [("X-Odd", "1"), ("x-odd", "2"), ("transfer-encoding", "chunked")])
    reply = http1.exchange(upstreams.ports["two"], octets + http1.chunked(b"he", b"llo", trailers=b"X-T: 1\r\n"))
    (got,) = upstreams.received
    digest = hashlib.sha256(b"hello").hexdigest()
    assert (reply.body, reply.headers["x-pool"], reply.headers["x-body-sha256"]) == (b"two", "two", digest)
    assert (got.pool, got.method, got.target, got.header("X-ODD")) == ("two", "PUT", "/a?b", ["1", "2"])
    assert (got.size, got.digest, got.complete, got.broken, got.trailers) == (5, digest, True, False, [("X-T", "1")])
    upstreams.forget()
    assert upstreams.received == []


def test_a_request_that_breaks_off_is_broken(upstreams):
    with socket.create_connection(("127.0.0.1", upstreams.ports["one"])) as connection:
        connection.sendall(http1.head("POST", "/", [("content-length", "5")]) + b"he")
        until(lambda: upstreams.received and upstreams.received[0].size == 2)
        assert upstreams.busy == 1
    until(lambda: upstreams.received[0].broken)
    assert (upstreams.received[0].complete, upstreams.received[0].digest) == (False, hashlib.sha256(b"he").hexdigest())
    assert upstreams.busy == 0


def test_what_is_no_http_is_recorded(upstreams):
    with socket.create_connection(("127.0.0.1", upstreams.ports["one"])) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.recv(10) == b""
    (got,) = upstreams.received
    assert (got.method, got.target, got.broken) == ("", "nonsense\r\n\r\n", True)


def test_an_echo_comes_while_the_request_does(upstreams):
    with socket.create_connection(("127.0.0.1", upstreams.ports["one"])) as connection:
        stream = connection.makefile("rb")
        connection.sendall(http1.head("POST", "/echo", [("content-type", "a/b"), ("transfer-encoding", "chunked")]))
        head = b"".join(iter(stream.readline, b"\r\n"))
        assert b"content-type: a/b\r\n" in head
        for piece in (b"he", b"llo"):
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            assert (stream.readline(), stream.readline()) == (b"%x\r\n" % len(piece), piece + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert stream.readline() == b"0\r\n"
        stream.close()


@pytest.mark.parametrize("allowed", ["before", "after"])
def test_the_last_event_waits_until_it_is_allowed(upstreams, background, allowed):
    with socket.create_connection(("127.0.0.1", upstreams.ports["one"])) as connection:
        if allowed == "before":
            upstreams.let_events_end()
        connection.sendall(http1.head("GET", "/events", []))
        if allowed == "after":
            reader = http1.ReplyReader()
            came = connection.recv(1 << 16)
            assert reader.feed(came) == []
            assert b"data: first" in came
            upstreams.let_events_end()
            (reply,) = reader.feed(connection.recv(1 << 16))
        else:
            reply = http1.read(connection)
    assert reply.body == b"data: first\n\ndata: [DONE]\n\n"


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_a_tunnel_is_an_echo(upstreams, method):
    with socket.create_connection(("127.0.0.1", upstreams.ports["one"])) as connection:
        connection.sendall(http1.head(method, "/" if method == "GET" else "a:1", UPGRADE if method == "GET" else []))
        head = connection.recv(1 << 16)
        assert head.startswith(b"HTTP/1.1 101 " if method == "GET" else b"HTTP/1.1 200 ")
        connection.sendall(b"hello")
        assert connection.recv(5) == b"hello"
    assert upstreams.received[0].complete


def test_tunnels_may_be_closed_at_once(background):
    upstreams = Upstreams(background, tunnels=False)
    upstreams.start("one")
    with socket.create_connection(("127.0.0.1", upstreams.ports["one"])) as connection:
        connection.sendall(http1.head("GET", "/", UPGRADE))
        assert b"".join(iter(lambda: connection.recv(100), b"")).startswith(b"HTTP/1.1 101 ")
    upstreams.stop()


def test_head_has_no_body(upstreams):
    with socket.create_connection(("127.0.0.1", upstreams.ports["one"])) as connection:
        connection.sendall(http1.head("HEAD", "/", [("connection", "close")]))
        octets = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert octets.endswith(b"content-length: 3\r\n\r\n")
