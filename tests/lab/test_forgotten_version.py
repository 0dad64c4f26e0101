"""410 Gone of a real API server: the router's own reader of collections lists anew.

A router that loses its connection lists anew anyway. So the reader runs in this process, and its next watch is held
back, as a watch of minutes would, until the server has forgotten the version that it begins at.
"""

import asyncio
import contextlib
import logging
import signal
from functools import partial

from bbr.sources.configmap import LABELS
from bbr.sources.kube_api import KubeApi
from bbr.sources.kubernetes import ConfigMap
from bbr.sources.reflector import Pace, Reflector
from bbr.system.worker_process import WorkerProcess
from deploy.lab import setting
from tests.lab.router import IN_NAMESPACE, config_map

COLLECTION = f"/api/v1/namespaces/{setting.NAMESPACE}/configmaps"
DEADLINE_SECONDS = 600


class Known:
    """Takes objects' names."""

    def __init__(self):
        self.names = set()
        self.lists = 0
        self.listed_again = asyncio.Event()

    def read(self, found):
        return found.metadata.name

    def replace(self, kept):
        self.names = set(kept.values())
        self.lists += 1
        if self.lists == 2:
            self.listed_again.set()
        yield

    def put(self, key, kept):
        self.names.add(kept)

    def remove(self, key):
        self.names.discard(key.partition("/")[2])


class HeldBack(KubeApi):
    """Begins a watch only when it may."""

    may: asyncio.Event
    waits: asyncio.Event

    @contextlib.asynccontextmanager
    async def lines(self, path, parameters):
        self.waits.set()
        await self.may.wait()
        self.waits.clear()
        async with super().lines(path, parameters) as lines:
            yield lines


def restart_with_changes(lab):
    """Let the server, which remembers the newest changes, begin its memory after some."""
    for number in range(3):
        lab.apply(config_map("gone", [f"one-{number}"]))
    lab.kubectl("delete", "configmap", "gone", IN_NAMESPACE)
    lab.apply(config_map("fresh", ["two"]))
    lab.end("kube-apiserver", signal.SIGKILL)
    lab.restart("kube-apiserver")
    lab.wait("the API server", lambda: lab.kubectl_tries("get", "--raw", "/readyz"))


async def forgotten(lab, known):
    HeldBack.may, HeldBack.waits = asyncio.Event(), asyncio.Event()
    worker = WorkerProcess()
    reflector = Reflector(
        "ConfigMaps",
        COLLECTION,
        f"{LABELS[0]}=true",
        ConfigMap,
        known,
        partial(HeldBack, lab.files.kubeconfig),
        worker,
        pace=Pace(request_seconds=DEADLINE_SECONDS),
    )
    task = asyncio.create_task(reflector.run())
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await HeldBack.waits.wait()
            assert reflector.lists_total == 1
            await asyncio.to_thread(restart_with_changes, lab)
            HeldBack.may.set()
            await known.listed_again.wait()
    finally:
        task.cancel()
        await asyncio.wait([task])
        worker.close()
    return reflector


def test_a_version_that_the_server_has_forgotten_is_a_new_list(lab, caplog):
    caplog.set_level(logging.INFO)
    lab.apply(config_map("gone", ["one"]))
    known = Known()
    try:
        reflector = asyncio.run(forgotten(lab, known))
    finally:
        lab.kubectl("delete", "configmap", "gone", "fresh", IN_NAMESPACE, "--ignore-not-found")
    assert {"qwen-allowlist", "phi-allowlist", "fresh"} <= known.names
    assert "gone" not in known.names
    assert reflector.failures_total == 1
    assert "the API server has forgotten version" in caplog.text
