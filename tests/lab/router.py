"""The router as the lab's tests see it: its pods, their admin port, its ConfigMaps."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import yaml

from deploy.lab import pki, setting
from deploy.lab.cluster import Cluster

IN_NAMESPACE = f"--namespace={setting.NAMESPACE}"
DEPLOYMENT = "body-based-router"
ACCOUNT = f"{DEPLOYMENT}-{setting.RELEASE}"
ADMIN_PORT = 9090
VIEWER = "viewer"
_AGE = re.compile(r'^bbr_source_age_seconds{source="ConfigMaps[^"]*"} (\S+)$', re.MULTILINE)
_FAILING = re.compile(r'^bbr_source_failing{source="ConfigMaps[^"]*"} 1\.0$', re.MULTILINE)

# Who may look at the router's admin port: a ServiceAccount with rights of its own.
_RIGHTS = f"""
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {VIEWER}, namespace: {setting.NAMESPACE}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: bbr-lab-viewer}}
rules:
  - {{nonResourceURLs: [/metrics, /debug/models, /status.json], verbs: [get]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: bbr-lab-viewer}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: bbr-lab-viewer}}
subjects: [{{kind: ServiceAccount, name: {VIEWER}, namespace: {setting.NAMESPACE}}}]
"""


class Router:
    """The lab's router."""

    def __init__(self, lab: Cluster) -> None:
        self.lab = lab
        lab.apply(_RIGHTS)
        self.token = lab.kubectl("create", "token", VIEWER, IN_NAMESPACE).strip()

    def pods(self) -> list[dict[str, Any]]:
        """Return its Pod objects, but for those that are being deleted."""
        found = self.lab.get("pods", "--selector=app=body-based-router", IN_NAMESPACE)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def page(self, path: str, token: str | None = None) -> list[httpx.Response]:
        """Return what each pod answers on its admin port."""
        headers = {"authorization": f"Bearer {self.token if token is None else token}"}
        return [
            httpx.get(f"http://{pod['status']['podIP']}:{ADMIN_PORT}{path}", headers=headers, timeout=30)
            for pod in self.pods()
        ]

    def names(self) -> list[set[str]]:
        """Return the names of each pod's table."""
        tables = [answer.raise_for_status().json() for answer in self.page("/debug/models")]
        return [{model["name"] for model in table["models"]} for table in tables]

    def until_named(self, name: str, *, there: bool = True) -> None:
        """Wait until the table of each router that the gateway may ask has a name, or has it no longer.

        A pod that is being deleted answers calls with its old table until it has drained; it has to be gone.
        """
        self.lab.wait(
            f"{name} {'in' if there else 'out of'} each table",
            lambda: not self.lab.drains(setting.NAMESPACE) and all((name in names) == there for names in self.names()),
        )

    def failing(self) -> list[bool]:
        """Tell of each pod whether it says that it can't follow some ConfigMaps, in its metrics and in its status."""
        pages = [answer.raise_for_status().text for answer in self.page("/metrics")]
        statuses = [answer.raise_for_status().json() for answer in self.page("/status.json")]
        told = [any(row["failing"] for row in status["sources"]["rows"]) for status in statuses]
        return [_FAILING.search(page) is not None and row for page, row in zip(pages, told, strict=True)]

    def ages(self) -> list[float]:
        """Return for how long each pod's table may be out of date, in seconds: since the last event or bookmark."""
        pages = [answer.raise_for_status().text for answer in self.page("/metrics")]
        return [max(map(float, _AGE.findall(page))) for page in pages]

    def logs(self) -> list[str]:
        """Return each pod's log."""
        return [self.lab.kubectl("logs", pod["metadata"]["name"], IN_NAMESPACE, "--tail=-1") for pod in self.pods()]

    def until_logged(self, text: str) -> None:
        """Wait until each pod has logged a text."""
        self.lab.wait(f"{text} in each log", lambda: all(text in log for log in self.logs()))


@contextmanager
def own_token(lab: Cluster, router: Router, seconds: int) -> Iterator[None]:
    """Give the router's pods another token for so long, one that expires in so many seconds."""
    uid = lab.get("serviceaccount", ACCOUNT, IN_NAMESPACE)["metadata"]["uid"]
    token = pki.account_token(lab.files, setting.NAMESPACE, ACCOUNT, uid, seconds)
    file = lab.tokens / f"{setting.NAMESPACE}_{ACCOUNT}"
    files = [
        found
        for pod in router.pods()
        for found in (lab.folder / "pods" / f"{setting.NAMESPACE}_{pod['metadata']['name']}").glob("volumes/*/token")
    ]
    assert len(files) == len(router.pods())
    (fresh := file.with_suffix(".new")).write_text(token, "ascii")
    fresh.rename(file)
    try:
        lab.wait("the token in the pods", lambda: all(each.read_text("ascii") == token for each in files))
        yield
    finally:
        file.unlink()
        lab.wait("another token in the pods", lambda: all(each.read_text("ascii") != token for each in files))


def config_map(
    name: str,
    adapters: list[str],
    base: str = setting.SPARE_BASE,
    label: str = "inference.networking.k8s.io/bbr-managed",
) -> str:
    """Return a ConfigMap of a base model's adapters, as YAML."""
    data = {"baseModel": base, "adapters": "".join(f"- {adapter}\n" for adapter in adapters)}
    metadata = {"name": name, "namespace": setting.NAMESPACE, "labels": {label: "true"}}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
