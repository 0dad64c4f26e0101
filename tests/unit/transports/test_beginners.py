import asyncio
import ssl

from bbr.transports.beginners import SHELTER_SECONDS, SHELTERED, Beginners
from bench.harness.certificates import client_context
from tests.support.loops import in_loop
from tests.support.uv_server import CREDENTIALS, PREFACE, SETTINGS, Uv


class Newcomer:
    """A connection that has only begun."""

    def __init__(self, address: str = "192.0.2.1") -> None:
        self.sheltered_until = 0.0
        self.address = address
        self.beginning = True
        self.handshaking = True


def sheltered(newcomers: list[Newcomer]) -> list[bool]:
    return [each.sheltered_until > 0.0 for each in newcomers]


def added(beginners: Beginners, count: int, address: str = "192.0.2.1", now: float = 10.0) -> list[Newcomer]:
    newcomers = [Newcomer(address) for _ in range(count)]
    for each in newcomers:
        beginners.add(each, now)
    return newcomers


def test_the_first_few_of_an_address_are_sheltered_for_a_while():
    newcomers = added(Beginners(), SHELTERED + 2)
    assert sheltered(newcomers) == [True] * SHELTERED + [False] * 2
    assert newcomers[0].sheltered_until == 10.0 + SHELTER_SECONDS


def test_no_address_takes_the_place_of_another():
    beginners = Beginners()
    added(beginners, 100)
    assert sheltered(added(beginners, 1, "192.0.2.2")) == [True]
    added(beginners, 100, "2001:db8::1")
    assert sheltered(added(beginners, 1, "2001:db8::2")) == [False]  # one client has all of its /64
    assert sheltered(added(beginners, 1, "2001:db8:0:1::1")) == [True]


def test_one_that_has_begun_leaves_its_place_to_another():
    beginners = Beginners()
    newcomers = added(beginners, SHELTERED)
    newcomers[1].beginning = False
    assert sheltered(added(beginners, 2)) == [True, False]
    for each in newcomers:
        each.beginning = False
    assert sheltered(added(beginners, SHELTERED)) == [True] * (SHELTERED - 1) + [False]


def test_one_that_has_shaken_hands_and_is_silent_leaves_its_place_to_a_newer_one():
    beginners = Beginners()
    newcomers = added(beginners, SHELTERED)
    for each in newcomers[3:5]:
        each.handshaking = False
    newer = added(beginners, 3)
    assert sheltered(newer) == [True, True, False]
    assert sheltered(newcomers) == [place not in (3, 4) for place in range(SHELTERED)]


def test_so_does_one_that_is_gone_or_takes_too_long():
    beginners = Beginners()
    newcomers = added(beginners, SHELTERED + 1)
    beginners.gone(newcomers[2])
    beginners.gone(newcomers[-1])
    assert sheltered(added(beginners, 2)) == [True, False]
    assert sheltered(added(beginners, SHELTERED + 1, now=10.0 + SHELTER_SECONDS)) == [True] * SHELTERED + [False]


def test_nothing_is_remembered_of_those_that_are_gone():
    beginners = Beginners()
    for place in range(1000):
        for each in added(beginners, 2, f"192.0.2.{place % 256}"):
            beginners.gone(each)
    assert (beginners._networks, beginners._sheltered) == ({}, {})


def test_those_that_stay_are_forgotten_after_a_while():
    beginners = Beginners()
    for place in range(256):
        added(beginners, SHELTERED, f"192.0.2.{place}", now=float(place))
    assert len(beginners._networks) == SHELTERED
    assert list(beginners._sheltered) == ["192.0.2.255"]


@in_loop
async def test_a_handshake_outlives_those_who_have_said_something_meanwhile():
    async with Uv(tls=True, limits={"max_connections": 2}) as server:
        served = await server.client()
        await served.ping()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_context(CREDENTIALS.chain_pem, "h2").wrap_bio(incoming, outgoing, server_hostname="localhost")
        assert not finished(tls)
        writer.write(outgoing.read())
        incoming.write(await reader.read(1 << 16))
        await served.ping()
        last = await server.client()  # one too many
        await served.goaway(0)
        while not finished(tls):
            incoming.write(await reader.read(1 << 16))
        tls.write(PREFACE + SETTINGS)
        writer.write(outgoing.read())
        assert await reader.read(1)
        await last.ping()
        writer.transport.abort()
        for client in (served, last):
            await client.close()
        await server.all_gone()


def finished(tls: ssl.SSLObject) -> bool:
    """Go on with a handshake; return whether it is over."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
