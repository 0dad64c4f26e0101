"""A real control plane with the router installed by its own chart: python -m deploy.lab.lab up|test|core|down.

`up` builds what is missing, starts the cluster, installs everything, says where it is, and stays until it is
interrupted. `test` does the same for tests/lab, and ends it. `core` does it for the shorter ones of them; if they can't
be run here without a build, it says so and succeeds. `down` ends what runs, and removes what was left behind. Needs
Linux, root and, for the first build, Go.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NoReturn

import yaml

from deploy.lab import cluster, gateway, network, parts, setting
from deploy.lab.cluster import Cluster, LabError
from deploy.lab.lock import end_holder
from deploy.local.gateway import find_envoy
from deploy.local.part import StackError
from deploy.render import schemas, tools
from deploy.render.helm import CHART

# Set to 1 for the tests that the lab runs.
VARIABLE: Final = "BBR_LAB"
# Tests that take a minute or two together.
CORE: Final = (
    "tests/lab/test_chain.py",
    "tests/lab/test_steering.py",
    "tests/lab/test_aliases.py",
    "tests/lab/test_config_maps.py",
    "tests/lab/test_release.py::test_helm_test_asks_the_router_for_each_model",
)
# How Helm is told to return only once all is ready.
WAIT: Final = ("--wait", "--timeout=180s")
_DOWN_SECONDS: Final = 90.0


def tell(text: str) -> None:
    """Say something to whoever runs this."""
    print(text, flush=True)


def images() -> dict[str, list[str]]:
    """Return what runs for which image."""
    return {
        "lab/bbr": [sys.executable, "-m", "bbr"],
        "/epp": [str(parts.PICKER.binary)],
        "lab/llm-d-inference-sim": [str(parts.SIMULATOR.binary)],
        "lab/envoy": [str(find_envoy(sys.executable))],
    }


@contextmanager
def lab() -> Iterator[Cluster]:
    """Run the core lab.

    Raises:
        LabError: it can't be started.
    """
    cluster.check()
    try:
        parts.build(parts.CORE, tell)
        runs = images()
    except (parts.PartError, StackError) as error:
        raise LabError(str(error)) from error
    tools.programs()
    with Cluster(runs, tell) as there:
        definitions(there)
        there.apply(yaml.safe_dump(setting.namespace()))
        there.apply(yaml.safe_dump_all(setting.servers()))
        install(there)
        config = gateway.configuration(setting.NAMESPACE, setting.pickers())
        there.apply(yaml.safe_dump_all(gateway.documents(setting.NAMESPACE, config)))
        for deployment in _deployments(there):
            rollout(there, deployment)
        # kube-proxy comes behind a readiness by a second.
        there.wait("an answer for each model", partial(answers, there))
        yield there


# Run in the lab's network: URL, then models.
_ASK: Final = """
import json, sys, urllib.request
for model in sys.argv[2:]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]}).encode()
    request = urllib.request.Request(sys.argv[1], body, {"content-type": "application/json"})
    assert json.load(urllib.request.urlopen(request, timeout=10))["model"] == model
"""


def answers(there: Cluster) -> bool:
    """Tell whether each base model is answered through the gateway."""
    url = f"http://{gateway_address(there)}/v1/chat/completions"
    return there.tries(sys.executable, "-c", _ASK, url, *setting.MODELS)


def definitions(there: Cluster) -> None:
    """Install the CRDs of the repository, and those of the picker's own module."""
    files = [*sorted(schemas.DIRECTORY.glob("*/*.yaml")), *sorted(parts.PICKER.data.glob("*.yaml"))]
    documents: dict[str, Any] = {}
    for file in files:
        # Envoy Gateway's are a chart's: the CRD stands between two lines of a template.
        lines = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("{{")]
        for document in yaml.safe_load_all("\n".join(lines)):
            if document and document.get("kind") == "CustomResourceDefinition":
                documents[document["metadata"]["name"]] = document
    there.apply(yaml.safe_dump_all(documents.values()))
    names = [f"crd/{name}" for name in documents]
    there.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    # They are served some moments later: to clients that ask for each group, and to those that ask for all at once.
    for document in documents.values():
        there.wait(document["metadata"]["name"], partial(_served, there, document["spec"]))
    there.wait("the kinds of the CRDs", lambda: documents.keys() <= set(_kinds(there)))


def _kinds(there: Cluster) -> list[str]:
    return there.kubectl("api-resources", "--cached=false", "--output=name").split()


def _served(there: Cluster, spec: dict[str, Any]) -> bool:
    """Tell whether the API server names a CRD's kind, in each of its versions, to clients that ask what there is."""
    versions = [version["name"] for version in spec["versions"] if version["served"]]
    for version in versions:
        listed = json.loads(there.kubectl("get", "--raw", f"/apis/{spec['group']}/{version}"))["resources"]
        if spec["names"]["plural"] not in [resource["name"] for resource in listed]:
            return False
    return True


def install(there: Cluster, helm: str = "helm", provider: str = "none") -> None:
    """Install the chart, and wait for all that it made to be ready."""
    # What kubectl has kept of the API from before the CRDs; Helm would read it.
    shutil.rmtree(there.folder / ".kube", ignore_errors=True)
    began = time.monotonic()
    release(there, helm, setting.RELEASE, setting.values(provider))
    tell(f"chart installed by {helm} --wait in {time.monotonic() - began:.1f} s")


def release(
    there: Cluster, helm: str, name: str, values: Mapping[str, Any], namespace: str = setting.NAMESPACE
) -> None:
    """Install a release of the chart, or upgrade it, and wait for all of it to be ready."""
    (file := there.folder / f"values-{name}.yaml").write_text(yaml.safe_dump(dict(values)), "utf-8")
    call_helm(there, helm, "upgrade", "--install", name, str(CHART), f"--values={file}", *WAIT, namespace=namespace)


def call_helm(there: Cluster, helm: str, *words: str, namespace: str = setting.NAMESPACE) -> str:
    """Run Helm in a namespace of Kubernetes."""
    return there.call(str(tools.BIN / helm), *words, f"--namespace={namespace}")


def rollout(there: Cluster, deployment: str, seconds: int = 120) -> None:
    """Wait until a Deployment has all its pods ready."""
    there.kubectl(
        "rollout", "status", f"deployment/{deployment}", f"--namespace={setting.NAMESPACE}", f"--timeout={seconds}s"
    )


def gateway_address(there: Cluster) -> str:
    """Return host and port of the gateway, as one reaches it in the lab's network namespace."""
    service = there.get("service", gateway.NAME, f"--namespace={setting.NAMESPACE}")
    return f"{service['spec']['clusterIP']}:80"


def _deployments(there: Cluster) -> list[str]:
    found = there.get("deployments", f"--namespace={setting.NAMESPACE}")
    return [item["metadata"]["name"] for item in found["items"]]


def where(there: Cluster) -> str:
    """Return what a person needs to use the lab."""
    prefix = f"ip netns exec {network.NAMESPACE}"
    body = '{"model": "sql-lora", "messages": [{"role": "user", "content": "hello"}]}'
    return f"""
The lab is up. It lives in the network namespace {network.NAMESPACE}, so commands begin with `{prefix}`:

  export KUBECONFIG={there.files.kubeconfig}
  {prefix} {tools.BIN / "kubectl"} get pods -n {setting.NAMESPACE}
  {prefix} curl -s http://{gateway_address(there)}/v1/chat/completions -H 'content-type: application/json' -d '{body}'

Logs are in {there.folder}. Ctrl-C ends it.
"""


def up() -> int:
    """Run the lab until interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with lab() as there:
            tell(where(there))
            threading.Event().wait()
    except KeyboardInterrupt:
        tell("The lab has ended.")
    return 0


def test(words: list[str]) -> NoReturn:
    """Become the lab's tests, which start a lab of their own."""
    cluster.check()
    variables = os.environ | {VARIABLE: "1", network.NAME_VARIABLE: "test"}
    os.chdir(network.ROOT)
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    if not any(word.startswith("tests/") for word in words):
        pytest.append("tests/lab")
    os.execve(pytest[0], pytest, variables)  # noqa: S606 (no shell is wanted)


def core(words: list[str]) -> int:
    """Become the lab's core tests, or say why not."""
    try:
        cluster.check_system()
    except LabError as error:
        print(f"The lab's tests are skipped. {error}")
        return 0
    if wanted := parts.missing(parts.CORE):
        names = ", ".join(part.name for part in wanted)
        print(f"The lab's tests are skipped: {names} not in {parts.cache()}; `make lab` builds it.")
        return 0
    test([*CORE, *words])


def down() -> int:
    """End this checkout's labs, and remove what is left of them.

    Raises:
        LabError: one does not end.
    """
    cluster.check_system()
    for name in network.NAMES:
        if not end_holder(cluster.lock(name), _DOWN_SECONDS):
            raise LabError(f"The process that has {cluster.lock(name)} does not end.")
        if cluster.clean(name):
            tell("removed what a lab that was killed had left behind")
    return 0


def main() -> int:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.lab.lab", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("up", "test", "core", "down"))
    parser.add_argument("words", nargs="*", help="for test and core: arguments of pytest")
    given, more = parser.parse_known_args()
    if given.command in ("up", "down") and (more or given.words):
        parser.error(f"{given.command} takes no arguments")
    try:
        if given.command == "test":
            test([*given.words, *more])
        if given.command == "core":
            return core([*given.words, *more])
        return up() if given.command == "up" else down()
    except LabError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
