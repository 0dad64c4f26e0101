"""Prove the image without an engine: build it twice on a base made here, look into it, and run it.

  python -m tests.image.check [--storage DIR]

Wants root on Linux, buildah and debootstrap; without them it says so and does nothing, which is a failure only where
REQUIRE_TOOLS names buildah. The base is Debian's Python 3.13, since no image can be pulled everywhere; --storage keeps
it for the next time.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bbr

ROOT = Path(__file__).resolve().parents[2]
CONTAIN = Path(__file__).with_name("contain.py")

MAX_BYTES = 70_000_000  # without what is compiled it is 59
USER = 65532
DEADLINE_SECONDS = 60.0

PACKAGES = {"base": "python3-minimal,libpython3-stdlib,ca-certificates"}
PACKAGES["build-base"] = f"{PACKAGES['base']},python3-pip,python3-dev,gcc,libc6-dev,binutils"

# What compiles, by the names of programs and of packages: none of it is in the image.
COMPILERS = re.compile(r"(?:^|/)(?:[\w.-]*gcc[\d.-]*|cc|cc1|g\+\+|as|ld|mypyc?|setuptools|hatchling)$")

# Prints what stands at a URL.
READ = "import sys, urllib.request as r; print(r.build_opener(r.ProxyHandler({})).open(sys.argv[1]).read().decode())"

# Where there is a proxy of its own authority, pip has to know it.
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


def missing() -> str | None:
    """Return what keeps this machine from trying, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "root on Linux is needed"
    absent = [tool for tool in ("buildah", "debootstrap", "unshare", "nsenter") if shutil.which(tool) is None]
    return f"{', '.join(absent)} not installed" if absent else None


def debootstrap(packages: str, tree: Path) -> None:
    """Lay out Debian with the packages."""
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", "trixie", str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"debootstrap failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


class Buildah:
    """Buildah with a storage of its own."""

    def __init__(self, storage: Path) -> None:
        configuration = storage / "storage.conf"
        folders = f'runroot = "{storage / "run"}"\ngraphroot = "{storage / "images"}"\n'
        configuration.write_text(f'[storage]\ndriver = "vfs"\n{folders}')
        self._scratch = storage
        self._environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(configuration)}
        self._environment |= {"BUILDAH_ISOLATION": "chroot", "ENGINE": "buildah"}

    def __call__(self, command: str, *arguments: str, program: str = "buildah") -> str:
        """Run a command and return what it prints; what it says beside is shown only if it fails."""
        line = [program, command, *arguments]
        done = subprocess.run(line, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{program} {command} failed:\n{done.stderr[-6000:]}")
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Tell whether there is an image of that name."""
        return image in self("images", "--format", "{{.Name}}").split()

    def bootstrap(self) -> None:
        """Make the base images, of Debian packages, unless they are there."""
        absent = [name for name in PACKAGES if not self.has(f"localhost/{name}")]
        trees = {name: self._scratch / f"{name}-tree" for name in absent}
        with ThreadPoolExecutor() as threads:
            list(threads.map(debootstrap, [PACKAGES[name] for name in absent], trees.values()))
        for name, tree in trees.items():
            container = self("from", "scratch")
            self("add", container, str(tree), "/")
            self("commit", "--rm", container, f"localhost/{name}")
            shutil.rmtree(tree)

    def build(self, image: str) -> dict[str, Any]:
        """Build as `make image` does, with nothing kept from before, and return what the image says of itself."""
        given = {"BASE": "localhost/base", "BUILD_BASE": "localhost/build-base", "PYTHON": "/usr/bin/python3"}
        options = ["--no-cache", *(f"--build-arg={name}={value}" for name, value in given.items())]
        if AUTHORITIES.is_file():
            options.append(f"--volume={AUTHORITIES}:{AUTHORITIES}:ro")
        self(image, *options, program=str(ROOT / "deploy" / "image" / "build.sh"))
        found: dict[str, Any] = json.loads(self("inspect", "--type=image", image))["Docker"]
        return found

    @contextlib.contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """Give the image's tree."""
        container = self("from", "--pull-never", image)
        try:
            yield Path(self("mount", container))
        finally:
            self("rm", container)


def revision() -> str:
    """Return the commit's hash, marked if files differ from it; "unknown" outside of a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def contents(tree: Path) -> dict[str, tuple[int, int, str]]:
    """Return path -> mode, size and digest of everything but folders in a tree."""
    found = {}
    for folder, _, names in os.walk(tree):
        for path in (Path(folder, name) for name in names):
            state = path.lstat()
            link, plain = stat.S_ISLNK(state.st_mode), stat.S_ISREG(state.st_mode)
            octets = os.readlink(path).encode() if link else path.read_bytes() if plain else b""
            entry = (state.st_mode, state.st_size, hashlib.sha256(octets).hexdigest())
            found[f"/{path.relative_to(tree)}"] = entry
    return found


def check(what: str, *, holds: bool, found: object = "") -> None:
    """Tell that something holds, or end here."""
    print(f"  {'ok' if holds else 'NO'}  {what}{f': {found}' if found != '' else ''}", flush=True)
    if not holds:
        raise SystemExit(1)


def check_configuration(config: dict[str, Any]) -> None:
    """Hold the image's configuration against what docs/reference/running.md and the chart promise."""
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items() if "opencontainers" in name}
    wanted = {"title": "bbr", "licenses": "Apache-2.0", "version": bbr.__version__, "revision": revision()}
    check("labels", holds=wanted.items() <= labels.items() and "description" in labels, found=wanted)
    check("user", holds=config["User"] == f"{USER}:{USER}", found=config["User"])
    check("entry", holds=config["Entrypoint"] == ["/bbr"] and not config.get("Cmd"), found=config["Entrypoint"])
    ports = sorted(config["ExposedPorts"])
    check("ports", holds=ports == ["9004/tcp", "9005/tcp", "9090/tcp"], found=ports)
    test = config["Healthcheck"]["Test"]
    check("health check", holds=test[:3] == ["CMD", "/bbr", "probe"], found=" ".join(test))


def check_contents(image: Path, base: Path) -> None:
    """Hold what the image adds to its base."""
    before, after = contents(base), contents(image)
    added = {path: entry for path, entry in after.items() if before.get(path) != entry}
    outside = [path for path in added if path != "/bbr" and not path.startswith("/opt/bbr/")]
    check("nothing but /bbr and /opt/bbr is added", holds=not outside, found=outside[:3] or "")
    check("nothing is taken away", holds=before.keys() <= after.keys())
    size = sum(entry[1] for entry in added.values())
    check(f"under {MAX_BYTES // 10**6} MB on top of the base", holds=size < MAX_BYTES, found=f"{size / 1e6:.1f} MB")
    compilers = {each for path in after for each in (path, os.path.dirname(path)) if COMPILERS.search(each)}
    check("no compiler", holds=not compilers, found=sorted(compilers)[:3] or "")
    extensions = [path for path in added if re.fullmatch(r"/opt/bbr/bbr/[\w/]+\.cpython-\d+-[\w-]+\.so", path)]
    check("the core is compiled", holds=len(extensions) > 0, found=f"{len(extensions)} modules")
    writable = [path for path, (mode, _, _) in added.items() if not stat.S_ISLNK(mode) and mode & 0o022]
    check("no file that others could write", holds=not writable, found=writable[:3] or "")


class Container:
    """A program of an image's tree, contained as contain.py says, until the context is left."""

    def __init__(self, tree: Path, *command: str) -> None:
        contain = ["unshare", "--mount", "--net", sys.executable, str(CONTAIN), str(tree), str(USER), *command]
        self.process = subprocess.Popen(contain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self) -> "Container":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def beside(self, *command: str, inside: bool) -> subprocess.CompletedProcess[str]:
        """Run a second program on the same loopback; `inside` also in the same tree and as the same user."""
        enter = ["nsenter", f"--target={self.process.pid}", "--net"]
        if inside:
            enter += ["--mount", "--root", f"--setuid={USER}", f"--setgid={USER}"]
        return subprocess.run([*enter, "--", *command], capture_output=True, text=True, cwd=ROOT, check=False)

    def healthy(self, command: list[str]) -> bool:
        """Run the image's health check until it succeeds; False if the program ends, or the time is over."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.beside(*command, inside=True).returncode == 0:
                return True
        return False


def check_running(tree: Path, config: dict[str, Any]) -> None:
    """Run the image: read-only, without a shell, as nobody; ask it over TLS as a gateway would; stop it."""
    entry, health = config["Entrypoint"], config["Healthcheck"]["Test"][1:]
    before = contents(tree)
    with Container(tree, *entry, "--version") as container:
        said, _ = container.process.communicate(timeout=DEADLINE_SECONDS)
        right = container.process.returncode == 0 and f"bbr {bbr.__version__} (compiled)" in said
        check("/bbr --version", holds=right, found=said.strip())
    with Container(tree, "/bin/sh", "-c", "true") as container:
        said, _ = container.process.communicate(timeout=DEADLINE_SECONDS)
        check("its shell can not be run here", holds="Permission denied" in said)
    # As the Go routers' chart starts theirs: flags alone, one of them without a meaning here.
    with Container(tree, *entry, "--streaming", "--v=3", "--zap-encoder=json") as container:
        healthy = container.healthy(health)
        check("healthy by its own health check", holds=healthy, found="" if healthy else container.process.poll())
        ask = [sys.executable, "-m", "bbr", "probe", "--addr=127.0.0.1:9004", "--tls", "--model=any", "--json"]
        reply = container.beside(*ask, inside=False)
        found = json.loads(reply.stdout)
        sets = dict(found["exchange"]["set_headers"])
        routed = reply.returncode == 0 and sets["X-Gateway-Model-Name"] == "any" and found["tls"]["alpn"] == "h2"
        check("routes a request over TLS", holds=routed, found=f"{found['exchange']['milliseconds']} ms")
        for path, wanted in (("/metrics", 'build="compiled"'), ("/status.json", '"build":"compiled"')):
            page = container.beside(sys.executable, "-c", READ, f"http://127.0.0.1:9090{path}", inside=False)
            check(f"{path} says that it is compiled", holds=wanted in page.stdout.replace('": "', '":"'))
        container.process.terminate()
        said, _ = container.process.communicate(timeout=DEADLINE_SECONDS)
        check("its first line says so too", holds=f"bbr {bbr.__version__} (compiled) serves" in said)
        check("ends by SIGTERM", holds=container.process.returncode == 0, found=said if "Traceback" in said else "")
    check("has written nothing", holds=contents(tree) == before)


def prove(storage: Path) -> None:
    """Do all of it in a storage directory."""
    buildah = Buildah(storage)
    buildah.bootstrap()
    first, second = (buildah.build(f"localhost/bbr-{number}") for number in (1, 2))
    # Docker's image format holds the name of a container of the build, so the images' ids differ.
    layers = [each["rootfs"]["diff_ids"] for each in (first, second)]
    check("built twice, the same to the octet", holds=layers[0] == layers[1], found=layers[0][-1][:19])
    config = first["config"]
    check_configuration(config)
    with buildah.mounted("localhost/bbr-1") as image, buildah.mounted("localhost/base") as base:
        check_contents(image, base)
        check_running(image, config)


def main() -> int:
    """Run the check from the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", type=Path, metavar="DIR", help="keep images here (default: nothing is kept)")
    given = parser.parse_args()
    if reason := missing():
        print(f"The image is not tried: {reason}.")
        return 1 if "buildah" in os.environ.get("REQUIRE_TOOLS", "").split() else 0
    with contextlib.ExitStack() as stack:
        storage = given.storage or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bbr-image-")))
        storage.mkdir(parents=True, exist_ok=True)
        prove(storage.resolve())
    print("The image is as it should be.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
