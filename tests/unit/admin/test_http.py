import asyncio
import contextlib
import socket

import aiohttp
import pytest

from bbr.admin.http import CONNECTION_BYTES, MAX_LINES, MAX_PARAMETERS, AdminServer, Answer, text
from bbr.exchange.ledger import Ledger
from bbr.transports.room import Room
from tests.support.loops import all_ended, in_loop
from tests.support.stack import until


async def hello(asked):
    return text(f"hello {asked.path}, {asked.header('user-agent')}{asked.header('x-none')}")


async def query(asked):
    return text(repr(asked.query))


async def pieces(_asked):
    return Answer((b"one ", b"", b"two"), "text/x", 201, (("x-more", "yes"),))


async def broken(_asked):
    raise RuntimeError("a page's own fault")


@contextlib.asynccontextmanager
async def serving(**options):
    server = AdminServer({"/": hello, "/query": query, "/pieces": pieces, "/broken": broken}, **options)
    port = await server.start("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop()


async def raw(url, octets):
    """Send octets and return all that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(octets)
    try:
        return await reader.read()
    finally:
        writer.close()


@in_loop
async def test_pages_by_their_path_over_one_connection():
    async with serving() as url, aiohttp.ClientSession(headers={"user-agent": "me"}) as client:
        for _ in range(3):
            async with client.get(f"{url}/?x=1") as answer:
                assert (answer.status, await answer.text()) == (200, "hello /, me\n")
                assert answer.headers["content-type"] == "text/plain; charset=utf-8"
                assert answer.headers["cache-control"] == "no-store"
                assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/query", {}),
        ("/query?", {}),
        ("/query?q=a+b%20c&after=%C3%A9", {"q": "a b c", "after": "é"}),
        ("/query?q=1&q=2&empty=&alone", {"q": "2", "empty": "", "alone": ""}),
        ("/query?q=%FF%00?", {"q": "\ufffd\x00?"}),
    ],
)
@in_loop
async def test_a_query(target, found):
    async with serving() as url:
        answer = await raw(url, f"GET {target} HTTP/1.0\r\n\r\n".encode())
        assert answer.partition(b"\r\n\r\n")[2].decode() == f"{found!r}\n"


@in_loop
async def test_what_runs_beside_it_runs_as_long_as_it_does():
    running, ended = asyncio.Event(), asyncio.Event()

    async def beside():
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(beside={"a task": beside}):
        await running.wait()
        assert not ended.is_set()
    assert ended.is_set()


@in_loop
async def test_an_answer_in_pieces_and_its_head():
    async with serving() as url, aiohttp.ClientSession() as client:
        async with client.get(f"{url}/pieces") as answer:
            assert (answer.status, await answer.read(), answer.headers["x-more"]) == (201, b"one two", "yes")
        async with client.head(f"{url}/pieces") as answer:
            assert (answer.status, await answer.read()) == (201, b"")
        async with client.get(f"{url}/pieces") as answer:
            assert await answer.read() == b"one two"


@in_loop
async def test_an_unknown_path_is_told_what_there_is():
    async with serving() as url, aiohttp.ClientSession() as client, client.get(f"{url}/nope") as answer:
        assert answer.status == 404
        assert await answer.text() == "There is no /nope here. Try one of: /, /broken, /pieces, /query\n"


@in_loop
async def test_a_long_path_is_not_repeated_whole():
    async with serving() as url:
        found = await raw(url, b"GET /%b HTTP/1.0\r\n\r\n" % (b"x" * 10_000))
        assert found.count(b"x") < 200


@in_loop
async def test_a_body_is_never_the_next_request():
    inner = b"GET /query HTTP/1.1\r\nhost: x\r\n\r\n"
    framings = (
        b"content-length: %d\r\n" % len(inner),
        b"transfer-encoding: chunked\r\n",
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 0\r\n",
        b"transfer-encoding: xchunked\r\n",
    )
    async with serving() as url:
        for framing in framings:
            found = await raw(url, b"GET / HTTP/1.1\r\nhost: x\r\n" + framing + b"\r\n0\r\n\r\n" + inner)
            assert found.count(b"HTTP/1.1 ") == 1


@in_loop
async def test_only_get_and_head_and_a_body_is_not_waited_for():
    async with serving() as url:
        found = await raw(url, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        assert found.startswith(b"HTTP/1.1 405 ")
        assert b"allow: GET, HEAD" in found


@in_loop
async def test_http_1_0_gets_its_answer_unchunked():
    async with serving() as url:
        found = await raw(url, b"GET /pieces HTTP/1.0\r\n\r\n")
        assert found.startswith(b"HTTP/1.1 201 ")
        assert found.endswith(b"\r\n\r\none two")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\n bad", None),
        (b"GET /" + b"x" * 100_000, b"431"),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a:\r\n" * MAX_LINES + b"\r\n", b"431"),
        (b"GET /?" + b"a&" * MAX_PARAMETERS + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), b"404"),
        (b"GET http://elsewhere/ HTTP/1.1\r\nhost: x\r\n\r\n", b"404"),
    ],
    ids=["TLS", "no host", "cut off", "long", "many fields", "many parameters", "HTTP/2", "another host's"],
)
@in_loop
async def test_rubbish_is_refused_and_hurts_nobody(sent, status, caplog):
    async with serving() as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(sent)
        writer.write_eof()
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(65_536):
                found += piece
        writer.close()
        assert found.startswith(b"HTTP/1.1 " + (status or b"400"))
        assert (await raw(url, b"GET / HTTP/1.0\r\n\r\n")).endswith(b"hello /, \n")
    assert caplog.records == []


@in_loop
async def test_a_page_that_fails_is_logged_and_ends_its_connection(caplog):
    async with serving() as url:
        assert await raw(url, b"GET /broken HTTP/1.1\r\nhost: x\r\n\r\n") == b""
        assert (await raw(url, b"GET / HTTP/1.0\r\n\r\n")).endswith(b"hello /, \n")
    assert [record.getMessage() for record in caplog.records] == ["a page of the admin port failed"]


@in_loop
async def test_a_connection_that_sleeps_is_closed():
    async with serving(idle_seconds=0.01) as url:
        assert await raw(url, b"GET / HT") == b""


@in_loop
async def test_what_a_request_took_to_come_is_not_taken_from_its_answer_s_time(monkeypatch):
    happened, timeout = [], asyncio.timeout

    async def page(_asked):
        happened.append("page")
        return text("")

    def begun(seconds):
        happened.append(seconds)
        return timeout(seconds)

    server = AdminServer({"/": page}, idle_seconds=60)
    port = await server.start("127.0.0.1", 0)
    monkeypatch.setattr(asyncio, "timeout", begun)
    assert (await raw(f"http://127.0.0.1:{port}", b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert happened[:3] == [60, 60, "page"]
    await server.stop()


@in_loop
async def test_a_client_that_leaves_is_no_error(caplog):
    async with serving() as url:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        writer.transport.abort()
        assert (await raw(url, b"GET / HTTP/1.0\r\n\r\n")).endswith(b"hello /, \n")
    assert caplog.records == []


@in_loop
async def test_a_client_that_leaves_amid_its_answer_is_no_error(caplog):
    page = Endless()
    server = AdminServer({"/endless": page.page})
    port = await server.start("127.0.0.1", 0)
    before = asyncio.all_tasks()
    async with not_reading(f"http://127.0.0.1:{port}", page):
        pass
    await all_ended(before)
    await server.stop()
    assert caplog.records == []


class Endless:
    """A page without an end, that tells when its first piece was made."""

    def __init__(self, octets=1 << 20):
        self.begun = asyncio.Event()
        self._piece = bytes(octets)

    async def page(self, _asked):
        return Answer(self._pieces())

    def _pieces(self):
        while True:
            self.begun.set()
            yield self._piece


@contextlib.asynccontextmanager
async def not_reading(url, page):
    """Ask for an endless page, and read nothing of it."""
    _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.transport.pause_reading()
    writer.write(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
    await page.begun.wait()
    try:
        yield
    finally:
        writer.transport.abort()


@in_loop
async def test_a_client_that_does_not_read_does_not_keep_it_from_stopping():
    page = Endless()
    server = AdminServer({"/endless": page.page})
    port = await server.start("127.0.0.1", 0)
    async with not_reading(f"http://127.0.0.1:{port}", page):
        await server.stop()


@in_loop
async def test_a_client_that_does_not_read_is_let_go():
    page = Endless()
    server = AdminServer({"/endless": page.page}, idle_seconds=0.05)
    port = await server.start("127.0.0.1", 0)
    before = asyncio.all_tasks()
    async with not_reading(f"http://127.0.0.1:{port}", page):
        await all_ended(before)
    await server.stop()


@in_loop
async def test_one_connection_too_many_ends_the_one_that_has_waited_the_longest():
    page, kept = Endless(), b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    server = AdminServer({"/": hello, "/endless": page.page}, max_connections=2, spare_connections=0)
    port = await server.start("127.0.0.1", 0)
    async with not_reading(f"http://127.0.0.1:{port}", page):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HT")
        reader_2, writer_2 = await asyncio.open_connection("127.0.0.1", port)
        writer_2.write(kept)
        assert (await reader_2.readline()).startswith(b"HTTP/1.1 200 ")
        with contextlib.suppress(ConnectionResetError):  # closed or reset, as it comes
            assert await reader.read() == b""
        writer.close()
    # The endless answer goes on until nothing else is left to end.
    await server.stop()
    writer_2.close()


@in_loop
async def test_answers_that_nobody_takes_shut_nobody_out():
    page = Endless()
    server = AdminServer({"/": hello, "/endless": page.page}, max_connections=1, spare_connections=0)
    port = await server.start("127.0.0.1", 0)
    async with not_reading(f"http://127.0.0.1:{port}", page):
        assert (await raw(f"http://127.0.0.1:{port}", b"GET / HTTP/1.0\r\n\r\n")).endswith(b"hello /, \n")
    await server.stop()


@in_loop
async def test_a_newcomer_among_many_is_read_before_it_has_to_go():
    server = AdminServer({"/": hello}, max_connections=2, spare_connections=30)
    port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(25)]
    assert (await reader.read()).endswith(b"hello /, \n")
    while len(server._waiting) + len(server._answering) > 2:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    for each in (writer, *(writer for _, writer in silent)):
        each.transport.abort()
    await server.stop()


@in_loop
async def test_a_newcomer_that_is_slow_to_speak_does_not_go_for_answers_that_nobody_takes():
    page = Endless()
    server = AdminServer({"/": hello, "/endless": page.page}, max_connections=2, spare_connections=30)
    port = await server.start("127.0.0.1", 0)
    taken = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    for _, writer in taken:
        writer.write(b"GET /endless HTTP/1.0\r\n\r\n")
    await until(lambda: len(server._answering) == 2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await until(lambda: len(server._waiting) + len(server._answering) == 3)
    await until(lambda: len(server._waiting) + len(server._answering) == 2)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await reader.read()).endswith(b"hello /, \n")
    for _, each in (*taken, (reader, writer)):
        each.transport.abort()
    await server.stop()


@in_loop
async def test_beyond_what_is_spared_the_longest_goes_at_once():
    server = AdminServer({"/": hello}, max_connections=1, spare_connections=2)
    port = await server.start("127.0.0.1", 0)
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]
    found = await raw(f"http://127.0.0.1:{port}", b"GET / HTTP/1.0\r\n\r\n")
    assert found.endswith(b"hello /, \n")
    assert len(server._waiting) <= 3
    for _, writer in silent:
        writer.transport.abort()
    await server.stop()


@in_loop
async def test_of_all_answers_together_one_piece_is_made_in_a_turn_of_the_event_loop():
    turn, made = 0, []

    def count():
        nonlocal turn, counting
        turn += 1
        counting = asyncio.get_running_loop().call_soon(count)

    async def page(_asked):
        return Answer(made.append(turn) or b"x" for _ in range(50))

    server = AdminServer({"/": page})
    port = await server.start("127.0.0.1", 0)
    counting = asyncio.get_running_loop().call_soon(count)
    answers = [raw(f"http://127.0.0.1:{port}", b"GET / HTTP/1.0\r\n\r\n") for _ in range(8)]
    assert all(answer.endswith(b"x" * 50) for answer in await asyncio.gather(*answers))
    counting.cancel()
    assert len(set(made)) == len(made) == 400
    await server.stop()


@in_loop
async def test_an_answer_that_is_ready_does_not_queue_behind_those_that_are_made():
    made = 0

    def without_end():
        nonlocal made
        while True:
            made += 1
            yield b""

    async def page(_asked):
        return Answer(without_end())

    server = AdminServer({"/": hello, "/page": page}, max_connections=200)
    port = await server.start("127.0.0.1", 0)
    pages = [await asyncio.open_connection("127.0.0.1", port) for _ in range(150)]
    for _, writer in pages:
        writer.write(b"GET /page HTTP/1.0\r\n\r\n")
    await until(lambda: len(server._answering) == 150)
    for method in (b"GET", b"HEAD"):
        before = made
        assert b" 200 " in await raw(f"http://127.0.0.1:{port}", method + b" / HTTP/1.0\r\n\r\n")
        # One piece is made in a turn: each of 150 pages would come first.
        assert made - before < 75
    for _, writer in pages:
        writer.transport.abort()
    await server.stop()


@in_loop
async def test_many_requests_of_one_connection_are_answered_in_as_many_turns():
    turn, asked_in = 0, []

    def count():
        nonlocal turn, counting
        turn += 1
        counting = asyncio.get_running_loop().call_soon(count)

    async def page(_asked):
        asked_in.append(turn)
        return text("here")

    server = AdminServer({"/": page})
    port = await server.start("127.0.0.1", 0)
    counting = asyncio.get_running_loop().call_soon(count)
    asked = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 20 + b"GET / HTTP/1.0\r\n\r\n"
    assert (await raw(f"http://127.0.0.1:{port}", asked)).count(b"here") == 21
    counting.cancel()
    assert len(set(asked_in)) == 21
    await server.stop()


@in_loop
async def test_a_port_that_is_taken():
    async with serving() as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(OSError, match=f"can't listen on 127.0.0.1:{port}"):
            await AdminServer({}).start("127.0.0.1", port)


@in_loop
async def test_stop_before_start():
    await AdminServer({}).stop()


@contextlib.asynccontextmanager
async def serving_pages(pages, **options):
    server = AdminServer(pages, **options)
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        await server.stop()


@in_loop
async def test_what_waits_for_its_turn_stays_with_its_peer():
    never = asyncio.Event()

    async def page(_asked):
        await never.wait()

    async with serving_pages({"/": page}) as (server, url):
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nx-long: %s\r\n\r\n" % (b"x" * 4000) * 2000)
        await until(lambda: server._answering)
        (connection,) = server._answering
        await until(lambda: connection.reader._paused)
        assert len(connection.reader._buffer) <= 32 << 10
        writer.transport.abort()


@in_loop
async def test_little_is_made_of_an_answer_that_nobody_reads():
    endless = Endless(4 << 10)
    async with serving_pages({"/endless": endless.page}) as (server, url), not_reading(url, endless):
        (connection,) = server._answering
        unread = connection.writer.transport.get_write_buffer_size
        await until(lambda: unread() > 16 << 10)
        assert unread() < 24 << 10


@in_loop
async def test_few_answers_are_made_that_nobody_reads():
    made = []

    async def page(_asked):
        made.append(1)
        return text("x" * 4096)

    async with serving_pages({"/": page}) as (server, url):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", int(url.rpartition(":")[2])))
        asked = b"GET / HTTP/1.1\r\nhost: x\r\nx-long: %s\r\n\r\n" % (b"x" * 3000) * 2000
        sending = asyncio.create_task(loop.sock_sendall(sock, asked))
        await until(lambda: len([*server._answering, *server._waiting]) == 1)
        (connection,) = [*server._answering, *server._waiting]
        await until(lambda: connection.writer.transport.get_write_buffer_size() > 16 << 10)
        assert len(made) < 100  # 600 fit into what the kernel takes by itself
        sending.cancel()
        await asyncio.wait([sending])
        sock.close()


@in_loop
async def test_without_room_the_longest_goes_and_the_newest_is_answered():
    endless = Endless()
    room = Room(Ledger(0), 3 * CONNECTION_BYTES)
    pages = {"/endless": endless.page, "/": hello}
    async with serving_pages(pages, room=room) as (server, url), contextlib.AsyncExitStack() as stack:
        for number in range(1, 4):
            await stack.enter_async_context(not_reading(url, endless))
            await until(lambda number=number: len(server._answering) == number)
        first, *others = server._answering
        assert room.fixed_bytes == 3 * CONNECTION_BYTES
        assert (await raw(url, b"GET / HTTP/1.0\r\n\r\n")).endswith(b"hello /, \n")
        assert first not in server._answering
        assert [*server._answering] == others
        await stack.aclose()
        await until(lambda: not server._answering and not server._waiting)
        assert room.fixed_bytes == 0


async def connected(url, address):
    return await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), local_addr=(address, 0))


@in_loop
async def test_one_too_many_of_an_address_ends_one_of_its_own():
    asked, never = [], asyncio.Event()

    async def page(request):
        asked.append(request.network)
        await never.wait()

    async with serving_pages({"/": page}, max_connections=3, spare_connections=0) as (server, url):
        opened = [await connected(url, address) for address in ("127.0.0.1", "127.0.0.2", "127.0.0.2")]
        for number, (_, writer) in enumerate(opened, 1):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await until(lambda number=number: len(server._answering) == number)
        assert asked == ["127.0.0.1", "127.0.0.2", "127.0.0.2"]
        for _ in range(5):
            reader, writer = await connected(url, "127.0.0.2")
            opened.append((reader, writer))
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await until(lambda: not server._waiting)
        assert next(iter(server._answering)).network == "127.0.0.1"
        assert len(server._answering) == 3
        for _, writer in opened:
            writer.transport.abort()
