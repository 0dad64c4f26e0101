import pytest

from bench.harness import http1, upstream
from bench.harness.background import Background

BODY = b"x" * 100_000


@pytest.fixture
def port():
    with Background() as background:
        server = background.run(listen(background.loop))
        yield server.sockets[0].getsockname()[1]
        background.run(close(server))


async def listen(loop):
    return await loop.create_server(lambda: upstream.Upstream("pool"), "127.0.0.1", 0)


async def close(server):
    server.close()  # in the loop's own thread: it may be taking a connection


@pytest.mark.parametrize(
    ("headers", "sent", "body"),
    [
        ([("content-length", "5")], b"hello", b"hello"),
        ([("Content-Length", str(len(BODY)))], BODY, BODY),
        ([("content-length", "0")], b"", b""),
        ([], b"", b""),
        ([("transfer-encoding", "chunked")], http1.chunked(b"he", b"llo"), b"hello"),
        ([("transfer-encoding", "chunked")], http1.chunked(BODY[:30_000], BODY[30_000:]), BODY),
    ],
)
def test_a_pool_tells_what_came(port, headers, sent, body):
    reply = http1.exchange(port, http1.head("POST", "/", headers) + sent)
    assert reply.status == 200
    assert reply.body == upstream.tale("pool", body)


def test_bodies_are_told_apart():
    assert len({upstream.tale(pool, body) for pool in ("a", "b") for body in (b"", b"x", b"y", b"xx")}) == 8


def test_a_chunked_body_is_taken_when_it_is_complete():
    octets = http1.chunked(b"hello", b" and more")
    for end in range(len(octets)):
        assert upstream.unchunk(octets[:end]) is None
    assert upstream.unchunk(octets) == b"hello and more"
