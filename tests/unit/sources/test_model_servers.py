import asyncio
import contextlib
import gzip
import json
import ssl

import pytest

from bbr.sources.model_servers import MAX_ANSWER_BYTES, MAX_PIECES, RESULTS, ModelServers, ServerError
from bbr.sources.server_tls import ServerTls
from bench.harness.certificates import Authority
from tests.support.loops import in_loop

LIST = json.dumps({"data": [{"id": "qwen"}]}).encode()


def http(body=LIST, status="200 OK", **headers):
    fields = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


@contextlib.asynccontextmanager
async def saying(*pieces, ends=True, host="127.0.0.1", tls=None):
    """Give the port of a server that says the same to everybody, and the heads of what it is asked."""
    heads = []
    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if not ends:
                await reader.read()

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def refusal(port, **options):
    with pytest.raises(ServerError) as refused:
        await ModelServers(**options).models("127.0.0.1", port)
    assert refused.value.result in RESULTS
    return refused.value.result, str(refused.value)


@in_loop
async def test_asks_as_little_as_there_is():
    async with saying(http(), ends=False) as (port, heads):
        assert b"".join(await ModelServers().models("127.0.0.1", port)) == LIST
    line, *fields = heads[0].removesuffix("\r\n\r\n").split("\r\n")
    assert line == "GET /v1/models HTTP/1.1"
    assert fields == [
        f"Host: 127.0.0.1:{port}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "User-Agent: bbr",
        "Connection: close",
    ]


@in_loop
async def test_a_server_may_have_an_address_of_either_kind():
    async with saying(http(), host="::1") as (port, heads):
        assert b"".join(await ModelServers().models("::1", port)) == LIST
    assert f"Host: [::1]:{port}\r\n" in heads[0]


@pytest.mark.parametrize(
    "pieces",
    [
        [http(Content_Length=None)],  # until the connection ends
        [http(b"", Content_Length=None, Transfer_Encoding="chunked"), b"%x\r\n" % len(LIST), LIST, b"\r\n0\r\n\r\n"],
        [b"HTTP/1.1 103 Early Hints\r\n\r\n", http(Content_Encoding="identity")],
        [http()[:5], http()[5:40], http()[40:]],
    ],
)
def test_answers_come_in_several_ways(pieces):
    @in_loop
    async def test():
        async with saying(*pieces) as (port, _):
            assert b"".join(await ModelServers().models("127.0.0.1", port)) == LIST

    test()


HUGE = MAX_ANSWER_BYTES + 1
CHUNKED = http(b"", Content_Length=None, Transfer_Encoding="chunked")


@pytest.mark.parametrize(
    ("pieces", "result", "why"),
    [
        ([http(status="404 Not Found")], "status", "it answers 404 to GET /v1/models"),
        ([http(status="401 Unauthorized")], "status", "it answers 401 to GET /v1/models"),
        ([http(status="302 Found", Location="http://127.0.0.1:1/")], "status", "it answers 302 to GET /v1/models"),
        ([http(status="204 No Content")], "status", "it answers 204 to GET /v1/models"),
        (
            [http(gzip.compress(LIST), Content_Encoding="gzip")],
            "unusable",
            "its answer is encoded, which was not asked for",
        ),
        ([http(b"x" * HUGE)], "too-long", "its answer is longer than 1 MiB"),
        ([http(b"x" * HUGE, Content_Length=None)], "too-long", "its answer is longer than 1 MiB"),
        ([CHUNKED, b"1\r\nx\r\n" * (MAX_PIECES + 1)], "too-long", "its answer comes in more than 4000 pieces"),
        (
            [b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_PIECES + 1)],
            "too-long",
            "its answer comes in more than 4000 pieces",
        ),
        ([http(X=("x" * 100_000))], "unusable", "its answer to GET /v1/models is not HTTP"),
        ([http(Content_Length="1000")], "unusable", "its answer to GET /v1/models is not HTTP"),
        ([http(Content_Length="-1")], "unusable", "its answer to GET /v1/models is not HTTP"),
        ([b"SSH-2.0-OpenSSH_9.9\r\n"], "unusable", "its answer to GET /v1/models is not HTTP"),
        ([b"HTTP/1.1 200 OK\r\nA\xff\x00: b\r\n\r\n"], "unusable", "its answer to GET /v1/models is not HTTP"),
        ([], "unusable", "its answer to GET /v1/models is not HTTP"),
    ],
)
def test_what_is_no_answer_is_told_by_its_kind(pieces, result, why):
    @in_loop
    async def test():
        async with saying(*pieces) as (port, _):
            assert await refusal(port) == (result, why)

    test()


@in_loop
async def test_a_server_that_drips_has_so_much_time():
    async with saying(http()[:-1], ends=False) as (port, _):
        assert await refusal(port, answer_seconds=0.2) == ("timeout", "no answer within 0.2 s")


@in_loop
async def test_nobody_listens():
    async with saying() as (port, _):
        pass
    result, why = await refusal(port)
    assert (result, why) == ("unreachable", "no answer: Connection refused")


@in_loop
async def test_a_token_is_read_for_each_question(tmp_path):
    (path := tmp_path / "token").write_text("one\n", "utf-8")
    async with saying(http()) as (port, heads):
        servers = ModelServers(path)
        await servers.models("127.0.0.1", port)
        path.write_text("two", "utf-8")
        await servers.models("127.0.0.1", port)
    assert ["\r\nAuthorization: Bearer one\r\n" in heads[0], "\r\nAuthorization: Bearer two\r\n" in heads[1]] == [
        True
    ] * 2


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (None, "No such file"),
        (b"", "it holds no token"),
        (b"a\nb", "it holds no token"),
        (b"\xff", "it is not ASCII"),
        (b"x" * 20_000, "larger than 16 KiB"),
    ],
)
def test_without_its_token_nobody_is_asked(tmp_path, octets, why):
    @in_loop
    async def test():
        path = tmp_path / "token"
        if octets is not None:
            path.write_bytes(octets)
        async with saying(http()) as (port, heads):
            result, told = await refusal(port, token_file=path)
        assert result == "internal"
        assert told.startswith(f"--discover-token-file: {path}: ")
        assert why in told
        assert heads == []

    test()


AUTHORITY = Authority()


def showing(folder, authority, *names):
    """Return a server's context with a certificate for names, and the file of those who trust AUTHORITY."""
    issued = authority.issue(*names)
    (chain := folder / "tls.pem").write_bytes(issued.chain_pem + issued.key_pem)
    (ca := folder / "ca.crt").write_bytes(AUTHORITY.root_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    return context, ca


@pytest.mark.parametrize(("certified", "name"), [("vllm.example", "vllm.example"), ("127.0.0.1", "")])
def test_over_https_a_server_shows_a_certificate_for_its_name_or_its_address(tmp_path, certified, name):
    @in_loop
    async def test():
        context, ca = showing(tmp_path, AUTHORITY, certified)
        asked_as = []
        context.sni_callback = lambda _connection, sni, _context: asked_as.append(sni)
        async with saying(http(), tls=context) as (port, heads):
            assert b"".join(await ModelServers(tls=ServerTls(ca, name)).models("127.0.0.1", port)) == LIST
        assert f"Host: 127.0.0.1:{port}\r\n" in heads[0]
        assert asked_as == [name or None]

    test()


@pytest.mark.parametrize(
    ("authority", "certified", "name", "why"),
    [
        (AUTHORITY, "other.example", "vllm.example", "its certificate is not accepted: Hostname mismatch"),
        (AUTHORITY, "vllm.example", "", "its certificate is not accepted: IP address mismatch"),
        (Authority(), "vllm.example", "vllm.example", "its certificate is not accepted: unable to get local issuer"),
    ],
)
def test_without_that_it_is_not_asked(tmp_path, authority, certified, name, why):
    @in_loop
    async def test():
        context, ca = showing(tmp_path, authority, certified)
        # The server has its own word about a client that hangs up.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with saying(http(), tls=context) as (port, heads):
            result, told = await refusal(port, tls=ServerTls(ca, name), token_file=None)
        assert result == "unreachable"
        assert told.startswith(f"no answer: {why}")
        assert heads == []

    test()


@in_loop
async def test_a_server_without_tls_is_told_as_such():
    async def serve(reader, writer):
        with contextlib.closing(writer):
            await reader.read(1)
            writer.write(http(b"", "400 Bad Request"))
            await writer.drain()
            await reader.read()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        result, told = await refusal(server.sockets[0].getsockname()[1], tls=ServerTls())
    assert result == "unreachable"
    assert told.startswith("no answer: no TLS with it: ")


def test_without_the_authorities_file_nobody_is_asked(tmp_path):
    @in_loop
    async def test():
        async with saying(http()) as (port, heads):
            result, told = await refusal(port, tls=ServerTls(tmp_path / "missing"))
        assert result == "internal"
        assert told == f"--discover-ca: {tmp_path / 'missing'}: No such file or directory"
        assert heads == []

    test()
