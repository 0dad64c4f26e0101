"""The lab's cluster: etcd, API server, controllers, kube-proxy and the stand-in for kubelet."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from deploy.lab import network, parts, pki
from deploy.lab.lock import HeldError, Lock
from deploy.lab.network import ROOT
from deploy.render import tools

# Only what fails waits so long: a machine that does much else is slow.
_READY_SECONDS: Final = 600.0
_END_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.2
_PROGRAMS: Final = {
    "ip": "iproute2",
    "nft": "nftables",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
}
# What kubectl and Helm say if the API server lives and is slower than Go's client waits for it, which is 10 s for a
# handshake: a machine that does much else can't keep that.
_TOO_SLOW: Final = re.compile(r"TLS handshake timeout|http2: client connection lost")
# What a start begins with, in namespaces that end at once.
_RIGHTS: Final = "unshare --mount --net ip link add bridge0 type bridge"

Images = Mapping[str, Sequence[str]]


class LabError(Exception):
    """The lab can't be started; the message says what is missing or what failed."""


def folder(name: str = network.NAME) -> Path:
    """Return where a lab of this checkout writes: logs, keys, etcd's data."""
    return ROOT / ".cache" / "lab" / name


def lock(name: str = network.NAME) -> Path:
    """Return the file that the process of a lab holds locked."""
    return folder(name).with_suffix(".lock")


def check(wanted: Iterable[parts.Part] = parts.CORE) -> None:
    """See whether this machine can run the lab, and build what is missing of it: these programs.

    Raises:
        LabError: it is not Linux, or root or a program is missing.
    """
    check_system()
    try:
        parts.check(wanted)
    except parts.PartError as error:
        raise LabError(str(error)) from error


def check_system() -> None:
    """See whether this machine can run the lab once it is built.

    Raises:
        LabError: it is not Linux, or root, its usual rights (a container may take them) or a program is missing.
    """
    if not sys.platform.startswith("linux"):
        raise LabError("The lab needs Linux: it runs pods in network namespaces.")
    if os.geteuid() != 0:
        raise LabError("The lab needs root: it makes network namespaces, and mounts in them.")
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            raise LabError(f"The lab needs the program {program} (Debian's package {package}).")
    tried = subprocess.run(_RIGHTS.split(), capture_output=True, text=True, check=False)
    if tried.returncode:
        why = tried.stderr.strip() or f"unshare ended with {tried.returncode}"
        raise LabError(f"The lab needs the right to make namespaces, mounts and bridges, which root lacks here: {why}")


def clean(name: str = network.NAME) -> bool:
    """Remove what a lab has left behind that nobody holds locked; return whether there was something of its network."""
    found = network.remove_all(name)
    shutil.rmtree(folder(name), ignore_errors=True)
    return found


class Cluster:
    """A control plane with two nodes.

    Attributes:
        folder: what it writes: logs, keys, etcd's data.
        files: the cluster's keys and the kubeconfig.
        tokens: see `deploy.lab.volumes.Volumes`.
    """

    def __init__(self, images: Images, tell: Callable[[str], None]) -> None:
        self.folder = folder()
        self.files = pki.files(self.folder / "pki")
        self.tokens = self.folder / "tokens"
        self._lock = Lock(lock())
        self._images = images
        self._tell = tell
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._lock.__enter__()
        except HeldError as held:
            raise LabError(
                f"A lab of this checkout runs already: process {held.pid}. `make lab-down` ends it."
            ) from None
        if clean():
            self._tell("removed what a lab that was killed had left behind")
        (self.folder / "log").mkdir(parents=True)
        self.tokens.mkdir()
        (self.folder / "images.json").write_text(json.dumps(dict(self._images)), "utf-8")
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        began = time.monotonic()
        pki.write(self.folder / "pki")
        network.create()
        self.run("etcd", *self._etcd())
        self.run("kube-apiserver", *self._api_server())
        self.wait("the API server", lambda: self.kubectl_tries("get", "--raw", "/readyz"))
        self._tell(f"API server ready after {time.monotonic() - began:.1f} s")
        self.run("kube-controller-manager", *self._controllers())
        self.run("kube-proxy", *self._proxy())
        kubelet = (sys.executable, "-m", "deploy.lab.kubelet", str(self.folder))
        self._run("kubelet", network.beside(kubelet))
        self.wait(
            "the nodes and the default ServiceAccount",
            lambda: self.kubectl_tries("get", "node/node-1", "node/node-2", "serviceaccount/default"),
        )

    def run(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a program in the cluster's network namespace; it ends with the cluster."""
        return self._run(name, network.inside(command))

    def _run(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes[name] = process
        return process

    def end(self, name: str, number: int = signal.SIGTERM) -> None:
        """End a program that `run` has started, and wait for its end."""
        process = self._processes.pop(name)
        process.send_signal(number)
        process.wait(_END_SECONDS)

    def restart(self, name: str) -> None:
        """Start etcd or the API server again after its `end`."""
        self.run(name, *(self._etcd() if name == "etcd" else self._api_server()))

    def stop(self) -> None:
        """End everything, the newest first, and remove the network."""
        for name in reversed(list(self._processes)):
            process = self._processes.pop(name)
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        network.remove_all()
        self._lock.__exit__(None, None, None)

    def wait(self, what: str, there: Callable[[], bool], seconds: float = _READY_SECONDS) -> None:
        """Wait until something is there.

        Raises:
            LabError: it does not come in time, or a part of the cluster has ended; with the end of its log.
        """
        until = time.monotonic() + seconds
        looked_at = time.monotonic()
        while not there():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise LabError(f"{name} ended with {process.returncode}:\n{self.log(name)}")
            if time.monotonic() > until:
                raise LabError(f"{what}: not there within {seconds:g} s. The logs are in {self.folder / 'log'}.")
            # On a busy machine it looks less often: what that takes would be missing elsewhere.
            time.sleep(max(_LOOK_SECONDS, time.monotonic() - looked_at))
            looked_at = time.monotonic()

    def log(self, name: str, lines: int = 20) -> str:
        """Return the end of a program's log."""
        with contextlib.suppress(FileNotFoundError):
            text = (self.folder / "log" / f"{name}.log").read_text("utf-8", "replace")
            return "\n".join(text.splitlines()[-lines:])
        return ""

    def until_drained(self, namespace: str) -> None:
        """Wait until no pod of a namespace is being replaced; see `drains`.

        Raises:
            LabError: one stays.
        """
        self.wait(f"the end of the replaced pods of {namespace}", lambda: not self.drains(namespace))

    def drains(self, namespace: str) -> bool:
        """Tell whether a pod of a namespace is being deleted or is to be: it still answers with what it knew."""
        where = f"--namespace={namespace}"
        for each in self.get("deployments", where)["items"]:
            status = each["status"]
            if status.get("observedGeneration", 0) < each["metadata"]["generation"]:
                return True
            if status.get("replicas", 0) != status.get("updatedReplicas", 0):
                return True
        return any("deletionTimestamp" in pod["metadata"] for pod in self.get("pods", where)["items"])

    def call(self, *command: str, seconds: float = 900.0, text: str | None = None) -> str:
        """Run a program in the cluster's namespace, and return what it printed.

        Raises:
            LabError: it exited with an error; with what it said.
        """
        return _said(command, self._called(network.inside(command), seconds, text))

    def call_in_pod(self, uid: str, *command: str, seconds: float = 60.0) -> str:
        """Run a program in the network namespace of the pod with this uid; see `call`."""
        return _said(command, self._called(network.inside(command, network.of_pod(uid)), seconds, None))

    def tries(self, *command: str, seconds: float = 60.0) -> bool:
        """Tell whether a program in the cluster's namespace succeeds."""
        return self._called(network.inside(command), seconds, None).returncode == 0

    def kubectl(self, *words: str, text: str | None = None) -> str:
        """Run kubectl as the administrator; see `call`."""
        return self.call(str(tools.BIN / "kubectl"), *words, text=text)

    def kubectl_tries(self, *words: str) -> bool:
        """Tell whether kubectl succeeds."""
        return self.tries(str(tools.BIN / "kubectl"), *words)

    def get(self, *words: str) -> dict[str, Any]:
        """Return what kubectl gets, as JSON."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *words, "--output=json"))
        return found

    def apply(self, text: str, *words: str) -> str:
        """Apply documents, checked strictly by the server."""
        command = ("apply", "--server-side", "--force-conflicts", "--validate=strict", *words, "--filename=-")
        return self.kubectl(*command, text=text)

    def _called(self, command: Sequence[str], seconds: float, text: str | None) -> "subprocess.CompletedProcess[str]":
        """Run a program, again if the API server was too slow for it."""
        until = time.monotonic() + _READY_SECONDS
        while True:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=os.environ | {"KUBECONFIG": str(self.files.kubeconfig), "HOME": str(self.folder)},
                input=text,
                stdin=subprocess.DEVNULL if text is None else None,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
            )
            if not done.returncode or not _TOO_SLOW.search(done.stderr) or time.monotonic() > until:
                return done

    def _etcd(self) -> list[str]:
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        return [
            str(parts.ETCD.binary),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
            "--unsafe-no-fsync",
        ]

    def _api_server(self) -> list[str]:
        files = self.files
        return [
            str(parts.API_SERVER.binary),
            "--etcd-servers=http://127.0.0.1:2379",
            f"--service-cluster-ip-range={network.SERVICE_NETWORK}",
            "--secure-port=6443",
            "--bind-address=0.0.0.0",
            f"--advertise-address={network.NODE_ADDRESS}",
            "--authorization-mode=Node,RBAC",
            f"--service-account-issuer={pki.ISSUER}",
            f"--service-account-key-file={files.account_public}",
            f"--service-account-signing-key-file={files.account_key}",
            f"--token-auth-file={files.tokens}",
            f"--tls-cert-file={files.certificate}",
            f"--tls-private-key-file={files.key}",
            "--allow-privileged=true",
            # The authority that kubelet's own port, on which logs are read, is verified by.
            f"--kubelet-certificate-authority={files.authority}",
        ]

    def _controllers(self) -> list[str]:
        return [
            str(parts.CONTROLLERS.binary),
            f"--kubeconfig={self.files.kubeconfig}",
            f"--service-account-private-key-file={self.files.account_key}",
            f"--root-ca-file={self.files.authority}",
            "--use-service-account-credentials=false",
            "--leader-elect=false",
            # Nodes here send no heartbeats.
            "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller",
            "--bind-address=127.0.0.1",
        ]

    def _proxy(self) -> list[str]:
        return [
            str(parts.PROXY.binary),
            f"--kubeconfig={self.files.kubeconfig}",
            "--proxy-mode=nftables",
            "--hostname-override=node-1",
            f"--cluster-cidr={network.POD_NETWORK}",
            f"--bind-address={network.NODE_ADDRESS}",
            "--conntrack-max-per-core=0",
        ]


def _said(command: Sequence[str], done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode:
        raise LabError(f"{' '.join(command[:6])} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout
