import asyncio
import json
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable

import aiohttp
import pytest

from deploy.local.gateway import TEMPLATE
from deploy.local.preloaded import MODEL_SERVER
from deploy.local.stack import PortInUseError, Stack, StackError, StackOptions
from deploy.local.topology import DEFAULT_PORTS, POOLS, free_ports, in_use
from tests.support.h2_client import H2Client
from tests.support.stack import DEADLINE_SECONDS, in_stack, running
from tests.support.tools import needs_envoy

QWEN, PHI = POOLS
CHAT = "/v1/chat/completions"
LONE = "meta/llama"


def test_port_in_use_is_named_with_its_part(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        stack = Stack(StackOptions(log_dir=tmp_path, ports={**free_ports(), "phi-2": taken}))

        async def run() -> None:
            async with stack:
                pass

        with pytest.raises(PortInUseError, match=rf"something already listens on port {taken} \(for phi-2\)\."):
            asyncio.run(run())
    assert stack.parts == {}


def test_of_many_ports_in_use_the_first_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("deploy.local.stack.in_use", lambda port: True)
    stack = Stack(StackOptions(log_dir=tmp_path, ports=DEFAULT_PORTS))
    (first, one), (second, two) = list(DEFAULT_PORTS.items())[:2]
    named = rf"on port {one} \(for {first}\), {two} \(for {second}\) and {len(DEFAULT_PORTS) - 2} more ports\.$"
    with pytest.raises(PortInUseError, match=named):
        asyncio.run(stack.start())


def test_port_of_all_interfaces_counts_as_in_use():
    with socket.create_server(("0.0.0.0", 0)) as other:  # noqa: S104 - accepts nothing
        assert in_use(other.getsockname()[1])


def test_free_ports_differ():
    ports = free_ports()
    assert ports.keys() == DEFAULT_PORTS.keys()
    assert len(set(ports.values())) == len(ports)


@pytest.mark.parametrize(("platform", "forked"), [("linux", True), ("darwin", False)])
def test_stand_ins_are_forked_where_sockets_have_sequenced_packets(tmp_path, monkeypatch, platform, forked):
    given = []
    monkeypatch.setattr("deploy.local.stack.Part", lambda *_, run=None: given.append(run))
    monkeypatch.setattr(sys, "platform", platform)
    stack = Stack(StackOptions(log_dir=tmp_path, ports=free_ports()))
    stack._stand_in("p", MODEL_SERVER, ["--pod=p"], None)
    assert given == [stack._preloaded.run if forked else None]


class TestWithEnvoy:
    pytestmark = needs_envoy

    def test_part_that_dies_early_stops_all(self, tmp_path):
        program = "import sys; print('bbr serve: no such flag', file=sys.stderr); sys.exit(2)"
        options = StackOptions(log_dir=tmp_path, ports=free_ports(), router_command=(sys.executable, "-c", program))
        stack = Stack(options)

        async def run() -> None:
            async with stack:
                pass

        with pytest.raises(StackError, match=r"(?s)router ended early with exit code 2\..*no such flag"):
            asyncio.run(run())
        assert len(stack.parts) == 8
        assert all(part.exited.done() for part in stack.parts.values())
        assert not any(in_use(port) for port in options.ports.values())

    def test_part_that_dies_later_ends_the_work(self, tmp_path):
        async def test(stack):
            os.kill(stack.parts["phi-2"].pid, signal.SIGKILL)
            await asyncio.Event().wait()

        with pytest.raises(StackError, match="phi-2 ended early with signal SIGKILL"):
            in_stack(test, tmp_path)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """One stack for what leaves nothing behind: its streams last, and it has a model without a pool."""
    models = tmp_path_factory.mktemp("models") / "models.yaml"
    models.write_text((TEMPLATE.parent / "models.yaml").read_text().replace("models:", f"models:\n  - name: {LONE}", 1))
    with running(tmp_path_factory.mktemp("stack"), models=models, event_seconds=60.0) as stack:
        yield stack


@pytest.fixture
def gateway(stack):
    """Run a coroutine function with a client of the stack's gateway."""

    def run(test, **options):
        async def main():
            async with aiohttp.ClientSession(stack.url, **options) as session:
                await test(session)

        asyncio.run(main())

    return run


class TestShared:
    pytestmark = needs_envoy

    def test_picker_counts_an_answer_from_its_pick_to_its_end(self, gateway):
        async def test(session):
            streamed = await session.post(CHAT, json={"model": "sql-lora", "stream": True})
            busy = streamed.headers["x-pod"]
            await streamed.content.readuntil(b"\n\n")
            # Taking turns would never give four in a row, nor would counts that stay after an answer's end.
            await asked(session, lambda pods: len(pods) >= 4 and busy not in pods[-4:])
            streamed.close()
            await asked(session, lambda pods: busy in pods)

        gateway(test)

    def test_concurrent_requests_share_the_pods(self, gateway):
        async def test(session):
            # None of them has ended when the last one is sent.
            body = {"model": PHI.base_model, "stream": True}
            streams = await asyncio.gather(*(session.post(CHAT, json=body) for _ in range(20)))
            assert Counter(each.headers["x-pod"] for each in streams) == dict.fromkeys(PHI.pods, 10)
            for each in streams:
                each.close()

        gateway(test)

    def test_clients_can_not_choose_the_endpoint(self, gateway, stack):
        async def test(session):
            assert await ask(session) in QWEN.pods
            async with session.post(CHAT, json={}) as response:
                assert response.status == 404
                assert "x-pod" not in response.headers

        gateway(test, headers={"x-gateway-destination-endpoint": f"127.0.0.1:{stack.ports['phi-1']}"})

    def test_model_without_a_pool(self, gateway):
        async def test(session):
            async with session.post(CHAT, json={"model": LONE}) as response:
                error = (await response.json())["error"]
                assert (response.status, error["code"]) == (404, "model_not_found")
                assert "no pool" in error["message"]

        gateway(test)

    @pytest.mark.parametrize("body_bytes", [100, 300_000])
    def test_body_ended_by_trailers(self, stack, body_bytes):
        body = json.dumps({"model": "sql-lora", "prompt": "x" * body_bytes}).encode()
        with H2Client(stack.ports["gateway"]) as client:
            headers = [("content-type", "application/json")]
            response = client.request("POST", "/v1/completions", headers, body, [("x-checksum", "1")])
        assert (response.status, response.header("x-pool")) == (200, "qwen-pool")
        assert response.header("x-body-bytes") == str(len(body))


async def ask(session) -> str:
    async with session.post(CHAT, json={"model": QWEN.base_model}) as response:
        assert response.status == 200
        await response.read()
        return response.headers["x-pod"]


async def asked(session, enough: Callable[[list[str]], bool]) -> None:
    # The picker learns of an answer's end a little after the client: what a single reply tells may lag.
    async with asyncio.timeout(DEADLINE_SECONDS):
        pods = []
        while not enough(pods):
            pods.append(await ask(session))
