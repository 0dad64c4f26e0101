"""gRPC calls past the router, between a real client and a real server: messages arrive as they are sent."""

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from bbr.exchange.verdict import Outcome
from bench.harness import envoy
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

SECONDS = 20.0
SPOOFED = [
    ("x-gateway-base-model-name", PHI),
    ("x-gateway-model-name", PHI),
    ("x-gateway-model-name", QWEN),
    ("x-gateway-destination-endpoint", "127.0.0.1:1"),
]
MODES = [("FULL_DUPLEX_STREAMED", {}), ("BUFFERED", {"allow_mode_override": True})]


@dataclass
class EchoServer:
    """A grpcio server with a method of each kind; answers what it gets, and keeps the metadata of its calls."""

    calls: list[dict[str, list[Any]]] = field(default_factory=list)

    def start(self) -> int:
        methods = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "PingPong": grpc.stream_stream_rpc_method_handler(self.ping_pong),
        }
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return port

    def stop(self) -> None:
        self._server.stop(0).wait(SECONDS)

    def unary(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        self._keep(context)
        return b"echo " + message

    def collect(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self._keep(context)
        return b"%d octets" % sum(map(len, messages))

    def ping_pong(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self._keep(context)
        for message in messages:
            if message == b"fail":
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as you asked")
            yield b"pong " + message

    def _keep(self, context: grpc.ServicerContext) -> None:
        seen: dict[str, list[Any]] = {}
        for key, value in context.invocation_metadata():
            seen.setdefault(key, []).append(value)
        self.calls.append(seen)
        context.set_trailing_metadata([("x-served-by", "echo")])


@dataclass
class Setup:
    channel: grpc.Channel
    server: EchoServer
    router: Router

    def assert_passed_stripped(self) -> None:
        (seen,) = self.server.calls
        assert "x-gateway-base-model-name" not in seen
        assert "x-gateway-model-name" not in seen
        assert "x-gateway-destination-endpoint" not in seen
        assert seen["x-mine"] == ["kept"]
        (verdict,) = self.router.verdicts()
        assert verdict.outcome is Outcome.NOT_READ


@pytest.fixture(scope="module", params=MODES, ids=lambda mode: mode[0])
def running(request: pytest.FixtureRequest) -> Iterator[Setup]:
    mode, fields = request.param
    server = EchoServer()
    port = server.start()
    with Background() as background:
        router = Router(background)
        # A request on a spoofed route would meet a closed port.
        pools = {PHI: 1, QWEN: 1, "default": port}
        config = envoy.configuration([envoy.router_filter(mode, **fields)], router.port, pools, http2_pools=["default"])
        with (
            envoy.gateway(config) as gateway,
            grpc.insecure_channel(f"127.0.0.1:{gateway.port}", options=[("grpc.enable_http_proxy", 0)]) as channel,
        ):
            yield Setup(channel, server, router)
        router.stop()
    server.stop()


@pytest.fixture
def setup(running: Setup) -> Setup:
    running.server.calls.clear()
    running.router.verdicts()
    return running


METADATA = [*SPOOFED, ("x-mine", "kept")]


def test_ping_pong(setup: Setup) -> None:
    messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    call = setup.channel.stream_stream("/test.Echo/PingPong")(iter(messages.get, None), SECONDS, METADATA)
    for turn in range(5):
        message = b"%d " % turn + bytes(turn * 30_000)
        messages.put(message)
        assert next(call) == b"pong " + message  # before the next one is sent, and before the call's end
    messages.put(None)
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK
    assert ("x-served-by", "echo") in [tuple(pair) for pair in call.trailing_metadata()]
    setup.assert_passed_stripped()


def test_servers_status_arrives_in_mid_stream(setup: Setup) -> None:
    messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    call = setup.channel.stream_stream("/test.Echo/PingPong")(iter(messages.get, None), SECONDS, METADATA)
    messages.put(b"one")
    assert next(call) == b"pong one"
    messages.put(b"fail")
    with pytest.raises(grpc.RpcError):
        next(call)
    messages.put(None)
    assert (call.code(), call.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "as you asked")
    setup.assert_passed_stripped()


def test_unary(setup: Setup) -> None:
    # As JSON the message would name a model; as gRPC it is nobody's business.
    message = b'{"model": "%s"}' % PHI.encode()
    answer, call = setup.channel.unary_unary("/test.Echo/Unary").with_call(message, SECONDS, METADATA)
    assert answer == b"echo " + message
    assert call.code() is grpc.StatusCode.OK
    setup.assert_passed_stripped()


def test_upload_of_many_messages(setup: Setup) -> None:
    messages = [bytes(100_000)] * 50
    answer = setup.channel.stream_unary("/test.Echo/Collect")(iter(messages), SECONDS, METADATA)
    assert answer == b"5000000 octets"
    setup.assert_passed_stripped()
