"""One pod's life on the stand-in for kubelet: its network, its containers, its probes, its status, its end."""

import asyncio
import contextlib
import datetime
import json
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from deploy.lab import containers, network, probes
from deploy.lab.containers import Container, ImageError, Images
from deploy.lab.kube import STRATEGIC, KubeApi
from deploy.lab.volumes import VolumeError, Volumes

_TURN_SECONDS: Final = 0.5
_VOLUMES_SECONDS: Final = 2.0
# A container that ends is started anew ever later, as kubelet does, whose first 10 s would cost tests time.
_BACKOFF_SECONDS: Final = 1.0
_MAX_BACKOFF_SECONDS: Final = 30.0


class Pod:
    """A pod.

    Args:
        api: the API server.
        document: the Pod object.
        address: of the pod.
        images: what runs for which image.
        folder: for its logs and volumes.
        services: the cluster's Services when it starts.
        tokens: see Volumes.
    """

    def __init__(
        self,
        api: KubeApi,
        document: dict[str, Any],
        address: str,
        images: Images,
        folder: Path,
        services: Sequence[Mapping[str, Any]],
        tokens: Path,
    ) -> None:
        self._api = api
        self._document = document
        self._meta, self._spec = document["metadata"], document["spec"]
        self._address = address
        self._images = images
        self._folder = folder
        self._services = services
        self._namespace = network.of_pod(self._meta["uid"])
        self._containers = [Container(spec) for spec in self._spec["containers"]]
        self._began = _now()
        self._told = ""
        self._stopping = asyncio.Event()
        self.grace_seconds = float(self._spec.get("terminationGracePeriodSeconds", 30))
        self._volumes = Volumes(api, document, folder / "volumes", self._fields(), tokens)

    @property
    def path(self) -> str:
        """The object's path in the API."""
        return f"/api/v1/namespaces/{self._meta['namespace']}/pods/{self._meta['name']}"

    def stop(self, grace_seconds: float) -> None:
        """Begin its end."""
        self.grace_seconds = grace_seconds
        self._stopping.set()

    async def run(self) -> None:
        """Live until the end: that of its containers, or by `stop`; then the object is gone."""
        hosts = f"127.0.0.1 localhost\n{self._address} {self._meta['name']}\n"
        network.create_pod(self._namespace, self._address, self._meta["namespace"], hosts)
        try:
            await self._live()
            await self._end()
        finally:
            network.remove(self._namespace)  # which ends what still runs in it
            for container in self._containers:
                if container.process is not None:
                    container.process.wait()
            shutil.rmtree(self._folder / "volumes", ignore_errors=True)
        await self._api.delete(self.path, self._meta["uid"])

    async def _live(self) -> None:
        filled_at = float("-inf")
        while not self._stopping.is_set():
            try:
                if time.monotonic() - filled_at > _VOLUMES_SECONDS:
                    await self._volumes.fill()
                    filled_at = time.monotonic()
                for container in self._containers:
                    self._start(container)
            except VolumeError as error:
                self._containers[0].reason = str(error)
            await asyncio.gather(*map(self._probe, self._containers))
            await self._tell()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _TURN_SECONDS)

    def _start(self, container: Container) -> None:
        """Start a container that has not run yet, or anew after its end if the pod's policy says so."""
        if container.running or (container.process is not None and not self._restarts(container)):
            return
        wait = min(_BACKOFF_SECONDS * 2**container.restarts, _MAX_BACKOFF_SECONDS) if container.process else 0.0
        if time.time() - container.started < wait:
            return
        if container.process is not None:
            container.restarts += 1
        links = containers.service_links(
            self._services, self._meta["namespace"], links=self._spec.get("enableServiceLinks", True)
        )
        variables = containers.environment(container.spec, self._fields(), links, self._meta["name"])
        try:
            entry = containers.program(self._images, container.spec["image"])
        except ImageError as error:
            container.reason = str(error)
            return
        command = containers.arguments(entry, container.spec, variables)
        mounts = [
            (self._volumes.path(each["name"]) / each.get("subPath", ""), each["mountPath"])
            for each in container.spec.get("volumeMounts", [])
        ]
        containers.start(container, self._namespace, command, variables, mounts, self._folder)

    def _restarts(self, container: Container) -> bool:
        policy = self._spec.get("restartPolicy", "Always")
        code = container.process.poll() if container.process is not None else None
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    async def _probe(self, container: Container) -> None:
        if not container.running:
            container.ready = False
            return
        age = time.time() - container.started
        if not container.passed_startup:
            container.passed_startup = await self._asks(container, "startupProbe") == ""
            container.ready = False
            return
        why = await self._asks(container, "readinessProbe")
        if not why:
            container.ready = True
        elif container.failures["readinessProbe"] >= self._threshold(container, "readinessProbe"):
            container.ready = False
        container.reason = why
        await self._asks(container, "livenessProbe")
        if container.failures.get("livenessProbe", 0) >= self._threshold(container, "livenessProbe") and age > 10:
            container.stop(signal.SIGKILL)

    async def _asks(self, container: Container, kind: str) -> str:
        probe = container.spec.get(kind)
        if probe is None:
            return ""
        why = await probes.succeeds(probe, container.spec, self._address)
        container.failures[kind] = container.failures.get(kind, 0) + 1 if why else 0
        return why

    def _threshold(self, container: Container, kind: str) -> int:
        return int(container.spec.get(kind, {}).get("failureThreshold", 3))

    async def _end(self) -> None:
        for container in self._containers:
            container.stop()
        until = time.monotonic() + self.grace_seconds
        while time.monotonic() < until and any(each.running for each in self._containers):
            await asyncio.gather(*map(self._probe, self._containers))
            await self._tell()
            await asyncio.sleep(0.2)
        for container in self._containers:
            container.stop(signal.SIGKILL)
            if container.process is not None:
                await asyncio.to_thread(container.process.wait)

    async def _tell(self) -> None:
        """Tell the API server how the pod is, if it has changed."""
        states = [_state(container) for container in self._containers]
        ready = all(state["ready"] for state in states)
        status = {
            "phase": self._phase(),
            "podIP": self._address,
            "podIPs": [{"ip": self._address}],
            "hostIP": network.NODE_ADDRESS,
            "startTime": self._began,
            "conditions": [
                {"type": kind, "status": str(value), "lastTransitionTime": _now()}
                for kind, value in {
                    "PodScheduled": True,
                    "Initialized": True,
                    "ContainersReady": ready,
                    "Ready": ready,
                }.items()
            ],
            "containerStatuses": states,
        }
        told = json.dumps([status["phase"], states], sort_keys=True)
        if told == self._told:
            return
        with contextlib.suppress(httpx.HTTPError):  # the API server may be away; the next turn tells it
            await self._api.patch(f"{self.path}/status", {"status": status}, STRATEGIC)
            self._told = told

    def _phase(self) -> str:
        if not any(each.process for each in self._containers):
            return "Pending"
        ended = [each for each in self._containers if each.process is not None and not each.running]
        if len(ended) == len(self._containers) and not any(map(self._restarts, ended)):
            failed = any(each.process is not None and each.process.returncode for each in ended)
            return "Failed" if failed else "Succeeded"
        return "Running"

    def _fields(self) -> dict[str, str]:
        """Return what the downward API says of the pod."""
        meta, spec = self._meta, self._spec
        found = {f"metadata.{key}": str(meta.get(key, "")) for key in ("name", "namespace", "uid")}
        found |= {f"spec.{key}": str(spec.get(key, "")) for key in ("nodeName", "serviceAccountName")}
        found |= {"status.podIP": self._address, "status.hostIP": network.NODE_ADDRESS}
        for kind in ("labels", "annotations"):
            values: Mapping[str, str] = meta.get(kind) or {}
            found[f"metadata.{kind}"] = "\n".join(f'{key}="{value}"' for key, value in values.items())
            found |= {f"metadata.{kind}['{key}']": value for key, value in values.items()}
        return found


def _state(container: Container) -> dict[str, Any]:
    code = container.process.poll() if container.process is not None else None
    state: dict[str, Any]
    if container.process is None:
        state = {"waiting": {"reason": "ContainerCreating", "message": container.reason}}
    elif code is None:
        state = {"running": {"startedAt": _time(container.started)}}
    else:
        exit_code = code if code >= 0 else 128 - code
        reason = "Completed" if code == 0 else "Error"
        state = {"terminated": {"exitCode": exit_code, "reason": reason, "startedAt": _time(container.started)}}
    return {
        "name": container.name,
        "image": container.spec["image"],
        "imageID": "",
        "ready": container.ready,
        "restartCount": container.restarts,
        "started": container.process is not None and container.passed_startup,
        "state": state,
    }


def _now() -> str:
    return _time(time.time())


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
