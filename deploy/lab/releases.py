"""Releases in the lab by real Helm: of any chart, and of the router's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.lab import setting
from deploy.lab.cluster import Cluster
from deploy.render import tools
from deploy.render.helm import CHART

# How Helm is told to return only once all is ready.
WAIT: Final = ("--wait", "--timeout=600s")


def call(there: Cluster, helm: str, *words: str, namespace: str = setting.NAMESPACE) -> str:
    """Run a Helm, "helm" or "helm4", in a namespace of Kubernetes; return what it printed.

    Raises:
        LabError: it exited with an error; with what it said.
    """
    return there.call(str(tools.BIN / helm), *words, f"--namespace={namespace}")


def install(
    there: Cluster, helm: str, name: str, values: Mapping[str, Any], namespace: str = setting.NAMESPACE
) -> None:
    """Install a release of the router's chart, or upgrade it; see `upgrade`."""
    upgrade(there, helm, name, CHART, values, namespace)


def upgrade(
    there: Cluster, helm: str, name: str, chart: Path, values: Mapping[str, Any], namespace: str, *words: str
) -> None:
    """Install a release of a chart, or upgrade it; wait until it is ready and replaced pods are gone; see `call`."""
    (file := there.folder / f"values-{name}.yaml").write_text(yaml.safe_dump(dict(values)), "utf-8")
    call(there, helm, "upgrade", "--install", name, str(chart), f"--values={file}", *WAIT, *words, namespace=namespace)
    there.until_drained(namespace)
