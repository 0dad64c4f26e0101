"""The lab's network: one namespace for the control plane and the nodes, and one more for each pod.

Nothing of it is reachable from outside, and nothing in it reaches out: the namespaces have no link to the machine's own
network. Addresses are routed one by one over a bridge, as many clusters do it.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

# A checkout has one lab for people, and one for tests: they disturb neither each other nor those of other checkouts.
NAME_VARIABLE: Final = "BBR_LAB_NAME"
NAMES: Final = ("up", "test")
NAME: Final = os.environ.get(NAME_VARIABLE, NAMES[0])
_OF_CHECKOUT: Final = f"bbr-lab-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:6]}"
NAMESPACE: Final = f"{_OF_CHECKOUT}-{NAME}"
NODE_ADDRESS: Final = "10.100.0.1"
POD_NETWORK: Final = "10.100.0.0/16"
SERVICE_NETWORK: Final = "10.96.0.0/16"
API_SERVICE: Final = "10.96.0.1"
DOMAIN: Final = "cluster.local"

_BRIDGE: Final = "br0"
_CLONE_NEWNET: Final = 0x40000000  # of sched.h
_FILES: Final = Path("/etc/netns")
_PODS_IN_A_SUBNET: Final = 250


class NetworkError(Exception):
    """The system can't make or remove a part of the network; the message is its own."""


def address(number: int) -> str:
    """Return the address of the pod with this number, from 0 on."""
    subnet, host = divmod(number, _PODS_IN_A_SUBNET)
    return f"10.100.{1 + subnet}.{2 + host}"


def inside(command: Sequence[str], namespace: str = NAMESPACE) -> list[str]:
    """Return a command that runs another one in a namespace."""
    return ["ip", "netns", "exec", namespace, *command]


def beside(command: Sequence[str]) -> list[str]:
    """Return a command that runs another one in the control plane's namespace, with the machine's own mounts.

    What makes namespaces must be run so: `ip netns exec` would hide them in mounts of its own, out of reach of a
    clean-up.
    """
    return ["nsenter", f"--net=/run/netns/{NAMESPACE}", "--", *command]


def create() -> None:
    """Make the namespace of the control plane, with a bridge for the pods.

    Raises:
        NetworkError: it is there already, or can't be made.
    """
    _ip("netns", "add", NAMESPACE)
    for words in (
        f"link set lo up|link add {_BRIDGE} type bridge|link set {_BRIDGE} up|addr add {NODE_ADDRESS}/32 dev {_BRIDGE}|"
        f"route add {POD_NETWORK} dev {_BRIDGE}|route add default dev {_BRIDGE}"
    ).split("|"):
        _ip("-n", NAMESPACE, *words.split())
    _run(inside(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]))
    _write_files(NAMESPACE, resolver(""), "127.0.0.1 localhost\n")


def create_pod(namespace: str, address: str, search: str, hosts: str) -> None:
    """Make a pod's namespace, joined to the bridge.

    Args:
        namespace: its name.
        address: of the pod.
        search: the domain that short names are looked up in first, as "default.svc"; "" for none.
        hosts: the pod's /etc/hosts.

    Raises:
        NetworkError: it can't be made.
    """
    link = namespace.removeprefix(f"{NAMESPACE}-")
    _ip("netns", "add", namespace)
    _ip("-n", NAMESPACE, *f"link add {link} type veth peer name eth0 netns {namespace}".split())
    _ip("-n", NAMESPACE, *f"link set {link} up master {_BRIDGE}".split())
    for words in (
        f"link set lo up|addr add {address}/32 dev eth0|link set eth0 up|"
        f"route add {NODE_ADDRESS} dev eth0|route add default via {NODE_ADDRESS}"
    ).split("|"):
        _ip("-n", namespace, *words.split())
    _write_files(namespace, resolver(search), hosts)


def resolver(search: str) -> str:
    """Return the resolv.conf of a pod in the namespace of Kubernetes `search`; "" for a node's."""
    domains = [f"svc.{DOMAIN}", DOMAIN]
    if search:
        domains.insert(0, f"{search}.svc.{DOMAIN}")
    return f"nameserver {NODE_ADDRESS}\nsearch {' '.join(domains)}\noptions ndots:5\n"


def enter() -> None:
    """Move this thread, and all that it starts from now on, into the lab's namespace.

    Raises:
        OSError: there is none, or this is not root.
    """
    with (Path("/run/netns") / NAMESPACE).open("rb") as handle:
        if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def of_pod(uid: str) -> str:
    """Return the name of a pod's namespace."""
    return f"{NAMESPACE}-{uid[:8]}"


def namespaces(name: str = NAME) -> list[str]:
    """Return the names of a lab's namespaces that are there: the control plane's last."""
    control = f"{_OF_CHECKOUT}-{name}"
    names = [line.split()[0] for line in _ip("netns", "list").splitlines() if line.strip()]
    pods = [each for each in names if each.startswith(f"{control}-")]
    return pods + [each for each in names if each == control]


def end_processes(namespace: str) -> None:
    """Kill what still runs in a namespace, but for this process, which may have entered it."""
    listed = subprocess.run(["ip", "netns", "pids", namespace], check=False, capture_output=True, text=True).stdout
    for pid in map(int, listed.split()):
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def remove_all(name: str = NAME) -> bool:
    """Remove all namespaces of a lab that nothing runs any more; return whether there were some."""
    left = namespaces(name)
    for namespace in reversed(left):  # the control plane first: it would start pods' processes anew
        end_processes(namespace)
    for namespace in left:
        remove(namespace)
    return bool(left)


def remove(namespace: str) -> None:
    """Remove a namespace, what still runs in it, and its files; nothing happens if it is not there."""
    end_processes(namespace)
    subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)
    shutil.rmtree(_FILES / namespace, ignore_errors=True)


def _write_files(namespace: str, resolver: str, hosts: str) -> None:
    folder = _FILES / namespace
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "resolv.conf").write_text(resolver, "utf-8")
    (folder / "hosts").write_text(hosts, "utf-8")


def _ip(*words: str) -> str:
    return _run(["ip", *words])


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise NetworkError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
