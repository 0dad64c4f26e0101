"""Gateways whose own controllers the lab runs: how each is installed, and what it calls its data plane.

A controller comes from its own module with its own chart and CRDs. Its data plane is the Envoy that the lab has, in a
pod that the controller itself makes.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import yaml

from deploy.lab import releases, setting
from deploy.lab.cluster import Cluster
from deploy.lab.parts import Part

GATEWAY: Final = "inference-gateway"
LISTENER: Final = "http"


class Controller(ABC):
    """A gateway's controller.

    Attributes:
        provider: its name in the router's chart, and in GATEWAY of make.
        programs: what has to be built for it, the controller first.
        gateway_class: the GatewayClass of the lab's Gateway.
        secure: it speaks TLS to the router.
        admin_port: of the data plane's Envoy, on the pod's own 127.0.0.1.
        data_plane: namespace and labels of the data plane's pods.
    """

    provider: ClassVar[str]
    programs: ClassVar[tuple[Part, ...]]
    gateway_class: ClassVar[str]
    secure: ClassVar[bool]
    admin_port: ClassVar[int]
    data_plane: ClassVar[tuple[str, str]]

    @abstractmethod
    def images(self) -> Mapping[str, Sequence[str]]:
        """Return what runs for which image, beside those of the core lab."""

    @abstractmethod
    def definitions(self) -> Iterable[Path]:
        """Return the files of its CRDs, and of those of the Gateway API that it was made for."""

    @abstractmethod
    def install(self, there: Cluster) -> None:
        """Install the controller by its own chart, and the Gateway's class."""

    def values(self) -> dict[str, Any]:
        """Return what the router's chart is told for this gateway, beside the provider's name."""
        return {"inferenceGateway": {"name": GATEWAY}}

    def start(self, there: Cluster) -> None:
        """Install the controller and the lab's Gateway, and wait for its data plane."""
        self.install(there)
        there.apply(yaml.safe_dump(self.gateway()))
        there.wait("a programmed Gateway", partial(programmed, there))
        there.wait("the data plane's pods", lambda: bool(self.pods(there)))

    def gateway(self) -> dict[str, Any]:
        """Return the lab's Gateway."""
        return {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": GATEWAY, "namespace": setting.NAMESPACE},
            "spec": {
                "gatewayClassName": self.gateway_class,
                "listeners": [{"name": LISTENER, "protocol": "HTTP", "port": 80}],
            },
        }

    def pods(self, there: Cluster) -> list[dict[str, Any]]:
        """Return the data plane's pods that are ready."""
        namespace, selector = self.data_plane
        found = there.get("pods", f"--namespace={namespace}", f"--selector={selector}")["items"]
        return [pod for pod in found if _ready(pod) and not pod["metadata"].get("deletionTimestamp")]


def programmed(there: Cluster) -> bool:
    """Tell whether the lab's Gateway is, and has an address."""
    status = there.get("gateway", GATEWAY, f"--namespace={setting.NAMESPACE}").get("status", {})
    listed = status.get("conditions", ()), status.get("addresses")
    return bool(listed[1]) and any(each["type"] == "Programmed" and each["status"] == "True" for each in listed[0])


def address(there: Cluster) -> str:
    """Return host and port of the lab's Gateway, as its status has them."""
    found = there.get("gateway", GATEWAY, f"--namespace={setting.NAMESPACE}")
    return f"{found['status']['addresses'][0]['value']}:80"


def conditions(document: Mapping[str, Any]) -> dict[str, str]:
    """Return an object's conditions: "TYPE" or "WHERE/TYPE" to "STATUS REASON".

    WHERE is the name of a listener, or of the parent or ancestor that the condition is about.
    """
    status = document.get("status", {})
    found = {each["type"]: f"{each['status']} {each['reason']}" for each in status.get("conditions", ())}
    groups = [(each["name"], each) for each in status.get("listeners", ())]
    groups += [(each["parentRef"]["name"], each) for each in status.get("parents", ())]
    groups += [(each["ancestorRef"]["name"], each) for each in status.get("ancestors", ())]
    for name, group in groups:
        for each in group.get("conditions", ()):
            found[f"{name}/{each['type']}"] = f"{each['status']} {each['reason']}"
    return found


def chart(there: Cluster, source: Path, version: str, replaced: Mapping[str, str]) -> Path:
    """Return a copy of a controller's chart as its project would have released it.

    Args:
        there: keeps it.
        source: the chart's folder in the module.
        version: of the chart and the program.
        replaced: in values.tmpl.yaml, from which a release makes values.yaml: what stands for what.
    """
    folder = there.folder / "charts" / source.name
    shutil.copytree(source, folder)
    template = folder / "values.tmpl.yaml"
    if template.is_file():
        text = template.read_text("utf-8")
        for name, value in replaced.items():
            text = text.replace(name, value)
        (folder / "values.yaml").write_text(text, "utf-8")
    about = folder / "Chart.yaml"
    document = yaml.safe_load(about.read_text("utf-8"))
    about.write_text(yaml.safe_dump(document | {"version": version, "appVersion": version}), "utf-8")
    return folder


def helm(there: Cluster, name: str, folder: Path, namespace: str, values: Mapping[str, Any]) -> None:
    """Install a controller's chart, and wait for it to be ready."""
    releases.upgrade(there, "helm", name, folder, values, namespace, "--create-namespace")


def _ready(pod: Mapping[str, Any]) -> bool:
    listed = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in listed)
