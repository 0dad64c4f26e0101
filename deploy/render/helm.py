"""Renders the chart by Helm, and says where the programs and value files for it are."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "deploy" / "chart"
VALUES: Final = ROOT / "deploy" / "values"
# What the chart is tried with, for each gateway; named as chart-testing wants it.
CASES: Final = CHART / "ci"

PROVIDERS: Final = ("none", "gke", "istio", "envoy-gateway", "kgateway", "agentgateway")
# Programs by which everything is rendered: Helm 3 and Helm 4. `make helm` gets both.
HELMS: Final = ("helm", "helm4")

Document = dict[str, Any]


class HelmError(Exception):
    """Helm refused; the message is what it said."""


def run(program: str, *arguments: str) -> str:
    """Run Helm or kubectl and return what it printed.

    Raises:
        HelmError: it is not there, or exited with an error.
    """
    path = shutil.which(program)
    if path is None:
        raise HelmError(f"{program} is not installed; `make helm` puts it into .cache/kube/bin")
    # Neither may find a cluster, a plugin or a repository of whoever runs this. They end before
    # collecting garbage pays: without it a rendering takes a fifth less of a processor.
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": os.devnull, "GOGC": "off"}
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=120, env=environment)
    if done.returncode:
        raise HelmError(f"{program} {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def render(
    program: str,
    values: Sequence[Path] = (),
    settings: Mapping[str, str] | None = None,
    *,
    namespace: str = "models",
    release: str = "bbr",
    chart: Path = CHART,
    apis: Sequence[str] = (),
) -> str:
    """Return the chart's documents as one YAML text.

    Args:
        program: a name of HELMS.
        values: files of values, later ones over earlier ones.
        settings: single values (`--set`), over all of them.
        namespace: of the release.
        release: its name.
        chart: its directory.
        apis: what the cluster serves besides Kubernetes' own kinds, as GROUP/VERSION.

    Raises:
        HelmError: Helm refused.
    """
    arguments = ["template", release, str(chart), "--namespace", namespace]
    for api in apis:
        arguments += ["--api-versions", api]
    for file in values:
        arguments += ["--values", str(file)]
    for name, value in (settings or {}).items():
        arguments += ["--set", f"{name}={value}"]
    return run(program, *arguments)


class _Loader(yaml.CSafeLoader):
    """Refuses a key that comes twice in a mapping: a server would take one of the two, and nobody knows which."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping's value."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            raise yaml.constructor.ConstructorError(None, None, "a key comes twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


_Loader.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, lambda loader, node: loader.construct_mapping(node, deep=True)
)


def documents(text: str) -> list[Document]:
    """Return the objects of a YAML text.

    Raises:
        HelmError: it is no YAML, or has a key twice.
    """
    try:
        return [document for document in yaml.load_all(text, _Loader) if document]
    except yaml.YAMLError as error:
        raise HelmError(f"no YAML that can be used: {error}") from error


def cases() -> list[tuple[str, Path]]:
    """Return the files of CASES, with their names."""
    return [(file.name.removesuffix("-values.yaml"), file) for file in sorted(CASES.glob("*-values.yaml"))]
