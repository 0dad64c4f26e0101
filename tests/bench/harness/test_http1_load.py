import asyncio

import pytest

from bench.harness import http1_load
from bench.harness.background import Background
from bench.harness.upstream import reply, whole

BODY = b"x" * 3_000_000
FIELDS = {":method": "POST", ":path": "/v1", ":authority": "gateway.test", "accept": "*/*"}
SHORT = http1_load.request(FIELDS, b"hello")
TOLD = b"hello, 5"


class Answering(asyncio.Protocol):
    """A server that answers whatever it reads with the same octets; with none it closes."""

    def __init__(self, octets):
        self._octets = octets

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        if self._octets is None:
            self._transport.close()
        else:
            self._transport.write(self._octets)


@pytest.fixture
def serve():
    with Background() as background:
        servers = []

        def start(factory):
            server = background.run(listen(background.loop, factory))
            servers.append(server)
            return server.sockets[0].getsockname()[1]

        yield start
        for server in servers:
            background.run(close(server))


async def listen(loop, factory):
    return await loop.create_server(factory, "127.0.0.1", 0)


async def close(server):
    server.close()


pool = whole(lambda _, body: reply(told(body)))


def told(body):
    return b"%s, %d" % (body[:5], len(body))


def test_a_request():
    assert SHORT == b"POST /v1 HTTP/1.1\r\naccept: */*\r\nhost: gateway.test\r\ncontent-length: 5\r\n\r\nhello"


def test_a_closed_loop_sends_one_on_each_connection_and_goes_on_for_its_time(serve):
    with http1_load.Client(serve(pool), 4) as client:
        once = client.closed(SHORT, TOLD, 0.0)
        longer = client.closed(SHORT, TOLD, 0.05)
    assert len(once.took) == 4
    assert len(longer.took) > 4
    assert longer.seconds >= 0.05
    assert longer.late == []
    # The first on each connection met an idle gateway: answered, and no latency of a closed loop's.
    assert longer.answered == len(longer.took) + 4
    assert once.answered == 4
    assert longer.rate == longer.answered / longer.seconds
    assert all(0 < took < longer.seconds for took in longer.took)


def test_bodies_that_no_socket_takes_at_once(serve):
    with http1_load.Client(serve(pool), 4) as client:
        run = client.closed(http1_load.request(FIELDS, BODY), told(BODY), 0.0)
    assert len(run.took) == 4


def test_an_open_loop_keeps_its_rate(serve):
    with http1_load.Client(serve(pool), 8) as client:
        run = client.open(SHORT, TOLD, 1_000, 0.05)
    assert len(run.took) == len(run.late) == 50
    assert run.seconds >= 49 / 1_000
    assert min(run.late) >= 0
    assert run.rate <= 50 / (49 / 1_000)


def test_what_waits_for_a_connection_counts_from_when_it_was_due(serve):
    rate = 1_000_000
    with http1_load.Client(serve(pool), 1) as client:
        run = client.open(SHORT, TOLD, rate, 50 / rate)
    assert len(run.took) == 50
    for before, late, took in zip(run.took, run.late[1:], run.took[1:], strict=False):
        assert late >= before - 1.1 / rate  # each had to wait for the reply before it
        assert took > late


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "answered by 404 b''"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad", "b'bad' instead of"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "b'' instead of"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n" + b"y" * 99, "yyy' instead of"),
        (b"HTTP/1.1 200 OK\r\nx-odd: \x00\r\n\r\n", "this is no HTTP/1.1"),
        (None, "has closed a connection$"),
        (b"HTTP/1.1 2", "no reply within 0.1 s"),
    ],
)
def test_a_wrong_reply_is_told(serve, answer, reason):
    with (
        http1_load.Client(serve(lambda: Answering(answer)), 1, 0.1 if "no reply" in reason else 90.0) as client,
        pytest.raises(http1_load.WrongReplyError, match=reason),
    ):
        client.closed(SHORT, TOLD, 0.0)
