from bench.harness.upstream import Head, reply
from bench.published.gateway_pools import answer, tale

HEAD = Head("POST", "/")


def test_bodies_are_told_apart():
    assert len({tale(pool, body) for pool in ("a", "b") for body in (b"", b"x", b"y", b"xx")}) == 8


def test_a_pool_tells_what_came_each_time():
    answered = answer("pool")
    for body in (b"one", b"one", b"two", b"", b"one"):
        assert answered(HEAD, body) == reply(tale("pool", body), content_type="text/plain")
