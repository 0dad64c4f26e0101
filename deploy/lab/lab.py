"""A real control plane with the router installed by its own chart: python -m deploy.lab.lab up|test|core|down.

`up` builds what is missing, starts the cluster, installs everything, says where it is, and stays until it is
interrupted. `test` does the same for tests/lab, and ends it. `core` does it for the shorter ones of them; if they can't
be run here without a build, it says so and succeeds. `down` ends what runs, and removes what was left behind. Needs
Linux, root and, for the first build, Go.
"""

import argparse
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

from deploy.lab import cluster, controllers, definitions, gateway, network, parts, releases, setting
from deploy.lab.cluster import Cluster, LabError
from deploy.lab.controllers import Controller
from deploy.lab.envoy_gateway import EnvoyGateway
from deploy.lab.istio import Istio
from deploy.lab.kgateway import Kgateway
from deploy.lab.lock import end_holder
from deploy.local.gateway import find_envoy
from deploy.local.part import StackError
from deploy.render import tools

# Set to 1 for the tests that the lab runs.
VARIABLE: Final = "BBR_LAB"
# Names the gateway whose controller stands in front; empty for the lab's own Envoy.
GATEWAY_VARIABLE: Final = "BBR_LAB_GATEWAY"
CONTROLLERS: Final[tuple[type[Controller], ...]] = (EnvoyGateway, Istio, Kgateway)
# Tests that take a minute or two together.
CORE: Final = (
    "tests/lab/test_chain.py",
    "tests/lab/test_steering.py",
    "tests/lab/test_aliases.py",
    "tests/lab/test_config_maps.py",
    "tests/lab/test_scopes.py::test_one_name_is_another_model_for_each_tenant",
    "tests/lab/test_discovery.py::test_what_the_servers_have_and_nobody_has_declared_is_routed",
    "tests/lab/test_release.py::test_helm_test_asks_the_router_for_each_model",
)
# What gateways ask about requests, by their policies: image -> program.
ASKED: Final = {
    "lab/ext-authz:": parts.EXT_AUTHZ,
    "envoyproxy/ratelimit:": parts.RATE_LIMIT,
    "lab/redis:": parts.REDIS,
}
# The simulator for vLLM, without the options that are about its GPU.
_VLLM: Final = """
for each; do
  shift
  case "$each" in --dtype=*|--gpu-memory-utilization=*) ;; *) set -- "$@" "$each" ;; esac
done
exec "$PROGRAM" "$@" --mode=random
"""
_DOWN_SECONDS: Final = 90.0
_START_SECONDS: Final = 1800
_ROLLOUT_SECONDS: Final = 600


def tell(text: str) -> None:
    """Say something to whoever runs this."""
    print(text, flush=True)


def images(controller: Controller | None = None) -> dict[str, list[str]]:
    """Return what runs for which image."""
    more = {} if controller is None else {name: list(words) for name, words in controller.images().items()}
    if controller is not None:
        more |= {image: [str(part.binary)] for image, part in ASKED.items()}
    return {
        **more,
        "lab/bbr": [sys.executable, "-m", "bbr"],
        "/epp": [str(parts.PICKER.binary)],
        "lab/llm-d-inference-sim": [str(parts.SIMULATOR.binary)],
        "vllm/vllm-openai:": ["env", f"PROGRAM={parts.SIMULATOR.binary}", "sh", "-c", _VLLM, "sh"],
        "lab/web:": [sys.executable, "-m", "http.server"],
        "lab/envoy:": [str(find_envoy(sys.executable))],
    }


def controller() -> Controller | None:
    """Return the gateway that this lab is asked for; None for its own Envoy.

    Raises:
        LabError: it has none of that name.
    """
    name = os.environ.get(GATEWAY_VARIABLE, "")
    if not name:
        return None
    for each in CONTROLLERS:
        if each.provider == name:
            return each()
    known = ", ".join(each.provider for each in CONTROLLERS)
    raise LabError(f"GATEWAY={name} is none of the lab's gateways, which are: {known}.")


def wanted(chosen: Controller | None) -> tuple[parts.Part, ...]:
    """Return the programs of a lab."""
    return parts.CORE if chosen is None else (*parts.CORE, *chosen.programs, *ASKED.values())


@contextmanager
def lab() -> Iterator[Cluster]:
    """Run the lab that is asked for.

    Raises:
        LabError: it can't be started.
    """
    chosen = controller()
    cluster.check(wanted(chosen))
    try:
        parts.build(wanted(chosen), tell)
        runs = images(chosen)
    except (parts.PartError, StackError) as error:
        raise LabError(str(error)) from error
    tools.programs()
    with Cluster(runs, tell) as there:
        definitions.install(there, () if chosen is None else chosen.definitions())
        there.apply(yaml.safe_dump(setting.namespace()))
        there.apply(yaml.safe_dump_all(setting.servers()))
        if chosen is None:
            install(there)
            config = gateway.configuration(setting.NAMESPACE, setting.pickers())
            there.apply(yaml.safe_dump_all(gateway.documents(setting.NAMESPACE, config)))
        else:
            began = time.monotonic()
            chosen.start(there)
            tell(f"{chosen.provider} {chosen.programs[0].version} has a Gateway after {time.monotonic() - began:.1f} s")
            install(there, provider=chosen.provider, more=chosen.values())
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


def install(there: Cluster, helm: str = "helm", provider: str = "none", more: Mapping[str, Any] | None = None) -> None:
    """Install the chart with the setting's values and more of them, and wait for all that it made to be ready."""
    # What kubectl has kept of the API from before the CRDs; Helm would read it.
    shutil.rmtree(there.folder / ".kube", ignore_errors=True)
    began = time.monotonic()
    releases.install(there, helm, setting.RELEASE, setting.values(provider) | dict(more or {}))
    tell(f"chart installed by {helm} --wait in {time.monotonic() - began:.1f} s")


def rollout(there: Cluster, deployment: str) -> None:
    """Wait until a Deployment has all its pods ready, and until the replaced ones are gone."""
    where = f"--namespace={setting.NAMESPACE}"
    there.kubectl("rollout", "status", f"deployment/{deployment}", where, f"--timeout={_ROLLOUT_SECONDS}s")
    there.until_drained(setting.NAMESPACE)


def gateway_address(there: Cluster) -> str:
    """Return host and port of the gateway, as one reaches it in the lab's network namespace."""
    if controller() is not None:
        return controllers.address(there)
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
    cluster.check(wanted(controller()))
    variables = os.environ | {VARIABLE: "1", network.NAME_VARIABLE: "test"}
    os.chdir(network.ROOT)
    patience = f"--override-ini=faulthandler_timeout={_START_SECONDS}"  # the first test waits for the lab to start
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", patience, *words]
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
