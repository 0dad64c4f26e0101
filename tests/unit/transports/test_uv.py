"""What the native transport alone has; the rest is in tests/parity, over both transports."""

import asyncio
import contextlib
import logging
import socket
import ssl
import time

import pytest

from bbr.exchange.policy import BodyMode
from bbr.transports import uv
from bbr.transports.handshakes import Handshakes
from bbr.transports.uv_socket import Pace
from bench.harness import messages
from bench.harness.certificates import Authority, client_context, credentials
from bench.harness.grpc_client import GrpcFrames, framed
from tests.support.clock import Clock
from tests.support.loops import in_loop
from tests.support.uv_server import CREDENTIALS, PREFACE, SETTINGS, Uv, frames

HEADERS = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)
WHOLE = messages.request_body(b'{"model": "m"}', end_of_stream=True)
GOAWAY = 7
MAX_ID = 2**31 - 1

both = pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "TLS"])


def last_ids(octets: bytes) -> list[int]:
    return [int.from_bytes(payload[:4], "big") for kind, payload in frames(octets) if kind == GOAWAY]


async def goaways(reader, writer) -> list[int]:
    """Say that the first GOAWAY has been read, and return the last ids of all until the connection's end."""
    received = b""
    while not last_ids(received):
        received += await reader.read(65536)
    writer.write(b"\x00\x00\x08\x06\x01" + bytes(4) + b"bbr-away")
    return last_ids(received + await reader.read())


def assert_told_once(caplog, text, begun) -> None:
    """Assert that one line tells of it in ten seconds, however often it happens."""
    assert caplog.messages[0] == text
    assert len(caplog.messages) <= 1 + (time.monotonic() - begun) / 10


async def answered(client) -> None:
    """Send one exchange and await its answers."""
    call = client.call()
    client.send(call, framed(HEADERS) + framed(WHOLE))
    client.flush()
    await client.messages(call, 2)


@in_loop
async def test_unary_call_without_a_message_is_refused():
    async with Uv() as server:
        client = await server.client()
        call = client.call("/grpc.health.v1.Health/Check")
        client.send(call, b"", end_stream=True)
        client.flush()
        stream = await client.ended(call)
        assert (stream.headers["grpc-status"], stream.messages) == ("13", [])
        await client.close()


@in_loop
async def test_connection_without_requests_is_closed_at_once_by_a_drain():
    async with Uv() as server:
        client = await server.client()
        await client.ping()
        stop = asyncio.create_task(server.server.stop(60))
        while not client.closed:
            await client.receive()
        await client.close()
        await stop


@both
@in_loop
async def test_what_was_sent_before_the_goaway_was_read_is_never_refused_however_late_it_comes_j4(tls, monkeypatch):
    ticks = asyncio.Semaphore(0)
    tick = uv.UvServer._tick
    monkeypatch.setattr(uv.UvServer, "_tick", lambda server: (tick(server), ticks.release()))
    async with Uv(tls=tls) as server:
        client = await server.client()
        call = client.call()
        client.send(call, framed(HEADERS))
        client.flush()
        await client.ping()
        stop = asyncio.create_task(server.server.stop(60))
        for _ in range(10):  # of the drain's looks at its connections; the gateway does not read meanwhile
            await ticks.acquire()
        late = [client.call() for _ in range(20)]
        for each in late:
            client.send(each, framed(HEADERS) + framed(WHOLE))
        client.flush()
        for each in late:
            assert len(await client.messages(each, 2)) == 2
            client.reset(each, 0)
        await client.goaway(late[-1])
        client.send(call, framed(WHOLE), end_stream=True)
        client.flush()
        assert len(await client.messages(call, 2)) == 2
        await client.ended(call)
        await client.close()
        await stop
        assert len(server.ended) == 21


@in_loop
async def test_a_peer_that_never_says_that_it_has_read_the_goaway_is_refused_all_the_same():
    async with Uv(pace=Pace(goaway_gap_seconds=0.1)) as server:
        reader, writer = await server.connect()
        writer.write(PREFACE + SETTINGS)
        stop = asyncio.create_task(server.server.stop(60))
        assert last_ids(await reader.read()) == [MAX_ID, 0]
        writer.close()
        await stop


@both
@in_loop
async def test_drain_tells_both_goaways_and_closes_j4(tls):
    async with Uv(tls=tls) as server:
        reader, writer = await server.connect()
        writer.write(PREFACE + SETTINGS)
        stop = asyncio.create_task(server.server.stop(60))
        # To the end: after the second one the connection is closed. Nothing had been asked.
        assert await goaways(reader, writer) == [MAX_ID, 0]
        writer.close()
        await stop
        assert server.connections == 0


@both
@in_loop
async def test_drain_lets_a_running_call_finish_and_refuses_new_ones_j4(tls):
    async with Uv(tls=tls) as server:
        client = await server.client()
        call = client.call()
        client.send(call, framed(HEADERS))
        client.flush()
        await client.ping()
        stop = asyncio.create_task(server.server.stop(20))
        await client.goaway(call)
        late = client.call()
        client.send(late, framed(HEADERS) + framed(WHOLE))
        client.flush()
        assert (await client.ended(late)).reset == 7  # REFUSED_STREAM
        client.send(call, framed(WHOLE), end_stream=True)
        client.flush()
        assert len(await client.messages(call, 2)) == 2
        await client.ended(call)
        await client.close()
        await stop
        assert len(server.ended) == 1


@both
@pytest.mark.parametrize("seconds", [0.05, 0.3], ids=["less than the gap between the GOAWAYs", "more"])
@in_loop
async def test_drain_is_over_in_its_time_whatever_still_runs(tls, seconds, caplog):
    async with Uv(tls=tls) as server:
        client = await server.client()
        call = client.call()
        client.send(call, framed(HEADERS))
        client.flush()
        await client.ping()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await server.server.stop(seconds)
        assert seconds - 0.01 < loop.time() - begin < seconds + 30  # the call would go on for ever
        client.abort()
        await server.all_gone()
        assert len(server.ended) == 1
    assert caplog.messages == ["1 connections still had requests after the drain"]


@in_loop
async def test_peer_that_does_not_close_is_no_request_that_was_cut_off(caplog):
    async with Uv() as server:
        client = await server.client()
        await client.ping()
        await server.server.stop(0.3)
        client.abort()
    assert caplog.messages == []


@in_loop
async def test_connection_in_its_tls_handshake_does_not_hold_up_a_drain():
    async with Uv(tls=True) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"\x16\x03\x01")
        await server.has(1)
        stop = asyncio.create_task(server.server.stop(600))  # longer than the test may take
        assert await reader.read() == b""
        writer.close()
        await stop


@in_loop
async def test_connections_over_the_limit_are_closed_at_once_if_no_other_is_idle(caplog):
    begun = time.monotonic()
    async with Uv(limits={"max_connections": 2}) as server:
        clients = [await server.client() for _ in range(2)]
        for client in clients:
            await answered(client)  # whose exchange goes on
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            with_what = b""
            with contextlib.suppress(ConnectionResetError):
                with_what = await reader.read()
            assert with_what == b""
            writer.close()
        for client in clients:
            await answered(client)
        await clients.pop().close()
        while server.connections > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        clients.append(await server.client())
        for client in clients:
            await answered(client)
            await client.close()
        assert server.server.roster.turned_away.total == 20
    assert_told_once(caplog, "a connection over --max-connections=2 was closed", begun)


@both
@in_loop
async def test_the_connection_that_was_idle_the_longest_makes_room_and_is_told_so(tls, caplog):
    async with Uv(tls=tls, limits={"max_connections": 2}) as server:
        old, other = await server.client(), await server.client()
        await old.ping()
        await other.ping()
        new = await server.client()
        await new.ping()
        await old.goaway(0)
        while not old.closed:
            await old.receive()
        for client in (other, new):
            await answered(client)
        for client in (old, other, new):
            await client.close()
        await server.all_gone()
    assert caplog.messages == ["a connection over --max-connections=2 was closed"]


@both
@in_loop
async def test_a_call_that_crosses_the_end_of_a_connection_that_makes_room_is_answered(tls):
    async with Uv(tls=tls, limits={"max_connections": 2}) as server:
        clients = [await server.client(), await server.client()]
        for client in clients:
            call = client.call("/grpc.health.v1.Health/Check")
            client.send(call, framed(b""), end_stream=True)
            client.flush()
            await client.ended(call)
        clients.append(await server.client())
        await clients[-1].ping()
        old = clients[0]
        call = old.call("/grpc.health.v1.Health/Check")  # it has not read its GOAWAY
        old.send(call, framed(b""), end_stream=True)
        old.flush()
        assert (await old.ended(call)).headers["grpc-status"] == "0"
        await old.goaway(call)  # the last of two, which may have come together
        while not old.closed:
            await old.receive()
        for client in clients:
            await client.close()
        await server.all_gone()


@in_loop
async def test_who_holds_all_connections_of_a_health_port_shuts_no_probe_out():
    limits = {"max_connections": 3, "spare_connections": 2, "busy_give_way": True}
    async with Uv(limits=limits) as server:
        watching = [await server.client() for _ in range(10)]
        for client in watching:
            call = client.call("/grpc.health.v1.Health/Watch")
            client.send(call, framed(b""))
            client.flush()
        silent = [await server.connect() for _ in range(20)]
        for _ in range(5):
            probe = await server.client()
            call = probe.call("/grpc.health.v1.Health/Check")
            probe.send(call, framed(b""), end_stream=True)
            probe.flush()
            assert (await probe.ended(call)).headers["grpc-status"] == "0"
            await probe.close()
        while server.connections > 3:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        for client in watching:
            client.abort()
        for _, writer in silent:
            writer.transport.abort()
        await server.all_gone()


@both
@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
@in_loop
async def test_age_of_a_connection_has_a_jitter_of_a_tenth(tls, jitter):
    async with Uv(tls=tls, limits={"max_age_seconds": 100}, jitter=jitter) as server:
        clock = time.monotonic
        begin = clock()
        client = await server.client()
        await client.ping()
        (connection,) = server.server.roster.connections
        age = 90 + 20 * jitter
        rounding = 1e-6
        assert begin - rounding <= connection.retire_at - age <= clock() + rounding
        await client.close()


@in_loop
async def test_connection_that_is_too_old_tells_both_goaways_and_closes_j6():
    async with Uv(limits={"max_age_seconds": 0.05}) as server:
        reader, writer = await server.connect()
        writer.write(PREFACE + SETTINGS)
        assert await goaways(reader, writer) == [MAX_ID, 0]
        writer.close()
        await server.all_gone()


@in_loop
async def test_call_of_a_connection_that_is_too_old_may_finish_j6():
    async with Uv(limits={"max_age_seconds": 0.05}) as server:
        client = await server.client()
        call = client.call()
        client.send(call, framed(HEADERS))
        client.flush()
        await client.goaway(call)
        client.send(call, framed(WHOLE), end_stream=True)
        client.flush()
        assert len((await client.ended(call)).messages) == 2
        await client.close()
        await server.all_gone()


@in_loop
async def test_call_that_outlives_the_grace_is_cut_off(caplog):
    clock = Clock()
    async with Uv(clock=clock, limits={"max_age_seconds": 100.0, "grace_seconds": 5.0}) as server:
        client = await server.client()
        call = client.call()
        client.send(call, framed(HEADERS))
        client.flush()
        (connection,) = server.server.roster.connections
        while not connection.calls:  # noqa: ASYNC110
            await asyncio.sleep(0)
        connection.retire_at = clock.now
        await client.goaway(call)
        clock.now += 6.0
        await server.all_gone()
        assert len(server.ended) == 1
        client.abort()
    assert caplog.messages == ["1 requests outlived their connection's age and grace: cut off"]


@pytest.mark.interpreted("replaces a method of a connection")
@in_loop
async def test_fault_in_one_connections_tick_is_no_other_connections(monkeypatch, caplog):
    async with Uv() as server:
        good, bad = await server.client(), await server.client()
        for client in (good, bad):
            await client.ping()
        (broken,) = [
            each
            for each in server.server.roster.connections
            if each._socket.transport.get_extra_info("peername")[1] == bad.port
        ]

        def fail(_now):
            raise ValueError("ours")

        monkeypatch.setattr(broken._rpc, "expire", fail)
        while not bad.closed:
            await bad.receive()
        await answered(good)
        for client in (good, bad):
            await client.close()
    assert [(record.levelno, record.exc_info[0]) for record in caplog.records] == [(logging.ERROR, ValueError)]


def failing_at_first(call, *failures):
    """Return a function that raises these, and then does what `call` does."""
    left = list(failures)

    def fail(*arguments, **options):
        if left:
            raise left.pop(0)
        return call(*arguments, **options)

    return fail


@in_loop
async def test_deadlines_are_kept_after_ticks_that_failed(monkeypatch):
    monkeypatch.setattr(uv.UvServer, "_tick", failing_at_first(uv.UvServer._tick, MemoryError(), MemoryError()))
    async with Uv(duplex_idle_seconds=0.01) as server:
        client = await server.client()
        call = client.call()
        client.send(call, framed(HEADERS))
        client.flush()
        await client.messages(call, 1)
        (exchange,) = server.ended
        assert exchange.verdict.status == 408
        assert server.server._supervisor.failures["deadlines of connections"].restarts == 2
        await client.close()


@in_loop
async def test_watchers_are_told_after_telling_them_has_failed(monkeypatch):
    async with Uv() as server:
        client = await server.client()
        call = client.call("/grpc.health.v1.Health/Watch")
        client.send(call, framed(b""))
        client.flush()
        await client.messages(call, 1)
        tell = failing_at_first(uv.UvConnection.notify_watchers, MemoryError(), MemoryError())
        monkeypatch.setattr(uv.UvConnection, "notify_watchers", tell)
        server.server._serving.stop()
        stream = await client.ended(call)
        assert len(stream.messages) == 2
        assert server.server._supervisor.failures["health watchers"].restarts == 2
        await client.close()


class Working:
    """A connection with work to do."""

    def __init__(self, work):
        self.work = work
        self.scheduled = False
        self.put_off = self.handshaking = False
        self.worked_at = 0.0
        self.turns = 0

    def takes(self, turns, done):
        def work():
            self.turns += 1
            if self.turns == turns:
                done.set()
            return self.turns < turns

        self.work = work
        return self


@in_loop
async def test_work_of_others_goes_on_after_work_that_failed():
    """As if memory ran out where not even the failed connection's end could be seen to."""
    server, failures, loop = Uv().server, [], asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: failures.append(context["exception"]))
    dones = [asyncio.Event() for _ in range(2)]
    broken = Working(failing_at_first(lambda: False, MemoryError(), MemoryError()))
    others = [Working(None).takes(3, done) for done in dones]
    for each in (others[0], broken, others[1]):
        server.schedule(each)
    for done in dones:
        await done.wait()
    server.schedule(broken)
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert [type(each) for each in failures] == [MemoryError] * 2
    assert [each.scheduled for each in (broken, *others)] == [False] * 3


def client_hello() -> bytes:
    """Return the first message of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(CREDENTIALS.chain_pem, "h2").wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


class Gathered(Handshakes):
    """Takes so many first messages before it looks at one, and then one step in a turn of the event loop."""

    def __init__(self, server, count):
        super().__init__(server.clock, server.schedule, work_seconds=0.0)
        self._count = count
        self._gathered = {}  # in order
        self.complete = asyncio.Event()

    def schedule(self, connection):
        if self.complete.is_set():
            super().schedule(connection)
            return
        self._gathered[connection] = None
        if len(self._gathered) == self._count:
            self.complete.set()
            for each in self._gathered:
                super().schedule(each)


@in_loop
async def test_a_new_peer_does_not_wait_for_another_ones_half_open_handshakes():
    hello = client_hello()
    async with Uv(tls=True) as server:
        server.server._handshakes = gathered = Gathered(server.server, 300)
        with contextlib.ExitStack() as stack:
            halves = []
            for _ in range(300):
                halves.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port))))
                halves[-1].sendall(hello)
            await gathered.complete.wait()
            trust = client_context(CREDENTIALS.chain_pem, "h2")
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=trust, server_hostname="localhost", local_addr=("127.0.0.2", 0)
            )
            await reader.readexactly(9)  # of its SETTINGS: the handshake is over
            answered = sum(each.has_replied for each in server.server.roster.connections)
            assert 0 < answered < 150
            writer.transport.abort()


@in_loop
async def test_a_crowd_of_connections_shares_a_turn_of_the_event_loop():
    pace = Pace(crowd=2)
    async with Uv(pace=pace) as server:
        clients = [await server.client() for _ in range(4)]
        for client in clients:
            await client.ping()
        assert server.server.moment_seconds == pace.moment_seconds / 2
        for client in clients[:3]:
            await client.close()
        while len(server.server.roster.connections) > 1:
            await clients[3].ping()
        assert server.server.moment_seconds == pace.moment_seconds
        await clients[3].close()


@in_loop
async def test_new_credentials_are_for_the_next_connection_and_others_live_on():
    authority = Authority()
    async with Uv(tls=True) as server:
        before = await server.client()
        await answered(before)
        server.server.use(credentials(authority.issue("localhost"), authority.root_pem, "gateway.example"))
        shows = client_context(authority.root_pem, "h2", shows=authority.issue("gateway.example"))
        after = await GrpcFrames.connect(server.port, shows)
        await answered(after)
        await answered(before)
        for client in (before, after):
            await client.close()


@in_loop
async def test_client_with_another_name_is_told_nothing_of_http2(caplog):
    begun = time.monotonic()
    caplog.set_level(logging.INFO)
    authority = Authority()
    async with Uv(tls=True) as server:
        server.server.use(credentials(authority.issue("localhost"), authority.root_pem, "gateway.example"))
        for _ in range(3):
            shows = client_context(authority.root_pem, "h2", shows=authority.issue("other.example"))
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=shows, server_hostname="localhost", ssl_shutdown_timeout=0.05
            )
            writer.write(PREFACE + SETTINGS)
            assert await reader.read() == b""
            writer.close()
        await server.all_gone()
        assert server.server.counts().failures == {("TLS", ""): 3}
    why = "--tls-client-san allows none of the names in the client's certificate: DNS:other.example"
    assert_told_once(caplog, f"a connection failed: TLS: {why}", begun)
