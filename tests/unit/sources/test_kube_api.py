import asyncio
import builtins
import gzip
import json
import os
import ssl
from functools import partial

import pytest
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ConfigError

from bbr.sources import kube_api
from bbr.sources.kube_api import KubeApi, KubernetesError, KubeStatus, split_lines
from bbr.sources.objects import SourceError
from bench.harness.certificates import Authority
from bench.harness.fake_kubernetes import CONFIG_MAPS, FakeKubernetes, Fault
from tests.support.loops import in_loop


async def lines_of(*chunks):
    async def give():
        for chunk in chunks:
            yield chunk

    return [b"".join(line) async for line in split_lines(give())]


@in_loop
async def test_lines_are_the_same_however_they_are_cut():
    text = b'{"a": 1}\n\n{"b": "\xc2\x85\xe2\x80\xa8\x0b\r"}\n{"c": 3}\n'
    expected = [b'{"a": 1}', b'{"b": "\xc2\x85\xe2\x80\xa8\x0b\r"}', b'{"c": 3}']
    for size in range(1, len(text) + 1):
        assert await lines_of(*(text[i : i + size] for i in range(0, len(text), size))) == expected
    assert await lines_of() == []


@in_loop
async def test_a_line_without_an_end_is_an_error():
    with pytest.raises(KubernetesError, match="the answer ended within a line"):
        await lines_of(b"a\nb")


@in_loop
async def test_a_line_has_a_limit(monkeypatch):
    monkeypatch.setattr(kube_api, "MAX_LINE_BYTES", 1 << 20)
    chunk = b"a" * (1 << 19)
    assert await lines_of(chunk, chunk, b"\nb\n") == [chunk * 2, b"b"]
    with pytest.raises(KubernetesError, match="longer than 1 MiB"):
        await lines_of(chunk, chunk, b"a")


@in_loop
async def test_a_line_in_tiny_chunks_is_held_in_few_pieces():
    async def give():
        for _ in range(20_000):
            yield b"ab"
        yield b"\n"

    assert [(len(line), sum(map(len, line))) async for line in split_lines(give())] == [(10, 40_000)]


@in_loop
async def test_of_many_empty_lines_only_some_are_passed_over_in_a_turn():
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert await lines_of(*[b"\n" * 65_536] * 10, b"a\n") == [b"a"]
    counting.cancel()
    assert turns >= 10 * (65_536 // kube_api._STEP_LINES)


async def answering(answer, work):
    """Return what becomes of `work` with an API server that says always the same."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        return await work(server.sockets[0].getsockname()[1])
    finally:
        server.close()


def kubeconfig(tmp_path, port):
    good = json.dumps(GOOD).replace("127.0.0.1:1", f"127.0.0.1:{port}")
    return config(tmp_path, good)


@in_loop
async def test_an_encoded_answer_is_not_decoded(tmp_path):
    async def work(port):
        async with KubeApi(kubeconfig(tmp_path, port)) as api:
            with pytest.raises(KubernetesError, match="the answer is encoded, which was not asked for") as caught:
                await api.get(CONFIG_MAPS, {})
            assert caught.value.status == 200
            with pytest.raises(KubernetesError, match="the answer is encoded"):
                async with api.lines(CONFIG_MAPS, {}) as lines:
                    await anext(lines)

    bomb = gzip.compress(bytes(1 << 20))
    await answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: GZIP\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb, work)


@in_loop
async def test_chunks_of_an_octet_leave_turns_to_others(tmp_path):
    """65 KB of the wire, which httpx2 reads at once, are 10,000 chunks: half a second of the event loop in one go."""

    async def work(port):
        async with KubeApi(kubeconfig(tmp_path, port)) as api:
            turns = 0

            async def count():
                nonlocal turns
                while True:
                    await asyncio.sleep(0)
                    turns += 1

            counting = asyncio.create_task(count())
            body = await api.get(CONFIG_MAPS, {})
            counting.cancel()
            assert b"".join(body) == b"x" * 10_000
            assert len(body) < 10
            assert turns >= 10_000 // 50

    await answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n", work
    )


def test_a_status_as_an_error():
    error = KubeStatus(code=410, message="too old").error()
    assert (str(error), error.status) == ("410: too old", 410)
    assert str(KubeStatus().error()) == "an error: no reason given"


async def refusal(server, tmp_path, fault):
    server.faults.append(fault)
    async with KubeApi(server.kubeconfig(tmp_path)) as api:
        with pytest.raises(KubernetesError) as caught:
            await api.get(CONFIG_MAPS, {})
    return caught.value


@in_loop
async def test_refusals_tell_status_reason_and_patience(tmp_path):
    async with FakeKubernetes() as server:
        error = await refusal(server, tmp_path, Fault(429, headers={"Retry-After": "7"}))
        assert (str(error), error.status, error.retry_after) == ("429: as the test wants it", 429, 7.0)
        error = await refusal(server, tmp_path, Fault(503, body=b"<html>", headers={"Retry-After": "Wed, 21 Oct"}))
        assert (str(error), error.status, error.retry_after) == ("503: Because", 503, 0.0)
        for body in (b'{"message": "\xff"}', b"[" * 5000):
            error = await refusal(server, tmp_path, Fault(503, body=body))
            assert (str(error), error.status) == ("503: Because", 503)
        long = json.dumps({"message": "no " * 1000}).encode()
        assert len(str(await refusal(server, tmp_path, Fault(403, body=long)))) == 305
        error = await refusal(server, tmp_path, Fault())
        assert (error.status, str(error)[:21]) == (0, "RemoteProtocolError: ")


def config(tmp_path, text):
    path = tmp_path / "config"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@in_loop
async def test_an_answer_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(kube_api, "MAX_ANSWER_BYTES", 1 << 20)
    async with FakeKubernetes() as server:
        server.faults.append(Fault(200, body=b" " * (1 << 20)))
        async with KubeApi(server.kubeconfig(tmp_path)) as api:
            assert sum(map(len, await api.get(CONFIG_MAPS, {}))) == 1 << 20
        for status, limit in ((200, "1 MiB"), (500, "64 KiB")):
            error = await refusal(server, tmp_path, Fault(status, body=b" " * ((1 << 20) + 1)))
            assert (str(error), error.status) == (f"the answer is longer than {limit}", status)


GOOD = {
    "current-context": "x",
    "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
    "contexts": [{"name": "x", "context": {"cluster": "x"}}],
}


def test_a_kubeconfig_without_a_user_will_do(tmp_path):
    assert KubeApi(config(tmp_path, json.dumps(GOOD))).server == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("token: secret\n  - secret: [", "CONFIG: line 2: not YAML: mapping values are not allowed in this context"),
        ("secret \x01", "CONFIG: line 1: not YAML: control characters are not allowed"),
        ("x: !!python/object:secret {}", "the kubeconfig is not YAML: line 1"),
        ("[" * 17, "CONFIG: line 1: lists and mappings are nested more than 16 deep"),
        (b"secret \xff", "CONFIG: not UTF-8 at byte 7"),
        ("", "CONFIG: is not a kubeconfig: it must be a mapping with lists of"),
        ("[]", "CONFIG: is not a kubeconfig: it must be a mapping with lists of"),
        ("{}", "CONFIG: is not a kubeconfig: it must be a mapping with lists of"),
        ("clusters: .inf\ncontexts: 5", "CONFIG: is not a kubeconfig: it must be a mapping with lists of"),
        (json.dumps({**GOOD, "current-context": "y"}), "Context 'y' not found"),
        (
            json.dumps(
                {
                    **GOOD,
                    "clusters": [{"name": "x", "cluster": {"server": "https://x", "certificate-authority": "config"}}],
                }
            ),
            "the credentials for the API server can't be used: SSLError: ",
        ),
    ],
    ids=[
        "not YAML",
        "a control character",
        "a tag",
        "nested",
        "not UTF-8",
        "nothing",
        "a list",
        "empty",
        "numbers for lists",
        "no such context",
        "no certificate",
    ],
)
def test_a_kubeconfig_that_is_of_no_use(tmp_path, text, why):
    with pytest.raises(SourceError) as caught:
        KubeApi(config(tmp_path, text))
    assert str(caught.value).startswith(why.replace("CONFIG", str(tmp_path / "config")))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("written", ["{0}", "!!int {0}", "!!float {0}", "!!timestamp {0}"])
def test_numbers_of_a_kubeconfig_are_texts_and_take_no_time(tmp_path, written):
    # Numbers to the base of 60: PyYAML takes a time that grows with the square.
    number = "1:" + "59:" * 300_000 + "1"
    user = f"users: [{{name: x, user: {{token: {written.format(1234)}, username: {written.format(number)}}}}}]"
    text = f"{json.dumps({key: GOOD[key] for key in ('clusters',)})[1:-1]}\n{user}\n"
    text += "contexts: [{name: 1.50, context: {cluster: x, user: x}}]\ncurrent-context: 1.50\n"
    path = config(tmp_path, text)
    user = kube_api._config(path).user
    assert (user.token, user.username) == ("1234", number)


def test_switches_of_a_kubeconfig_are_switches(tmp_path):
    cluster = "{server: 'https://x', insecure-skip-tls-verify: true, certificate-authority: null}"
    text = f"clusters: [{{name: x, cluster: {cluster}}}]\ncontexts: [{{name: x, context: {{cluster: x}}}}]\n"
    found = kube_api._config(config(tmp_path, f"{text}current-context: x\n")).cluster
    assert (found.insecure, found.certificate_auth) == (True, None)


def test_nothing_that_tells_where_the_server_is(tmp_path, monkeypatch):
    def no_pod():
        raise ConfigError("no service account")

    monkeypatch.setattr(KubeConfig, "from_service_account", no_pod)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(
        SourceError, match="no API server is known: this is not a pod with a service account, and neither"
    ):
        KubeApi()
    with pytest.raises(SourceError, match=r"/none: No such file or directory$"):
        KubeApi(tmp_path / "none")


def test_a_kubeconfig_that_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SourceError, match=r"/fifo: is a FIFO \(a named pipe\), not a regular file$"):
        KubeApi(tmp_path / "fifo")


@pytest.mark.parametrize("field", ["certificate-authority", "client-certificate", "client-key", "tokenFile"])
def test_a_file_of_a_kubeconfig_that_is_no_regular_file(tmp_path, field):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    cluster, user = {"server": "https://x"}, {}
    (cluster if field == "certificate-authority" else user)[field] = str(fifo) if field == "tokenFile" else "fifo"
    known = {
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": cluster}],
        "users": [{"name": "x", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }
    with pytest.raises(SourceError) as caught:
        KubeApi(config(tmp_path, json.dumps(known)))
    assert str(caught.value) == f"{fifo}: is a FIFO (a named pipe), not a regular file"


@in_loop
async def test_a_token_that_was_rotated_is_read_anew(tmp_path):
    """As the service account of a pod has it: a file that the kubelet writes anew."""
    token = tmp_path / "token"
    token.write_text("first")
    async with FakeKubernetes() as server:
        path = tmp_path / "config"
        cluster = {"name": "x", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}
        user = {"name": "x", "user": {"tokenFile": str(token)}}
        context = {"name": "x", "context": {"cluster": "x", "user": "x"}}
        path.write_text(json.dumps({**GOOD, "clusters": [cluster], "users": [user], "contexts": [context]}))
        async with KubeApi(path) as api:
            await api.get(CONFIG_MAPS, {})
            token.write_text("second")
            server.faults.append(Fault(401))
            await api.get(CONFIG_MAPS, {})
            token.unlink()
            server.faults.append(Fault(401))
            with pytest.raises(KubernetesError, match=r"ConfigError: Token file .* not found"):
                await api.get(CONFIG_MAPS, {})
        sent = [request.headers["authorization"] for request in server.requests]
        assert sent == ["bearer first", "bearer first", "bearer second", "bearer second"]


@pytest.mark.parametrize("trusted", [True, False], ids=["its own authority", "another authority"])
@in_loop
async def test_a_pod_trusts_its_clusters_authority_and_no_other(tmp_path, monkeypatch, trusted):
    authority = Authority()
    issued = authority.issue("localhost")
    (tmp_path / "both.pem").write_bytes(issued.chain_pem + issued.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "both.pem")
    (tmp_path / "token").write_text("of the pod")
    (tmp_path / "namespace").write_text("default")
    (tmp_path / "ca.crt").write_bytes((authority if trusted else Authority()).root_pem)
    in_pod = partial(KubeConfig.from_service_account, tmp_path)
    monkeypatch.setattr(KubeConfig, "from_service_account", in_pod)
    async with FakeKubernetes(context) as server:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "localhost")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
        async with KubeApi() as api:
            if trusted:
                await api.get(CONFIG_MAPS, {})
                assert server.requests[0].headers["authorization"] == "bearer of the pod"
            else:
                with pytest.raises(KubernetesError, match="CERTIFICATE_VERIFY_FAILED"):
                    await api.get(CONFIG_MAPS, {})
                assert server.requests == []


def test_without_lightkube_there_is_a_sentence(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name.startswith("lightkube"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SourceError, match=r"lightkube is not installed: pip install 'body-based-router\[kubernetes\]'"):
        KubeApi()
