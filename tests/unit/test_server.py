import asyncio
import os
import signal
import sys

import grpc
import pytest

from bbr import server
from bbr.config import loading
from bbr.pb.health_pb2 import HealthCheckRequest, HealthCheckResponse
from bbr.server import Server, StartError
from bench.harness.ports import free_ports
from tests.support.loops import in_loop

SERVING = HealthCheckResponse.SERVING
# How long an answer may take on a busy machine.
DEADLINE_SECONDS = 90.0


def check(port):
    request = HealthCheckRequest().SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = channel.unary_unary("/grpc.health.v1.Health/Check")(request, timeout=DEADLINE_SECONDS)
    return HealthCheckResponse.FromString(answer).status


@in_loop
async def test_in_process_it_tells_its_readiness_and_gives_the_signals_back(monkeypatch):
    frozen = []
    monkeypatch.setattr(server.gc, "freeze", lambda: frozen.append(statuses[:]))
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    port, health_port = free_ports(2)
    flags = {
        "bind_address": "127.0.0.1",
        "grpc_port": str(port),
        "grpc_health_port": str(health_port),
        "metrics_port": "0",
    }
    router = Server(loading.load({**flags, "secure_serving": "false"}, {}))
    statuses = []

    def ready():
        asyncio.get_running_loop().run_in_executor(None, ask_and_stop)

    def ask_and_stop():
        statuses.extend((check(port), check(health_port)))
        os.kill(os.getpid(), signal.SIGTERM)

    await router.run(ready)
    assert statuses == [SERVING, SERVING]
    assert frozen == [[]]  # once, before it is ready
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize(("held", "told"), [("512", True), ("64MiB", False)])
@in_loop
async def test_room_for_less_than_the_longest_body_is_told(caplog, held, told):
    Server(loading.load({"max_buffered_bytes": held}, {}))._warn_of_idle_settings()
    sentence = "--max-buffered-bytes=512 is less than --max-body-bytes=67108864: longer bodies may get 503"
    assert caplog.messages == [sentence] * told


def test_too_few_open_files_bound_the_connections_and_are_told(monkeypatch, caplog):
    monkeypatch.setattr(server.descriptors, "connections_allowed", lambda wanted: wanted - 1)
    assert server._limits(loading.load({}, {})).max_connections == 9_999
    assert caplog.messages == ["--max-connections=10000 is 9999: the limit of open files allows no more"]


@pytest.mark.parametrize("module", ["opentelemetry", "opentelemetry.sdk.resources"], ids=["none of it", "no SDK"])
def test_tracing_without_its_extra_says_what_to_install(monkeypatch, module):
    for name in [name for name in sys.modules if name == "bbr.telemetry.tracing" or name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("bbr.telemetry.tracing", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StartError) as caught:
        Server(loading.load({"tracing": "true", "secure_serving": "false"}, {}))
    assert str(caught.value) == "--tracing: OpenTelemetry is not installed: pip install 'body-based-router[otel]'"
