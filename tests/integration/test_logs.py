import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter

import grpc
import pytest
from prometheus_client import parser

from bbr.exchange.policy import BodyMode
from bench.harness import messages
from bench.harness.grpc_client import PROCESS
from bench.harness.ports import free_ports
from bench.harness.processes import DEADLINE_SECONDS, READY, bbr, serving
from tests.support.canaries import CANARY, canary, planted

DUPLEX = BodyMode.FULL_DUPLEX_STREAMED
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def transport(request):
    return request.param


def converse(port, *sent, metadata=()):
    """Run one ext_proc stream to its end."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(PROCESS)(iter(sent), timeout=DEADLINE_SECONDS, metadata=metadata)
        with contextlib.suppress(grpc.RpcError):
            for _ in call:
                pass
        return call.code()


def ask(port, body, mode=DUPLEX, **fields):
    headers = messages.request_headers({**messages.JSON_POST, **fields}, mode=mode)
    return converse(port, headers, messages.request_body(body, end_of_stream=True))


def records(process):
    return [json.loads(line) for line in process.stderr.splitlines()]


def requests(process):
    return [record for record in records(process) if record["logger"] == "bbr.access"]


def test_the_log_of_a_process_is_json_and_holds_what_was_refused(transport):
    with serving(f"--transport={transport}", "--log-format=auto") as process:
        ask(process.port, b'{"model": "qwen"}')
        fields = {"x-request-id": "1b9d-7", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
        ask(process.port, b'{"model": ', **fields)
        headers = messages.request_headers(mode=DUPLEX)
        assert converse(process.port, headers, headers) == grpc.StatusCode.FAILED_PRECONDITION
        assert process.wait_for("request fault")
        assert process.stop() == 0
        refused, fault = requests(process)
        assert refused.pop("duration_ms") > refused.pop("busy_us") / 1000 > 0
        assert refused.pop("time").endswith("Z")
        assert refused == {
            "level": "info",
            "logger": "bbr.access",
            "message": "request refused",
            "outcome": "refused",
            "reason": "invalid-json",
            "method": "POST",
            "path": "/v1/chat/completions",
            "body_bytes": 10,
            "early": False,
            "request_id": "1b9d-7",
            "trace_id": TRACE,
        }
        assert (fault["level"], fault["outcome"], fault["reason"]) == ("warning", "fault", "headers-twice")
        first, *_, last = records(process)
        assert READY in first["message"]
        assert (last["message"], last["logger"], last["level"]) == ("stopped", "bbr.server", "info")


@pytest.mark.grpcio
def test_all_requests_with_their_outcomes(transport):
    with serving(f"--transport={transport}", "--log-format=json", "--access-log=all") as process:
        for body in (b'{"model": "qwen"}', b"{}", b"["):
            ask(process.port, body)
        converse(process.port, messages.request_headers(mode=DUPLEX, end_of_stream=True))
        assert process.wait_for("request no-body")
        assert [record["outcome"] for record in requests(process)] == ["routed", "no-model", "refused", "no-body"]
        assert process.stop() == 0


def test_levels_and_no_access_log():
    with serving("--log-format=json", "--log-level=debug", "--access-log=off") as process:
        ask(process.port, b"[")
        assert process.wait_for("a connection ended")
        assert process.stop() == 0
        assert {record["level"] for record in records(process)} == {"debug", "info"}
        assert requests(process) == []


def test_a_level_above_info_leaves_requests_in():
    arguments = ("--log-format=json", "--log-level=error", "--trust-client-headers")
    with bbr(*arguments, admin=True) as process:
        await_health(process.admin_port)
        ask(process.port, b"[")
        assert process.wait_for("request refused")
        assert process.stop() == 0
        assert [record["outcome"] for record in records(process)] == ["refused"]


def await_health(port):
    until = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return fetch(port, "/healthz")
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.02)  # until the port is listened on, which this log does not tell


def fetch(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=DEADLINE_SECONDS) as answer:
        return answer.read().decode()


def test_a_flood_of_refused_requests_is_bounded_and_counted():
    with (
        serving("--log-format=json", "--access-log-rate=5") as process,
        grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel,
    ):
        sent = (messages.request_headers(mode=DUPLEX), messages.request_body(b"[", end_of_stream=True))
        begun = time.monotonic()
        for _ in range(200):
            list(channel.stream_stream(PROCESS)(iter(sent), timeout=DEADLINE_SECONDS))
        assert process.wait_for("records of refused requests were left out")
        assert process.stop() == 0
        took = time.monotonic() - begun  # longer than all of them: the last may be written after its client's answer
        told = requests(process)
        lines = [record for record in told if "outcome" in record]
        assert len(lines) <= 5 * (took + 1)
        assert len(lines) + sum(record.get("left_out", 0) for record in told) == 200


def test_a_start_that_fails_is_a_record():
    with bbr("--log-format=json", "--models=none.yaml") as process:
        assert process.wait() == 1
        (record,) = records(process)
        assert (record["level"], record["logger"]) == ("critical", "bbr.commands.serve")
        assert record["message"] == "bbr serve: --models: none.yaml: No such file or directory."


def command(*arguments):
    """Return the command line of a router that a test starts by itself, and its admin port."""
    grpc_port, health, admin = free_ports(3)
    ports = (f"--grpc-port={grpc_port}", f"--grpc-health-port={health}", f"--metrics-port={admin}")
    line = [sys.executable, "-W", "error", "-m", "bbr", "serve", "--bind-address=127.0.0.1", "--secure-serving=false"]
    return [*line, *ports, "--access-log=all", *arguments], grpc_port, admin


@contextlib.contextmanager
def running(line, admin, **streams):
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, **streams) as process:
        try:
            await_health(admin)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_reader_of_stderr_that_goes_away_takes_nothing_with_it(form):
    line, port, admin = command(f"--log-format={form}")
    reader, writer = os.pipe()
    with running(line, admin, stderr=writer) as process:
        os.close(reader)
        os.close(writer)
        for _ in range(3):
            assert ask(port, b'{"model": "qwen"}') == grpc.StatusCode.OK
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0


def test_a_reader_of_stderr_that_reads_no_more_holds_up_nothing():
    line, port, admin = command("--access-log=all")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, bytes(4096)):  # it is full
            pass
    os.set_blocking(writer, True)
    with running(line, admin, stderr=writer) as process:
        os.close(writer)
        for _ in range(3):
            assert ask(port, b'{"model": "qwen"}') == grpc.StatusCode.OK
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
    os.close(reader)


def test_a_router_without_stderr_serves():
    line, port, admin = command()
    with running(line, admin, preexec_fn=lambda: os.close(2)) as process:
        assert ask(port, b"[") == grpc.StatusCode.OK
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0


PROGRAM = """
import asyncio, gc, threading, warnings
from bbr.telemetry import logs

logs.set_up("info", "json")

class Fragile:
    def __del__(self):
        raise ValueError("del")

def fail():
    raise ValueError("thread")

async def main():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)

warnings.simplefilter("default")
warnings.warn("old ways", DeprecationWarning)
Fragile()
thread = threading.Thread(target=fail, name="worker")
thread.start()
thread.join()
asyncio.run(logs.watched(main()))
raise KeyError("the end")
"""


def test_all_that_goes_wrong_in_a_process_is_json():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [record["level"] for record in found] == ["warning", "error", "error", "error", "critical"]
    assert "DeprecationWarning: old ways" in found[0]["message"]
    assert [record["stack"].splitlines()[-1] for record in found[1:]] == [
        "builtins.ValueError",
        "ValueError: thread",
        "builtins.ValueError",
        "KeyError: 'the end'",
    ]


PAGES = ("/", "/metrics", "/healthz", "/readyz", "/debug/models", "/debug/config")


def page(port, path):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}?key={canary()}", headers={"authorization": f"Bearer {canary()}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:  # noqa: S310
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def outcomes_counted(port, total):
    """Return how many requests ended how, by outcome and base model, once all of them have ended."""
    until = time.monotonic() + DEADLINE_SECONDS
    while True:
        families = parser.text_string_to_metric_families(fetch(port, "/metrics"))
        samples = [sample for family in families for sample in family.samples if sample.name == "bbr_requests_total"]
        found = Counter({(each.labels["outcome"], each.labels["base_model"]): int(each.value) for each in samples})
        if found.total() >= total:
            return found
        assert time.monotonic() < until, found


def babble(port):
    """Send what is no HTTP/2, nor good HTTP/1, and await the end."""
    sent = f"GET /{canary()} HTTP/1.1\r\nauthorization: {canary()}\r\nno header {canary()}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as connection:
        connection.sendall(sent.encode())
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65_536):
                pass


# Text is a formatter's, whatever the transport.
@pytest.mark.parametrize(("transport", "form"), [("uv", "json"), ("uv", "text"), ("grpcio", "json")])
def test_no_canary_sings(transport, form, tmp_path):
    models = tmp_path / "models.yaml"
    models.write_text("models: [{name: qwen}]")
    verbose = (f"--log-format={form}", "--log-level=debug", "--access-log=all", "--access-log-rate=0")
    flags = (f"--transport={transport}", f"--models={models}", *verbose)
    more = ("--path-template=/model/{model}", "--query-model-path=/v1/realtime", "--strip-header=x-tenant")
    with serving(*flags, *more, admin=True) as process:
        port = process.admin_port
        sent = list(planted())
        assert len(sent) > 100
        assert sum(message.count(CANARY.encode()) for stream in sent for message in stream) > 1000
        metadata = [("authorization", f"Bearer {canary()}"), ("x-key", canary()), ("cookie", canary())]
        for stream in sent:
            converse(process.port, *stream, metadata=metadata)
        for each in (process.port, process.health_port, port):
            babble(each)
        pages = {path: page(port, path) for path in PAGES}
        counted = outcomes_counted(port, len(sent))
        assert process.stop() == 0
        lines = [line for line in process.stderr.splitlines() if " request " in line or '"request ' in line]
        assert len(lines) == len(sent)
        if form == "json":
            assert Counter((each["outcome"], each.get("base_model", "")) for each in requests(process)) == counted
        outcomes = ("routed", "refused", "no-model", "not-read", "fault", "pending")
        assert [each for each in outcomes if f"request {each}" not in process.stderr] == []
        found = {"stderr": process.stderr, "stdout": process.stdout(), **pages}
        assert [where for where, text in found.items() if CANARY in text] == []


# A router with a fault that quotes what it was given.
FAULTY = """
from bbr.exchange.exchange import Exchange

def fail(exchange, message):
    raise ValueError(f"what is {message!r}?")

Exchange.receive = fail
from bbr.cli import main
raise SystemExit(main())
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_fault_of_ours_tells_where_and_not_on_what(transport, form):
    line, port, admin = command(f"--transport={transport}", f"--log-format={form}")
    line[line.index("-m") : line.index("serve")] = ["-c", FAULTY]
    with running(line, admin, stderr=subprocess.PIPE, text=True) as process:
        code = ask(port, canary().encode(), authorization=canary())
        assert code == grpc.StatusCode.INTERNAL
        process.send_signal(signal.SIGTERM)
        stderr = process.communicate(timeout=DEADLINE_SECONDS)[1]
    assert "an exchange failed" in stderr
    assert "builtins.ValueError" in stderr
    assert "in fail" in stderr
    assert CANARY not in stderr
    assert "what is" not in stderr
