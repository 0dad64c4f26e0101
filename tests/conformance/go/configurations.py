"""Configurations of the payload processor (PayloadProcessorConfig), and whether a router starts with each."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bbr.config import go_config, go_plugins
from bbr.config.settings import ConfigError
from bench.harness import go_router
from bench.harness.fake_kubernetes import IPP
from bench.harness.ports import free_ports
from tests.conformance.go.corpus import DATA
from tests.unit.config import test_go_config
from tests.unit.config.test_go_config import BASE_NAME, FIELD, HEAD, PICKER, PLUGINS, REFERENCES, REQUEST, WHOLE

STARTS, REFUSES = "starts", "refuses"
SECONDS: Final = 60.0

CONFIGURATIONS: Final[dict[str, str]] = {
    **{name: text for name, (text, _) in test_go_config.USABLE.items()},
    # An argument of a process can't hold it, and a file of theirs has no encoding to be wrong in.
    **{name: text for name, (text, _) in test_go_config.UNUSABLE.items() if name != "no UTF-8"},
    "a number for a name": WHOLE.replace("name: default", "name: 1"),
    "a truth for a header": WHOLE.replace("headerName: X-Gateway-Model-Name", "headerName: yes"),
    "a quoted number for a name": WHOLE.replace("name: default", 'name: "1"'),
    "a weight in words": f"{WHOLE}      weight: .inf\n",
    "a weight that is null": f"{WHOLE}      weight: null\n",
    "CRLF": WHOLE.replace("\n", "\r\n"),
    "a byte order mark": f"\ufeff{WHOLE}",
    "a document's beginning and end": f"---\n{WHOLE}...\n",
    "a comment before": f"# mine\n{WHOLE}",
    "a tab": WHOLE.replace("  parameters", "\tparameters"),
    "a list of one that is no list": WHOLE.replace(f"plugins:\n{FIELD}", f"plugins:\n{FIELD}".replace("- ", "  ", 1)),
    "two profiles of one name": f"{WHOLE}{REQUEST.removeprefix('profiles:')}{REFERENCES}".replace("\n\n", "\n"),
    "two profiles and a picker": (
        f"{HEAD}{PLUGINS}{PICKER}{REQUEST}{REFERENCES}- name: other\n  plugins:\n    request:\n{REFERENCES}"
    ),
    "an unknown picker": f"{WHOLE}profilePicker: {{pluginRef: base-model-to-header}}\n",
    "metadata": f"{WHOLE}metadata: {{name: x}}\n",
    "a header that is the base model's": WHOLE.replace("X-Gateway-Model-Name", BASE_NAME),
    "nothing but a kind": HEAD,
}


def ours(text: str) -> str:
    """Return what our router does with a configuration."""
    try:
        go_plugins.settings(go_config.plugins(text, "--config-file"))
    except ConfigError:
        return REFUSES
    return STARTS


def theirs(names: Iterable[str] = CONFIGURATIONS) -> dict[str, str]:
    """Return what the payload processor does with each of some configurations.

    Raises:
        GoRouterError: it does neither start nor end in time.
    """
    with go_router.api_server(DATA, IPP) as kube_config, tempfile.TemporaryDirectory() as scratch:
        found = {}
        for name in names:
            (file := Path(scratch, "config.yaml")).write_bytes(CONFIGURATIONS[name].encode())
            found[name] = _of(file, kube_config)
        return found


def _of(file: Path, kube_config: Path) -> str:
    ports = free_ports(3)
    words = go_router.flags(ports, streaming=True, verbosity=0, program=go_router.IPP)
    with _process([str(go_router.IPP.binary), *words, f"--config-file={file}"], kube_config) as process:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return REFUSES
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", ports[1])) == 0:
                    return STARTS
            time.sleep(0.02)
    raise go_router.GoRouterError("the payload processor does neither start nor end")


@contextmanager
def _process(command: list[str], kube_config: Path) -> Iterator["subprocess.Popen[bytes]"]:
    environment = go_router.ENVIRONMENT | {"KUBECONFIG": str(kube_config)}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        try:
            yield process
        finally:
            process.kill()
