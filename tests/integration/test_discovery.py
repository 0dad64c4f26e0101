"""Through a real Envoy: adapters that model servers load while requests come, with nobody to declare them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from bench.harness.fake_kubernetes import HTTP_ROUTES, PODS, POOLS, FakeKubernetes
from deploy.local.gateway import BodyMode
from deploy.local.stack import Stack, StackOptions
from deploy.local.topology import POOLS as LOCAL_POOLS
from deploy.local.topology import free_ports
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

QWEN, PHI = LOCAL_POOLS
GROUP = "inference.networking.k8s.io"
READY = [{"type": "Ready", "status": "True"}]

DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.05


class Cluster(FakeKubernetes):
    """The API server of a cluster in which the stack's model servers are pods."""

    def add(self, ports: dict[str, int]) -> None:
        """Add the pools, their pods and their routes; each port of a pool is one of its servers."""
        for pool in LOCAL_POOLS:
            numbers = [{"number": ports[pod]} for pod in pool.pods]
            spec: dict[str, Any] = {"selector": {"matchLabels": {pool.name: "true"}}, "targetPorts": numbers}
            self.put(pool.name, path=POOLS, spec=spec)
            self.put(pool.name, path=PODS, labels=[pool.name], status={"podIP": "127.0.0.1", "conditions": READY})
            headers = [{"name": "X-Gateway-Base-Model-Name", "value": pool.base_model}]
            backend = {"group": GROUP, "kind": "InferencePool", "name": pool.name}
            rule = {"matches": [{"headers": headers}], "backendRefs": [backend]}
            self.put(pool.name, path=HTTP_ROUTES, spec={"rules": [rule]})


async def until(condition: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    """Wait until a condition holds."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    while True:
        if await condition():
            return
        assert asyncio.get_running_loop().time() < deadline, otherwise
        await asyncio.sleep(POLL_SECONDS)


class Gateway:
    """The stack, as clients and whoever loads adapters see it."""

    def __init__(self, stack: Stack, http: aiohttp.ClientSession) -> None:
        self._stack = stack
        self._http = http

    async def ask(self, model: str) -> str:
        """Ask for a model; return the pool that answered, or the error's code."""
        body = {"model": model, "prompt": "?"}
        async with self._http.post(f"{self._stack.url}/v1/completions", json=body) as response:
            if response.status == 200:
                return response.headers["x-pool"]
            error = (await response.json(content_type=None))["error"]
            return str(error["code"])

    async def asks(self, model: str, wanted: str) -> None:
        """Ask until the answer is the wanted one."""

        async def found() -> bool:
            return await self.ask(model) == wanted

        await until(found, f"{model}: not {wanted}")

    async def tell(self, what: str, name: str, *pods: str) -> None:
        """Load or unload an adapter on some pods, as vLLM's API has it."""
        for pod in pods:
            url = f"http://127.0.0.1:{self._stack.ports[pod]}/v1/{what}_lora_adapter"
            async with self._http.post(url, json={"lora_name": name, "lora_path": "/x"}) as response:
                assert response.status == 200

    async def admin(self, path: str) -> str:
        """Return a page of the router's admin port."""
        async with self._http.get(f"{self._stack.status_url}{path}") as response:
            return await response.text()

    async def counts(self, line: str) -> None:
        """Await a line of the router's metrics: of servers that it has not asked yet it knows nothing."""

        async def found() -> bool:
            return line in await self.admin("metrics")

        await until(found, f"no {line} in the metrics")


@contextlib.asynccontextmanager
async def discovering(tmp_path: Path, body_mode: BodyMode) -> AsyncIterator[Gateway]:
    """Run the stack with a router that asks the model servers once a second."""
    ports = free_ports()
    async with Cluster() as cluster, aiohttp.ClientSession() as http:
        cluster.add(ports)
        flags = ("--kubernetes", f"--kubeconfig={cluster.kubeconfig(tmp_path)}", "--discover-adapters")
        options = StackOptions(
            log_dir=tmp_path,
            ports=ports,
            body_mode=body_mode,
            router_args=(*flags, "--discover-interval=1", "--serve-models-list"),
        )
        async with Stack(options) as stack:
            yield Gateway(stack, http)


def test_a_loaded_adapter_is_routed_and_nobody_declares_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with discovering(tmp_path, "FULL_DUPLEX_STREAMED") as gateway:
            assert await gateway.ask("new-lora") == "model_not_found"
            await gateway.tell("load", "new-lora", *PHI.pods)
            await gateway.asks("new-lora", PHI.name)
            listed = json.loads(await gateway.admin("debug/models"))
            (found,) = (each for each in listed["models"] if each["name"] == "new-lora")
            assert found["base_model"] == PHI.base_model
            assert found["declared_by"]["kind"] == "the servers of InferencePool"
            await gateway.counts("bbr_discovery_adapters 4.0")  # three are declared as well
            await gateway.counts('bbr_discovery_servers{state="answering"} 4.0')
            await gateway.tell("unload", "new-lora", *PHI.pods)
            await gateway.asks("new-lora", "model_not_found")
            assert await gateway.ask("sql-lora") == QWEN.name

    asyncio.run(test())


def test_a_server_that_claims_what_is_others_changes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with discovering(tmp_path, "BUFFERED") as gateway:
            await gateway.tell("load", "mine", *QWEN.pods)
            await gateway.asks("mine", QWEN.name)
            for name in ("mine", "sql-lora", QWEN.base_model):
                await gateway.tell("load", name, *PHI.pods)
            text = "the adapter mine is claimed for several base models"

            async def told() -> bool:
                return text in await gateway.admin("readyz")

            await until(told, "readyz does not tell")
            for name in ("mine", "sql-lora", QWEN.base_model):
                assert await gateway.ask(name) == QWEN.name
            await gateway.counts('bbr_source_failing{source="model servers"} 1.0')
            await gateway.tell("unload", "mine", *QWEN.pods)
            await gateway.asks("mine", PHI.name)

    asyncio.run(test())
