"""A pod's containers as processes: what of a Pod becomes which command, in which environment, with which files."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from deploy.lab import network

# The part of an image's name -> what runs for its entry point.
Images = Mapping[str, Sequence[str]]

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REFERENCE: Final = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


class ImageError(Exception):
    """No program stands for an image."""


@dataclass(slots=True)
class Container:
    """One container and its process.

    Attributes:
        spec: of the Pod object.
        process: the newest one; None before the first start.
        started: when, in seconds of the wall clock.
        restarts: how often it was started anew.
        ready: what the readiness probe says.
        failures: of each probe, in a row.
        reason: why it could not be started, or why it is not ready.
        passed_startup: the startup probe has succeeded.
    """

    spec: Mapping[str, Any]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0
    ready: bool = False
    reason: str = ""
    passed_startup: bool = False
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.spec["name"])

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """Send a signal to the process and all that it has started."""
        if self.process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal_number)


def program(images: Images, image: str) -> list[str]:
    """Return what runs for an image.

    Raises:
        ImageError: nothing does.
    """
    for part, command in images.items():
        if part in image:
            return list(command)
    raise ImageError(f"ErrImagePull: {image} is none of the lab's images")


def arguments(entry: Sequence[str], spec: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Return a container's command line: `$(NAME)` in it is replaced as Kubernetes does."""
    command = [*entry, *spec.get("command", [])[1:], *spec.get("args", [])]
    kept = len(entry)
    return command[:kept] + [
        _REFERENCE.sub(lambda found: environment.get(found[1], found[0]), word) for word in command[kept:]
    ]


def environment(
    spec: Mapping[str, Any], fields: Mapping[str, str], services: Mapping[str, str], hostname: str
) -> dict[str, str]:
    """Return a container's variables."""
    found = {"PATH": _PATH, "HOME": "/", "HOSTNAME": hostname, **services}
    for each in spec.get("env", []):
        source = each.get("valueFrom", {})
        if "fieldRef" in source:
            found[each["name"]] = downward(fields, source["fieldRef"]["fieldPath"])
        elif "resourceFieldRef" in source:
            found[each["name"]] = _resource(spec, source["resourceFieldRef"])
        else:
            found[each["name"]] = each.get("value", "")
    return found


def _resource(spec: Mapping[str, Any], wanted: Mapping[str, str]) -> str:
    """Return what the downward API says of a resource: the container's own limit, else all that the machine has.

    Only whole numbers are read; Go programs of the lab's parts take them for GOMEMLIMIT and GOMAXPROCS.
    """
    kind, _, resource = wanted["resource"].partition(".")
    own = str(spec.get("resources", {}).get(kind, {}).get(resource, ""))
    if own.isdigit():
        return own
    return str(os.cpu_count() if resource == "cpu" else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def downward(fields: Mapping[str, str], path: str) -> str:
    """Return what the downward API says at a path: "" for a label or annotation that the pod does not have."""
    optional = path.startswith(("metadata.labels[", "metadata.annotations["))
    return fields.get(path, "") if optional else fields[path]


def service_links(services: Sequence[Mapping[str, Any]], namespace: str, *, links: bool) -> dict[str, str]:
    """Return the variables that name Services: the API server's always, others of the namespace with `links`."""
    host = network.API_SERVICE
    found = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_SERVICE_PORT_HTTPS": "443"}
    for service in services if links else ():
        ports, address = service["spec"].get("ports"), service["spec"].get("clusterIP", "None")
        if service["metadata"]["namespace"] != namespace or address in ("None", "") or not ports:
            continue
        name = service["metadata"]["name"].upper().replace("-", "_")
        found[f"{name}_SERVICE_HOST"] = address
        found[f"{name}_SERVICE_PORT"] = str(ports[0]["port"])
        found[f"{name}_PORT"] = f"tcp://{address}:{ports[0]['port']}"
        for port in ports:
            prefix = f"{name}_PORT_{port['port']}_TCP"
            found |= {prefix: f"tcp://{address}:{port['port']}", f"{prefix}_PROTO": "tcp"}
            found |= {f"{prefix}_PORT": str(port["port"]), f"{prefix}_ADDR": address}
            if port.get("name"):
                found[f"{name}_SERVICE_PORT_" + port["name"].upper().replace("-", "_")] = str(port["port"])
    return found


def start(
    container: Container,
    namespace: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    mounts: Sequence[tuple[Path, str]],
    folder: Path,
) -> None:
    """Start a container's process in a pod's network namespace, with files of its own over the machine's.

    What it writes is thrown away with it: it sees the machine's files through an overlay in memory.

    Args:
        container: gets the process.
        namespace: of the pod.
        command: the command line.
        environment: all variables.
        mounts: what stands where, as file or folder.
        folder: for its log and its root.
    """
    root = folder / f"root-{container.name}"
    root.mkdir(parents=True, exist_ok=True)
    script = _script(root, mounts)
    log = folder / f"{container.name}.log"
    with log.open("ab") as output:
        container.process = subprocess.Popen(
            network.inside(["unshare", "--mount", "sh", "-c", script, "sh", *command], namespace),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
    container.started = time.time()
    container.ready = False
    container.passed_startup = "startupProbe" not in container.spec


def _script(root: Path, mounts: Sequence[tuple[Path, str]]) -> str:
    base, merged = shlex.quote(str(root)), shlex.quote(f"{root}/merged")
    lines = [
        "set -e",
        f"mount -t tmpfs lab {base}",
        f"mkdir {base}/upper {base}/work {merged}",
        f"mount -t overlay lab -o lowerdir=/,upperdir={base}/upper,workdir={base}/work {merged}",
        *(f"mount --rbind /{name} {merged}/{name}" for name in ("proc", "sys", "dev")),
        # What ip-netns has bound over them for this pod.
        *(f"cp --remove-destination /etc/{name} {merged}/etc/{name}" for name in ("resolv.conf", "hosts")),
    ]
    for source, target in mounts:
        # /var/run is a link to /run by its whole name, which would lead out of the container.
        place = f"{merged}{shlex.quote(re.sub('^/var/run/', '/run/', target))}"
        make = f"mkdir -p {place}" if source.is_dir() else f'mkdir -p "$(dirname {place})"; touch {place}'
        lines += [make, f"mount --bind {shlex.quote(str(source))} {place}"]
    return "\n".join([*lines, f'exec chroot {merged} "$@"'])
