"""The programs that the lab runs: where each comes from, and how it is built into a cache of the machine.

All of them are Go modules, got by the ordinary `go` client and checked against its checksum database. What has been
built stays in the user's cache directory under its version, so that it is built once for all checkouts.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.lab.lock import Lock

KUBERNETES: Final = "1.36.1"

# What Kubernetes wants. An older Go fetches the toolchain that a module asks for, which not every proxy serves.
_GO: Final = (1, 26)
_ENVIRONMENT: Final = {"GOWORK": "off", "CGO_ENABLED": "0"}

_MAIN_OF_ETCD: Final = """package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
"""

_MAIN_OF_REDIS: Final = """package main

import "github.com/alicebob/miniredis/v2"

func main() {
	if err := miniredis.NewMiniRedis().StartAddr(":6379"); err != nil {
		panic(err)
	}
	select {}
}
"""


class PartError(Exception):
    """A part can't be built; the message says which, and what Go said."""


@dataclass(frozen=True, slots=True)
class Part:
    """A program.

    Attributes:
        name: of the program in the lab.
        module: of Go.
        version: of the module.
        package: the folder of its main package in the module; "" with `main`.
        seconds: of processor time that a first build takes, about.
        stamps: variables that the linker sets, by their full names.
        files: a folder of the module that is kept beside the program: its CRDs, or its charts with them.
        main: Go source of a main package of the lab's own, if the module has none to build.
    """

    name: str
    module: str
    version: str
    package: str
    seconds: int
    stamps: Mapping[str, str]
    files: str = ""
    main: str = ""

    @property
    def data(self) -> Path:
        """Where the files that are kept beside it are."""
        return cache() / "data" / f"{self.name}-{self.version}"

    @property
    def binary(self) -> Path:
        """Where it is once it has been built."""
        return cache() / "bin" / f"{self.name}-{self.version}"

    @property
    def built(self) -> bool:
        """Whether it has been built."""
        return self.binary.is_file()


def _kubernetes(name: str, seconds: int) -> Part:
    version = "k8s.io/component-base/version."
    major, minor, _ = KUBERNETES.split(".")
    stamps = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    named = {version + key: value for key, value in stamps.items()}
    return Part(name, "k8s.io/kubernetes", f"v{KUBERNETES}", f"cmd/{name}", seconds, named)


ETCD: Final = Part("etcd", "go.etcd.io/etcd/server/v3", "v3.6.6", "", 35, {}, main=_MAIN_OF_ETCD)
API_SERVER: Final = _kubernetes("kube-apiserver", 331)
CONTROLLERS: Final = _kubernetes("kube-controller-manager", 87)
PROXY: Final = _kubernetes("kube-proxy", 10)
# The endpoint picker of the Gateway API Inference Extension.
PICKER: Final = Part(
    "epp", "sigs.k8s.io/gateway-api-inference-extension", "v1.5.0", "cmd/epp", 190, {}, "config/crd/bases"
)
SIMULATOR: Final = Part(
    "llm-d-inference-sim", "github.com/llm-d/llm-d-inference-sim", "v0.10.2", "cmd/llm-d-inference-sim", 194, {}
)
CORE: Final = (ETCD, API_SERVER, CONTROLLERS, PROXY, PICKER, SIMULATOR)

# The controllers of gateways. Each brings its charts, which hold its CRDs as well.
ENVOY_GATEWAY: Final = Part(
    "envoy-gateway", "github.com/envoyproxy/gateway", "v1.9.1", "cmd/envoy-gateway", 285, {}, "charts"
)
# What counts the requests of several Envoys (no release is tagged), and a Redis in memory that keeps the counts.
RATE_LIMIT: Final = Part(
    "ratelimit",
    "github.com/envoyproxy/ratelimit",
    "v1.4.1-0.20260122083618-3fb702589d36",
    "src/service_cmd",
    60,
    {},
)
REDIS: Final = Part("miniredis", "github.com/alicebob/miniredis/v2", "v2.40.0", "", 10, {}, main=_MAIN_OF_REDIS)
# Istio tags no modules: a commit of release 1.31, before 1.31.0.
ISTIO: Final = "1.31.0-eed52ebb66ad"


def _istio(name: str, command: str, seconds: int, files: str = "") -> Part:
    stamps = {"istio.io/istio/pkg/version.buildVersion": ISTIO}
    version = "v0.0.0-20260827124520-eed52ebb66ad"
    return Part(name, "istio.io/istio", version, command, seconds, stamps, files)


ISTIOD: Final = _istio("istiod", "pilot/cmd/pilot-discovery", 590, "manifests/charts")
# What starts Envoy in the gateway's pod, most of it built with the former; with the template of Envoy's bootstrap.
ISTIO_AGENT: Final = _istio("istio-agent", "pilot/cmd/pilot-agent", 20, "tools/packaging/common")
# Istio's sample of external authorization, over HTTP and gRPC: it lets in requests with `x-ext-authz: allow`.
EXT_AUTHZ: Final = _istio("ext-authz", "samples/extauthz/cmd/extauthz", 30)


def _kgateway(name: str, command: str, seconds: int, files: str = "") -> Part:
    version = "v2.4.0"
    stamps = {"github.com/kgateway-dev/kgateway/v2/pkg/version.Version": version.removeprefix("v")}
    return Part(name, "github.com/kgateway-dev/kgateway/v2", version, f"cmd/{command}", seconds, stamps, files)


KGATEWAY: Final = _kgateway("kgateway", "kgateway", 429, "install/helm")
# What starts Envoy in the gateway's pod.
KGATEWAY_ENVOY: Final = _kgateway("kgateway-envoyinit", "envoyinit", 60)


def cache() -> Path:
    """Return the folder of this user's that keeps what has been built."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bbr-lab"


def missing(parts: Iterable[Part]) -> list[Part]:
    """Return those that have not been built."""
    return [part for part in parts if not part.built]


def check(parts: Iterable[Part]) -> None:
    """See whether what has not been built can be built here.

    Raises:
        PartError: there is no Go, or one that is too old.
    """
    wanted = ", ".join(part.name for part in missing(parts))
    if not wanted:
        return
    needed = ".".join(map(str, _GO))
    if shutil.which("go") is None:
        raise PartError(f"Go {needed} or later is not installed here. It has to build, once for this user: {wanted}.")
    told = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout.strip()
    found = re.match(r"go(\d+)\.(\d+)", told)
    if found is None or (int(found[1]), int(found[2])) < _GO:
        raise PartError(f"Go {needed} or later is needed to build {wanted}; here is {told or 'one that does not run'}.")


def build(parts: Iterable[Part], tell: Callable[[str], None]) -> None:
    """Get and compile what has not been built, and tell of each how long it took.

    Another checkout that builds at the same time is waited for.

    Raises:
        PartError: there is no Go, or a build failed.
    """
    if not missing(parts):
        return
    check(parts)
    with Lock(cache() / "build.lock", wait=True):
        _build_all(missing(parts), tell)


def _build_all(wanted: Sequence[Part], tell: Callable[[str], None]) -> None:
    began_all = time.monotonic()
    for number, part in enumerate(wanted, 1):
        tell(f"[{number}/{len(wanted)}] building {part.name} {part.version} (about {part.seconds} s of processor time)")
        began = time.monotonic()
        _build(part)
        size = part.binary.stat().st_size / 1e6
        tell(f"    {size:.0f} MB in {time.monotonic() - began:.0f} s: {part.binary}")
    tell(f"all built in {time.monotonic() - began_all:.0f} s")


def _build(part: Part) -> None:
    folder = cache() / "source" / f"{part.name}-{part.version}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    part.binary.parent.mkdir(parents=True, exist_ok=True)
    source = _download(part, folder)
    target = part.binary.with_name(part.binary.name + ".part")
    words = ["build", "-trimpath", "-o", str(target), "-ldflags", _linking(part)]
    if part.main:
        _write_module(folder, part)
        (folder / "main.go").write_text(part.main, "utf-8")
        _go(part, [*words[:1], "-mod=mod", *words[1:], "."], folder)
    elif part.module == "k8s.io/kubernetes":
        _write_kubernetes_module(folder, source, part)
        _go(part, [*words[:1], "-mod=mod", *words[1:], f"{part.module}/{part.package}"], folder)
    else:
        _go(part, [*words, f"./{part.package}"], source)
    if part.files:
        shutil.copytree(source / part.files, part.data, dirs_exist_ok=True)
    target.rename(part.binary)  # what stands there is whole


def _download(part: Part, folder: Path) -> Path:
    told = _go(part, ["mod", "download", "-json", f"{part.module}@{part.version}"], folder)
    return Path(json.loads(told)["Dir"])


def _linking(part: Part) -> str:
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in part.stamps.items())])


def _write_module(folder: Path, part: Part) -> None:
    text = f"module bbr/lab/{part.name}\n\ngo 1.26\n\nrequire {part.module} {part.version}\n"
    (folder / "go.mod").write_text(text, "utf-8")


def _write_kubernetes_module(folder: Path, source: Path, part: Part) -> None:
    """Write a module that builds Kubernetes' commands.

    Its own go.mod replaces its libraries by folders of its repository, which are not in the module. The same libraries
    are served as modules with 0 for the first digit of the version.
    """
    libraries = "v0" + part.version.removeprefix("v1")
    text = (source / "go.mod").read_text("utf-8")
    text = re.sub(r"(?m)^module .*$", "module bbr/lab/kubernetes", text)
    text = re.sub(r"=> \./staging/src/(k8s\.io/[a-z-]+)", rf"=> \1 {libraries}", text)
    text = re.sub(r"(?m)^(\s*k8s\.io/[a-z-]+) v0\.0\.0(\s*// indirect)?$", rf"\1 {libraries}\2", text)
    (folder / "go.mod").write_text(f"{text}\nrequire {part.module} {part.version}\n", "utf-8")
    shutil.copyfile(source / "go.sum", folder / "go.sum")


def _go(part: Part, words: Sequence[str], folder: Path) -> str:
    done = subprocess.run(
        ["go", *words],
        cwd=folder,
        env=os.environ | _ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise PartError(f"{part.name} {part.version} could not be built: go {words[0]} failed:\n{said}")
    return done.stdout
