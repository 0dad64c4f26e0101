"""`bbr serve` as a process: how it starts, serves, reads its files anew and ends."""

import asyncio
import contextlib
import datetime
import hashlib
import os
import queue
import resource
import signal
import socket
import ssl
import time
import urllib.request

import grpc
import pytest

from bbr import __version__, built
from bbr.exchange.policy import BodyMode
from bbr.pb.health_pb2 import HealthCheckRequest, HealthCheckResponse
from bench.harness import messages
from bench.harness.background import Background
from bench.harness.certificates import Authority
from bench.harness.fake_kubernetes import FakeKubernetes, Fault
from bench.harness.grpc_client import PROCESS, GrpcFrames, framed
from bench.harness.ports import free_port
from bench.harness.processes import DEADLINE_SECONDS, bbr, serving
from tests.support.waiting import until

HEADERS = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING

both = pytest.mark.parametrize("transport", ["uv", "grpcio"])

MODELS = """\
models:
  - name: qwen
    adapters: [sql-lora, chat-lora]
  - name: phi
"""


def body(model):
    return messages.request_body(b'{"model": "%s"}' % model.encode(), end_of_stream=True)


@contextlib.contextmanager
def channel_to(port, root_pem=None):
    target = f"127.0.0.1:{port}"
    if root_pem is None:
        channel = grpc.insecure_channel(target)
    else:
        options = [("grpc.ssl_target_name_override", "localhost")]
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(root_pem), options)
    with channel:
        yield channel


def check(port, service=""):
    request = HealthCheckRequest(service=service).SerializeToString()
    with channel_to(port) as channel:
        answer = channel.unary_unary("/grpc.health.v1.Health/Check")(request, timeout=DEADLINE_SECONDS)
    return HealthCheckResponse.FromString(answer).status


class Stream:
    """One ext_proc stream by grpcio's client, half-closed by `finish`."""

    def __init__(self, channel):
        self._requests = queue.SimpleQueue()
        self._call = channel.stream_stream(PROCESS)(iter(self._requests.get, None), timeout=DEADLINE_SECONDS)

    def send(self, message):
        self._requests.put(message)

    def receive(self):
        return messages.parse(next(self._call))

    def finish(self):
        self._requests.put(None)
        return self._call.code()


def begun(process):
    """Wait until the router has the only call: to a client it is one before its channel is connected."""
    url = f"http://127.0.0.1:{process.admin_port}/metrics"

    def found():
        with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as answer:
            return b"\nbbr_streams 1.0\n" in answer.read()

    until(found)


def ask(port, model, root_pem=None):
    """Send one request and return what the router sets for it, or the HTTP status that it answers with."""
    with channel_to(port, root_pem) as channel:
        stream = Stream(channel)
        stream.send(HEADERS)
        stream.send(body(model))
        answer = stream.receive()
        if answer.HasField("immediate_response"):
            stream.finish()
            return answer.immediate_response.status.code
        assert stream.receive().HasField("request_body")
        assert stream.finish() == grpc.StatusCode.OK
        return list(messages.set_headers(answer.request_headers.response.header_mutation).values())


@pytest.fixture
def models(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text(MODELS, encoding="utf-8")
    return path


def test_serves_until_sigterm(models):
    with serving(f"--models={models}") as process:
        assert check(process.port) == SERVING
        assert check(process.health_port) == SERVING
        assert ask(process.port, "sql-lora") == [b"sql-lora", b"qwen"]
        assert ask(process.port, "phi") == [b"phi", b"phi"]
        assert ask(process.port, "gpt-4") == 404
        assert process.stop() == 0
        told = [line.partition(" INFO bbr.server: ") for line in process.stderr.splitlines()]
        lines = [line for _, of_server, line in told if of_server]
        ports = f"ext_proc on port {process.port} and health on {process.health_port} of 127.0.0.1"
        table = f"2 base models and 2 adapters from {models}"
        first = f"bbr {__version__} ({built.HOW}) serves {ports}, in plaintext, by the uv transport; {table}"
        assert lines == [first, "SIGTERM: draining for at most 25 s", "stopped"]
        assert process.stdout() == ""


@contextlib.contextmanager
def cluster(tmp_path):
    """Run a fake API server in a thread; give it, its loop, and the flags to follow it."""
    with Background() as background:
        fake = FakeKubernetes()
        background.run(fake.start())
        try:
            yield fake, background, ("--kubernetes", f"--kubeconfig={fake.kubeconfig(tmp_path)}")
        finally:
            background.run(fake.stop())


@both
def test_is_ready_when_the_clusters_table_is_complete_and_alive_before(transport, tmp_path):
    with cluster(tmp_path) as (fake, background, flags):
        fake.put("a", data={"baseModel": "qwen", "adapters": "- sql-lora"})
        held = asyncio.Event()
        fake.faults.append(Fault(until=held))
        with serving(*flags, f"--transport={transport}") as process:
            assert "waiting for the model table from the ConfigMaps of all namespaces" in process.stderr
            for port in (process.port, process.health_port):
                assert check(port) == NOT_SERVING
                assert check(port, service="liveness") == SERVING
            assert ask(process.port, "sql-lora") == 503
            background.loop.call_soon_threadsafe(held.set)
            assert process.wait_for("the model table is complete: 1 base model and 1 adapter from the ConfigMaps of")
            for port in (process.port, process.health_port):
                assert check(port) == SERVING
            assert ask(process.port, "sql-lora") == [b"sql-lora", b"qwen"]
            assert process.stop() == 0
            assert "HTTP Request" not in process.stderr


def test_a_table_that_is_not_complete_in_time_ends_the_router(tmp_path):
    with cluster(tmp_path) as (fake, _, flags):
        fake.faults.extend(Fault(403) for _ in range(100))
        with serving(*flags, "--sync-timeout=0.3") as process:
            assert process.wait() == 1
            assert "--sync-timeout: the ConfigMaps were not listed within 0.3 s: " in process.stderr


def test_sigterm_is_heard_while_the_table_is_awaited(tmp_path):
    with cluster(tmp_path) as (fake, _, flags):
        fake.faults.extend(Fault(500) for _ in range(100))
        with serving(*flags) as process:
            assert process.stop() == 0
            assert process.stderr.endswith("stopped\n")


def test_without_a_table_every_model_is_its_own_base_model():
    with serving() as process:
        assert "no model table: every model is its own base model" in process.stderr
        assert ask(process.port, "gpt-4") == [b"gpt-4", b"gpt-4"]
        process.signal(signal.SIGINT)
        assert process.wait() == 0
        assert "SIGINT: draining" in process.stderr


def test_the_health_port_serves_no_ext_proc():
    with serving() as process, channel_to(process.health_port) as channel:
        stream = Stream(channel)
        assert stream.finish() == grpc.StatusCode.UNIMPLEMENTED


def test_settings_reach_the_exchange():
    with serving("--max-body-bytes=20", "--streaming=false") as process, channel_to(process.port) as channel:
        stream = Stream(channel)
        stream.send(messages.request_headers())
        assert stream.receive().HasField("request_headers")
        stream.send(body("a-longer-name"))
        assert stream.receive().immediate_response.status.code == 413
        assert stream.finish() == grpc.StatusCode.OK


@both
def test_sigterm_lets_a_running_stream_finish(transport):
    with serving(f"--transport={transport}") as process, channel_to(process.port) as channel:
        stream = Stream(channel)
        stream.send(HEADERS)
        stream.send(messages.request_body())
        assert ask(process.port, "other") == [b"other", b"other"]
        process.signal(signal.SIGTERM)
        assert process.wait_for("draining for at most 25 s")
        assert check(process.health_port) == NOT_SERVING
        with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
            while True:  # until the listener is closed, a turn of the loop later, perhaps with one in its backlog
                socket.create_connection(("127.0.0.1", process.port), DEADLINE_SECONDS).close()
        assert check(process.health_port) == NOT_SERVING
        stream.send(body("qwen"))
        assert stream.receive().HasField("request_headers")
        assert stream.receive().HasField("request_body")
        assert stream.finish() == grpc.StatusCode.OK
        assert process.wait() == 0
        assert process.stderr.endswith("stopped\n")


def test_new_requests_are_taken_until_no_gateway_is_connected():
    with serving("--drain-delay-seconds=600") as process:
        with channel_to(process.port) as channel:
            stream = Stream(channel)
            stream.send(HEADERS)
            stream.send(messages.request_body())
            assert ask(process.port, "other") == [b"other", b"other"]
            process.signal(signal.SIGTERM)
            assert process.wait_for("draining for at most 25 s")
            assert check(process.port) == check(process.health_port) == NOT_SERVING
            assert ask(process.port, "other") == [b"other", b"other"]
            stream.send(body("qwen"))
            assert stream.receive().HasField("request_headers")
            assert stream.receive().HasField("request_body")
            assert stream.finish() == grpc.StatusCode.OK
        assert process.wait() == 0
        assert process.stderr.endswith("stopped\n")


@both
def test_the_delay_of_the_drain_ends_whoever_is_connected(transport):
    with (
        serving(f"--transport={transport}", "--drain-delay-seconds=0.2", "--drain-seconds=0.5") as process,
        greeted(process.port) as held,
    ):
        began = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - began >= 0.2
        assert b"\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff" in to_the_end(held)  # GOAWAY(2^31-1)


@both
def test_a_stream_that_outlives_the_drain_does_not_hold_up_the_end(transport):
    with serving(f"--transport={transport}", "--drain-seconds=0.1") as process, channel_to(process.port) as channel:
        stream = Stream(channel)
        stream.send(HEADERS)
        assert ask(process.port, "other") == [b"other", b"other"]
        assert process.stop() == 0
        assert stream.finish() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("transport", "second"), [("uv", signal.SIGTERM), ("uv", signal.SIGINT), ("grpcio", signal.SIGTERM)]
)
def test_a_second_signal_ends_at_once(transport, second):
    with serving(f"--transport={transport}", "--drain-seconds=600") as process, channel_to(process.port) as channel:
        stream = Stream(channel)
        stream.send(HEADERS)
        assert ask(process.port, "other") == [b"other", b"other"]
        process.signal(signal.SIGTERM)
        assert process.wait_for("draining for at most 600 s")
        process.signal(second)
        assert process.wait() == -second
        assert "Traceback" not in process.stderr
        stream.finish()


def test_a_gateway_that_breaks_the_protocol_is_logged_by_its_reason():
    with serving() as process, channel_to(process.port) as channel:
        stream = Stream(channel)
        stream.send(HEADERS)
        stream.send(HEADERS)
        assert stream.finish() == grpc.StatusCode.FAILED_PRECONDITION
        assert process.wait_for("a gateway broke the ext_proc protocol (headers-twice)")
        assert process.stop() == 0


def failed_start(*arguments, ports=None):
    """Run a `bbr serve` that must fail to start; return its exit status and the whole of its stderr."""
    with bbr(*arguments, ports=ports) as process:
        status = process.wait()
        assert process.stdout() == ""
        return status, process.stderr


@pytest.mark.parametrize("flag", ["--grpc-port", "--grpc-health-port"])
def test_a_port_in_use_is_one_sentence_that_names_its_flag(flag):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        ports = (port, free_port()) if flag == "--grpc-port" else (free_port(), port)
        status, stderr = failed_start(ports=ports)
    assert status == 1
    why = "another process listens on this port"
    assert stderr == f"bbr serve: {flag}: can't listen on 127.0.0.1:{port}: {why}.\n"


@pytest.mark.grpcio
def test_an_address_of_another_machine_is_told_from_a_taken_port():
    flags = ["--bind-address=192.0.2.1", "--grpc-port=9004", "--grpc-health-port=9005"]
    status, stderr = failed_start(*flags)
    assert status == 1
    why = "the address is not one of this machine's"
    assert stderr == f"bbr serve: --grpc-port: can't listen on 192.0.2.1:9004: {why}.\n"


def test_a_second_router_on_the_same_ports_fails():
    with serving() as process:
        status, stderr = failed_start(ports=(process.port, process.health_port))
        assert status == 1
        assert stderr.startswith("bbr serve: --grpc-port: ")
        assert ask(process.port, "qwen") == [b"qwen", b"qwen"]


def test_a_bad_models_file_is_one_sentence_with_its_name_and_line(models):
    models.write_text(MODELS + "  - name: phi\n    adapter: [x]\n", encoding="utf-8")
    status, stderr = failed_start(f"--models={models}")
    assert status == 1
    assert stderr == (
        f"bbr serve: --models: {models}: line 6: an entry of models has the unknown key adapter; "
        "known: adapters, allow, name.\n"
    )


def test_a_missing_models_file_is_one_sentence(tmp_path):
    path = tmp_path / "none.yaml"
    status, stderr = failed_start(f"--models={path}")
    assert (status, stderr) == (1, f"bbr serve: --models: {path}: No such file or directory.\n")


def converse(port, *sent):
    with channel_to(port) as channel:
        stream = Stream(channel)
        for message in sent:
            stream.send(message)
        return stream.receive()


def test_settings_reach_the_exchanges():
    flags = ["--max-body-bytes=100", "--max-model-length=4", "--on-invalid-json=pass-stripped", "--streaming=false"]
    flags += ["--strip-header=x-tenant", "--dynamic-metadata=bbr"]
    with serving(*flags) as process:
        buffered = messages.request_headers()  # without a protocol_config
        stripped = converse(process.port, buffered).request_headers.response.header_mutation.remove_headers
        assert [stripped[2], stripped[-1]] == ["x-gateway-destination-endpoint", "x-tenant"]
        large = converse(process.port, messages.request_headers({"content-length": "101"}))
        assert large.immediate_response.status.code == 413
        assert large.dynamic_metadata.fields["bbr"].struct_value.fields["outcome"].string_value == "body-too-large"
        assert ask(process.port, "abcde") == 400
        assert ask(process.port, "abcd") == [b"abcd", b"abcd"]
        with channel_to(process.port) as channel:
            stream = Stream(channel)
            stream.send(HEADERS)
            stream.send(messages.request_body(b"NaN", end_of_stream=True))
            assert [stream.receive().WhichOneof("response") for _ in range(2)] == ["request_headers", "request_body"]
            assert stream.finish() == grpc.StatusCode.OK


def stand_still(port, headers):
    """Send a request's headers, and wait; return the answers.

    The call and its message share a packet. A machine that is busy could keep them apart for longer than the idle
    seconds, and a call without a message gets no answer.
    """

    async def talk():
        client = await GrpcFrames.connect(port)
        call = client.call()
        client.send(call, framed(headers))
        client.flush()
        stream = await client.ended(call)
        await client.close()
        return [messages.parse(each) for each in stream.messages]

    return asyncio.run(talk())


def test_idle_seconds_of_full_duplex_reach_the_exchanges():
    with serving("--body-idle-seconds=0.05") as process:
        (answer,) = stand_still(process.port, HEADERS)
        assert answer.immediate_response.details == "bbr:body-timeout"


def test_idle_seconds_of_a_buffering_gateway_reach_the_exchanges():
    with serving("--body-idle-seconds=0.05", "--streaming=false") as process:
        first, last = stand_still(process.port, messages.request_headers())
        assert first.HasField("request_headers")
        assert last.immediate_response.details == "bbr:body-timeout"


def test_trusting_clients_is_said_aloud():
    with serving("--trust-client-headers") as process:
        assert process.wait_for("--trust-client-headers: a client that names no model picks its own pool")
        get = messages.request_headers({":method": "GET"}, end_of_stream=True)
        removed = converse(process.port, get).request_headers.response.header_mutation.remove_headers
        assert removed[0] == "x-gateway-destination-endpoint"
        assert "X-Gateway-Model-Name" not in removed


def test_names_that_no_request_could_ask_for_are_refused(tmp_path):
    models = tmp_path / "models.yaml"
    models.write_text(MODELS)
    with bbr(f"--models={models}", "--max-model-length=8") as process:
        assert process.wait() == 1
        assert (
            f"--models: {models}: line 3: the adapter is 9 bytes long in UTF-8; at most 8 are allowed" in process.stderr
        )
    models.write_text(f"models: [{{name: {'x' * 300}}}]")
    with serving(f"--models={models}", "--max-model-length=300") as process:
        assert ask(process.port, "x" * 300) == [b"x" * 300] * 2


def test_a_default_model_that_is_not_served_is_told(models):
    with serving(f"--models={models}", "--unknown-model=default", "--default-model=gemma") as process:
        assert process.wait_for("--default-model: the model table does not hold gemma")
    with serving(f"--models={models}", "--unknown-model=default", "--default-model=sql-lora") as process:
        # The routing headers, and those by which a picker rewrites the name in the body.
        assert ask(process.port, "gemma") == [b"sql-lora", b"qwen", b"sql-lora", b"sql-lora"]
        assert "does not hold" not in process.stderr


def test_sighup_reads_the_models_anew_and_a_broken_file_changes_nothing(models):
    with serving(f"--models={models}") as process:
        models.write_text("models:\n- nam: gemma\n", encoding="utf-8")
        process.signal(signal.SIGHUP)
        assert process.wait_for("line 2: an entry of models has the unknown key nam")
        assert ask(process.port, "sql-lora") == [b"sql-lora", b"qwen"]
        models.write_text("models: [{name: gemma}]\n", encoding="utf-8")
        process.signal(signal.SIGHUP)
        assert process.wait_for("can be used again")
        assert process.wait_for("the model table is in use: 1 base models, 1 names in all")
        assert ask(process.port, "gemma") == [b"gemma", b"gemma"]
        assert process.stop() == 0


@both
def test_tls_is_the_default_and_its_certificate_is_told(transport):
    with serving(f"--transport={transport}", "--secure-serving") as process:
        assert f"over TLS, by the {transport} transport" in process.stderr
        assert process.wait_for("the certificate is self-signed, made at this start: SHA-256 ")
        certificate = ssl.get_server_certificate(("127.0.0.1", process.port))
        told = process.stderr.partition("SHA-256 ")[2][:95].replace(":", "").lower()
        assert told == hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
        assert ask(process.port, "qwen", certificate.encode()) == [b"qwen", b"qwen"]
        assert check(process.health_port) == SERVING  # in plaintext, always
        assert process.stop() == 0
        assert "Traceback" not in process.stderr


@pytest.fixture
def issued(tmp_path):
    """A certificate for localhost: its files, and the root that verifies it."""
    authority = Authority()
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    chain_pem, key_pem = authority.issue("localhost")
    certificate.write_bytes(chain_pem)
    key.write_bytes(key_pem)
    return certificate, key, authority


@both
def test_tls_by_files(transport, issued):
    certificate, key, authority = issued
    files = (f"--tls-cert={certificate}", f"--tls-key={key}")
    with serving(f"--transport={transport}", "--secure-serving", *files) as process:
        assert process.wait_for(f"the certificate is that of {certificate}, valid until ")
        assert ask(process.port, "qwen", authority.root_pem) == [b"qwen", b"qwen"]
        assert process.stop() == 0
        assert "has expired" not in process.stderr


def test_expired_certificate_is_served_with_a_warning(issued):
    certificate, key, authority = issued
    end = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)
    chain_pem, key_pem = authority.issue("localhost", not_after=end)
    certificate.write_bytes(chain_pem)
    key.write_bytes(key_pem)
    with serving("--secure-serving", f"--tls-cert={certificate}", f"--tls-key={key}") as process:
        assert process.wait_for(f"--tls-cert: {certificate}: has expired: no gateway that verifies it will connect")
        assert f"the certificate is that of {certificate}, valid until 2026-01-02 03:04 UTC: SHA-256 " in process.stderr


def test_certificate_that_can_not_be_used_is_one_sentence(issued):
    certificate, key, _authority = issued
    key.unlink()
    status, stderr = failed_start("--secure-serving", f"--tls-cert={certificate}", f"--tls-key={key}")
    assert (status, stderr) == (1, f"bbr serve: --tls-key: {key}: No such file or directory.\n")


@both
def test_sighup_reads_certificate_and_table_anew_and_connections_live_on(transport, issued, models):
    certificate, key, authority = issued
    flags = (f"--transport={transport}", f"--models={models}", f"--tls-cert={certificate}", f"--tls-key={key}")
    with (
        serving("--secure-serving", *flags, admin=True) as process,
        channel_to(process.port, authority.root_pem) as channel,
    ):
        stream = Stream(channel)
        stream.send(HEADERS)
        begun(process)
        before = ssl.get_server_certificate(("127.0.0.1", process.port))
        chain_pem, key_pem = authority.issue("localhost")
        certificate.write_bytes(chain_pem)
        key.write_bytes(key_pem)
        models.write_text("models: [{name: gemma}]", encoding="utf-8")
        process.signal(signal.SIGHUP)
        fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(chain_pem.decode())).digest().hex(":").upper()
        assert process.wait_for(f"SHA-256 {fingerprint}")
        assert process.wait_for("the model table is in use: 1 base models")
        after = ssl.get_server_certificate(("127.0.0.1", process.port))
        assert before != after
        assert after.strip() == chain_pem.decode().strip()
        stream.send(body("qwen"))  # by the table that it began with
        assert stream.receive().HasField("request_headers")
        assert stream.receive().HasField("request_body")
        assert stream.finish() == grpc.StatusCode.OK
        assert process.stop() == 0


@both
def test_connections_are_bounded(transport):
    with serving(f"--transport={transport}", "--max-connections=2", "--drain-seconds=1") as process:
        with contextlib.ExitStack() as open_sockets:
            held = [open_sockets.enter_context(greeted(process.port)) for _ in range(2)]
            third = open_sockets.enter_context(h2_connection(process.port))
            if transport == "uv":  # in place of the one that was idle the longest
                assert b"\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00" in to_the_end(held[0])  # GOAWAY(0)
            else:
                with contextlib.suppress(ConnectionResetError):
                    assert to_the_end(third) == b""
        assert process.stop() == 0


@both
def test_connections_age(transport):
    with serving(f"--transport={transport}", "--max-connection-age=0.2", "--drain-seconds=1") as process:
        begin = time.monotonic()
        with h2_connection(process.port) as old:
            assert b"\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff" in to_the_end(old)  # GOAWAY(2^31-1)
        assert time.monotonic() - begin >= 0.18
        assert ask(process.port, "qwen") == [b"qwen", b"qwen"]
        assert process.stop() == 0


def h2_connection(port):
    client = socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS)
    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
    return client


def greeted(port):
    """Return a connection that the router has taken."""
    client = h2_connection(port)
    assert client.recv(1)
    return client


def to_the_end(client):
    found = b""
    while piece := client.recv(65_536):
        found += piece
    return found


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="no way to change another process's limits")
def test_running_out_of_file_descriptors_turns_connections_away_and_passes():
    with serving("--transport=uv") as process:
        used = len(os.listdir(f"/proc/{process.pid}/fd"))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used + 10, used + 10))
        with contextlib.ExitStack() as open_sockets:
            held = [open_sockets.enter_context(h2_connection(process.port)) for _ in range(50)]
            ended = 0
            for each in held[20:]:
                with contextlib.suppress(ConnectionResetError):
                    assert to_the_end(each) == b""
                ended += 1
            assert ended == 30
        until(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) <= used)  # it has seen the others' end as well
        assert ask(process.port, "qwen") == [b"qwen", b"qwen"]
        assert process.stop() == 0
