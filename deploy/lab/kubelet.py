"""A stand-in for scheduler and kubelet: runs pods as processes, each pod in a network namespace of its own.

Run inside the lab's namespace: python -m deploy.lab.kubelet FOLDER, where FOLDER/images.json tells what runs for which
image. What it is not: images and their users, cgroups and their limits, seccomp, NetworkPolicy, init containers,
metrics for autoscaling.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import Any, Final

import httpx
from aiohttp import web

from deploy.lab import balancer, network, pki
from deploy.lab.kube import STRATEGIC, KubeApi
from deploy.lab.names import Names
from deploy.lab.pod import Pod

NODES: Final = ("node-1", "node-2")
_TURN_SECONDS: Final = 0.3
_LOGS_PORT: Final = 10250

log = logging.getLogger("kubelet")


class Kubelet:
    """All nodes' pods."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = pki.files(folder / "pki")
        self._api = KubeApi(self._files.authority)
        self._pods: dict[str, tuple[Pod, asyncio.Task[None]]] = {}
        self._addresses = itertools.count()
        self._turns = itertools.cycle(NODES)

    async def run(self) -> None:
        """Register the nodes, and run pods until cancelled."""
        for node in NODES:
            await self._register(node)
        await Names(self._api.items).start()
        await self._serve_logs()
        try:
            while True:
                began = time.monotonic()
                try:
                    await self._turn()
                except httpx.HTTPError as error:
                    log.warning("the API server: %r", error)
                # On a busy machine it asks less often: what it asks for would be missing elsewhere.
                await asyncio.sleep(max(_TURN_SECONDS, time.monotonic() - began))
        finally:
            for _, task in self._pods.values():
                task.cancel()
            await asyncio.gather(*(task for _, task in self._pods.values()), return_exceptions=True)

    async def _register(self, name: str) -> None:
        labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{name[-1]}"}
        with contextlib.suppress(httpx.HTTPStatusError):  # it is there already
            await self._api.post("/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
        room = {"cpu": "64", "memory": "128Gi", "pods": "200", "ephemeral-storage": "100Gi"}
        status = {
            "capacity": room,
            "allocatable": room,
            "addresses": [{"type": "InternalIP", "address": network.NODE_ADDRESS}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": _LOGS_PORT}},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Lab", "message": "a stand-in for kubelet"}],
        }
        await self._api.patch(f"/api/v1/nodes/{name}/status", {"status": status}, STRATEGIC)

    async def _turn(self) -> None:
        for path, status in balancer.due(await self._api.items("/api/v1/services")):
            await self._api.patch(path, status)
        pods = await self._api.items("/api/v1/pods")
        if any(not document["spec"].get("nodeName") for document in pods):
            await self._bind([document for document in pods if not document["spec"].get("nodeName")])
        for document in pods:
            meta = document["metadata"]
            if not document["spec"].get("nodeName"):
                continue
            if meta["uid"] in self._pods:
                if meta.get("deletionTimestamp"):
                    self._pods[meta["uid"]][0].stop(float(meta.get("deletionGracePeriodSeconds", 30)))
            elif meta.get("deletionTimestamp"):
                await self._api.delete(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", meta["uid"])
            elif document.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
                await self._begin(document)
        there = {document["metadata"]["uid"] for document in pods}
        for uid in [uid for uid in self._pods if uid not in there]:
            self._pods[uid][0].stop(0.0)  # deleted by force

    async def _bind(self, pods: list[dict[str, Any]]) -> None:
        """Give pods nodes in turn, but none that is cordoned: without one that is not, they stay pending."""
        nodes = await self._api.items("/api/v1/nodes")
        usable = {node["metadata"]["name"] for node in nodes if not node.get("spec", {}).get("unschedulable")}
        for meta in (document["metadata"] for document in pods):
            node = next((name for name in itertools.islice(self._turns, len(NODES)) if name in usable), None)
            if node is not None:
                target = {"apiVersion": "v1", "kind": "Node", "name": node}
                binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}, "target": target}
                await self._api.post(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding", binding)

    async def _begin(self, document: dict[str, Any]) -> None:
        meta = document["metadata"]
        images = json.loads((self._folder / "images.json").read_text("utf-8"))
        services = await self._api.items("/api/v1/services")
        folder = self._folder / "pods" / f"{meta['namespace']}_{meta['name']}"
        folder.mkdir(parents=True, exist_ok=True)
        address = network.address(next(self._addresses))
        pod = Pod(self._api, document, address, images, folder, services, self._folder / "tokens")
        task = asyncio.create_task(pod.run(), name=f"{meta['namespace']}/{meta['name']}")
        self._pods[meta["uid"]] = pod, task
        log.info("%s: started", task.get_name())
        task.add_done_callback(lambda _: self._ended(meta["uid"]))

    def _ended(self, uid: str) -> None:
        _, task = self._pods.pop(uid)
        error = None if task.cancelled() else task.exception()
        log.info("%s: ended%s", task.get_name(), f" by {error!r}" if error else "")

    async def _serve_logs(self) -> None:
        """Serve `kubectl logs`, which asks the node by way of the API server."""
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        runner = web.AppRunner(application)
        await runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._files.certificate, self._files.key)
        await web.TCPSite(runner, network.NODE_ADDRESS, _LOGS_PORT, ssl_context=context).start()

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        names = request.match_info
        path = self._folder / "pods" / f"{names['namespace']}_{names['pod']}" / f"{names['container']}.log"
        if not path.is_file():
            raise web.HTTPNotFound(text=f"no log of {names['container']}")
        return web.Response(body=path.read_bytes(), content_type="text/plain")


async def _main(folder: Path) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await Kubelet(folder).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(_main(Path(sys.argv[1])))
