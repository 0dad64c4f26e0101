import socket
import threading

import pytest

from bench.harness import http1

OK = b"HTTP/1.1 200 OK\r\nX-Pool: a\r\nx-pool:  b \r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n" + http1.chunked(b"he", b"llo")


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(("octets", "status"), [(OK, 200), (CHUNKED, 404)])
def test_replies_are_read_in_whatever_pieces_they_come(octets, status, step):
    reader = http1.ReplyReader()
    found = [reply for at in range(0, len(octets), step) for reply in reader.feed(octets[at : at + step])]
    assert [(reply.status, reply.body) for reply in found] == [(status, b"hello")]
    assert not reader.begun


def test_names_are_in_lower_case_and_the_last_value_counts():
    (reply,) = http1.ReplyReader().feed(OK)
    assert reply.headers == {"x-pool": "b", "content-length": "5"}


def test_several_replies_and_interim_ones():
    found = http1.ReplyReader().feed(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + CHUNKED)
    assert [reply.status for reply in found] == [200, 404]


def test_what_follows_a_switch_of_protocols_is_not_http():
    reader = http1.ReplyReader()
    (reply,) = reader.feed(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x00")
    assert (reply.status, reader.rest) == (101, b"\x81\x00")


@pytest.mark.parametrize("octets", [b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"])
def test_what_is_no_http_is_an_error(octets):
    with pytest.raises(ConnectionError, match=r"this is no HTTP/1\.1: b'"):
        http1.ReplyReader().feed(octets)


def test_requests_are_what_a_caller_writes():
    assert http1.head("GET", "/a b", [("X-Odd", "1"), ("X-Odd", "2")]) == (
        b"GET /a b HTTP/1.1\r\nhost: gateway.test\r\nX-Odd: 1\r\nX-Odd: 2\r\n\r\n"
    )
    assert http1.post("/v1", b"{}", x_one="1").endswith(
        b"content-type: application/json\r\ncontent-length: 2\r\nx-one: 1\r\n\r\n{}"
    )
    assert http1.chunked(b"0123456789abcdef", trailers=b"x: y\r\n") == b"10\r\n0123456789abcdef\r\n0\r\nx: y\r\n\r\n"


@pytest.fixture
def answering():
    """Give a function that serves one connection with these octets, and returns the port."""
    threads = []

    def start(octets):
        server = socket.create_server(("127.0.0.1", 0))

        def serve():
            with server, server.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(octets)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return server.getsockname()[1]

    yield start
    for thread in threads:
        thread.join()


def test_a_request_has_its_reply(answering):
    assert http1.request(answering(OK), "POST", "/", body=b"x").body == b"hello"


@pytest.mark.parametrize(("octets", "said"), [(b"", "without a response"), (OK[:-1], "in mid-response")])
def test_a_connection_that_ends_first_is_an_error(answering, octets, said):
    with pytest.raises(ConnectionError, match=said):
        http1.request(answering(octets), "GET", "/")
