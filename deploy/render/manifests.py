"""Writes deploy/manifests from the chart, for people without Helm. Run: python -m deploy.render.manifests [--check]

What is the same for every gateway with InferencePools is in models/; a directory for each gateway has the rest and a
kustomization. One without pools has all in its own.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.render import helm

DIRECTORY: Final = helm.ROOT / "deploy" / "manifests"
NAMESPACE: Final = "llm-d-inference-scheduling"
VALUES: Final = helm.VALUES / "pattern2-tpu.yaml"
GATEWAYS: Final = tuple(provider for provider in helm.PROVIDERS if provider != "none")

MODELS: Final = "models"
_HEAD: Final = "# Rendered from deploy/chart with deploy/values/{values} by `make manifests`; not to be edited.\n"
_KUSTOMIZATION: Final = "kustomization.yaml"
_POOLS: Final = "inferencepools-bbr.yaml"
# In the order in which they are to be applied.
_FILES: Final = (
    "allowlists.yaml",
    _POOLS,
    "epps.yaml",
    "model-services.yaml",
    "router.yaml",
    "healthcheck-policy-fixed.yaml",
    "gateway.yaml",
    "httproutes-bbr.yaml",
)
_SHARED: Final = _FILES[:3]
# These are Envoy Gateway's with Envoy AI Gateway, and so with pools and pickers, as for the others.
APIS: Final = ("inference.networking.k8s.io/v1", "aigateway.envoyproxy.io/v1beta1")


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, and lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def manifests(program: str = helm.HELMS[0]) -> dict[str, str]:
    """Return all files: path in DIRECTORY -> content.

    Raises:
        HelmError: Helm refused.
    """
    files: dict[str, str] = {}
    for gateway in GATEWAYS:
        text = helm.render(program, [VALUES], {"provider.name": gateway}, namespace=NAMESPACE, apis=APIS)
        parts: dict[str, list[helm.Document]] = {}
        for document in helm.documents(text):
            file = _file(document)
            if file is not None:
                parts.setdefault(file, []).append(_plain(document))
        shared = _SHARED if _POOLS in parts else ()
        for file in _FILES:
            if file in parts:
                path = f"{MODELS if file in shared else gateway}/{file}"
                content = _HEAD.format(values=VALUES.name) + dump(parts[file])
                if files.setdefault(path, content) != content:
                    raise AssertionError(f"{path} is not the same for every gateway")
        own = [file for file in _FILES if file in parts and file not in shared]
        files[f"{gateway}/{_KUSTOMIZATION}"] = _kustomization([*([f"../{MODELS}"] if shared else []), *own])
    files[f"{MODELS}/{_KUSTOMIZATION}"] = _kustomization(list(_SHARED))
    return files


def _file(document: helm.Document) -> str | None:
    """Return where an object belongs; None for a test of Helm's."""
    kind, name = document["kind"], document["metadata"]["name"]
    if "helm.sh/hook" in document["metadata"].get("annotations", {}):
        return None
    if kind == "ConfigMap" and name.endswith("-allowlist"):
        return "allowlists.yaml"
    if kind in ("HealthCheckPolicy", "GCPBackendPolicy"):
        return "healthcheck-policy-fixed.yaml"
    if kind == "InferencePool":
        return _POOLS
    if kind == "HTTPRoute" and name.endswith("-model-route"):
        return "httproutes-bbr.yaml"
    if document["apiVersion"].split("/")[0] in ("v1", "apps", "policy", "rbac.authorization.k8s.io"):
        if not document["metadata"]["labels"].get("app.kubernetes.io/part-of"):
            return "router.yaml"
        return "model-services.yaml" if kind == "Service" and name.endswith("-pool") else "epps.yaml"
    return "gateway.yaml"


def _plain(document: helm.Document) -> helm.Document:
    """Return an object without what only Helm's own have."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(inner) for key, inner in value.items() if key != "app.kubernetes.io/managed-by"}
        return [without(inner) for inner in value] if isinstance(value, list) else value

    plain: helm.Document = without(document)
    return plain


def dump(documents: list[helm.Document]) -> str:
    """Return objects as YAML."""
    text: str = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return text


def _kustomization(resources: list[str]) -> str:
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    return _HEAD.format(values=VALUES.name) + dump([{**head, "namespace": NAMESPACE, "resources": resources}])


def outdated(program: str = helm.HELMS[0], directory: Path = DIRECTORY) -> list[str]:
    """Return the files that differ from what the chart gives: changed, missing, or too many.

    Raises:
        HelmError: Helm refused.
    """
    wanted = manifests(program)
    there = {str(file.relative_to(directory)): file.read_text("utf-8") for file in directory.rglob("*.yaml")}
    return sorted(path for path in wanted.keys() | there.keys() if wanted.get(path) != there.get(path))


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    if parser.parse_args().check:
        wrong = outdated()
        for path in wrong:
            print(f"deploy/manifests/{path} is out of date: run make manifests", file=sys.stderr)
        return 1 if wrong else 0
    try:
        files = manifests()
    except helm.HelmError as error:
        print(error, file=sys.stderr)
        return 1
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    for path, content in files.items():
        (DIRECTORY / path).parent.mkdir(parents=True, exist_ok=True)
        (DIRECTORY / path).write_text(content, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
