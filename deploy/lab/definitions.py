"""The CRDs of a lab: those of the repository, of the picker's own module, and of a gateway's controller."""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.lab import parts
from deploy.lab.cluster import Cluster
from deploy.render import schemas

# Gateways' CRDs are some 60,000 lines.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def install(there: Cluster, more: Iterable[Path] = ()) -> None:
    """Install them, the last file of a name, and wait until the API server serves them to every client."""
    files = [*sorted(schemas.DIRECTORY.glob("*/*.yaml")), *sorted(parts.PICKER.data.glob("*.yaml")), *more]
    documents = {document["metadata"]["name"]: document for file in files for document in _definitions(file)}
    there.apply("\n".join(map(json.dumps, documents.values())))
    names = [f"crd/{name}" for name in documents]
    there.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    # They are served some moments later: to clients that ask for each group, and to those that ask for all at once.
    for group, kinds in _served_kinds(documents.values()).items():
        there.wait(group, partial(_is_served, there, group, kinds))
    there.wait("the kinds of the CRDs", lambda: documents.keys() <= set(_kinds(there)))


def _definitions(file: Path) -> list[dict[str, Any]]:
    # Envoy Gateway's are a chart's: the CRD stands between two lines of a template.
    lines = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("{{")]
    documents = yaml.load_all("\n".join(lines), Loader=_LOADER)
    return [each for each in documents if each and each.get("kind") == "CustomResourceDefinition"]


def _served_kinds(documents: Iterable[dict[str, Any]]) -> dict[str, set[str]]:
    """Return what CRDs serve: group and version -> kinds, in the plural."""
    kinds: dict[str, set[str]] = {}
    for spec in (document["spec"] for document in documents):
        for version in spec["versions"]:
            if version["served"]:
                kinds.setdefault(f"{spec['group']}/{version['name']}", set()).add(spec["names"]["plural"])
    return kinds


def _kinds(there: Cluster) -> list[str]:
    return there.kubectl("api-resources", "--cached=false", "--output=name").split()


def _is_served(there: Cluster, group: str, wanted: set[str]) -> bool:
    """Tell whether the API server names these kinds of a group's version to clients that ask what there is."""
    listed = json.loads(there.kubectl("get", "--raw", f"/apis/{group}"))["resources"]
    return wanted <= {resource["name"] for resource in listed}
