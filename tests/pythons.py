"""Runs the tests of the core on another version of Python: `python tests/pythons.py VERSION [--compile] [--cases N]`.

The interpreter is one that the machine has: on PATH, or where uv or pyenv keep theirs. If it has none, the interpreter
is that of a Debian suite in a chroot, which needs root on Linux, debootstrap and unshare. Without these the script says
so and tries nothing, and its exit status is 0.

It makes an environment with the locked versions in .cache/pythons (with uv, where it is on PATH), runs the tests of
SUITES there, builds the wheel and tries it in an environment of its own (tests/wheels.py). With --compile it also
builds and tries the compiled wheel. Imports only the standard library: this file runs on the caller's Python.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
KEPT: Final = ROOT / ".cache/pythons"
SUITES: Final = ("tests/unit", "tests/conformance", "tests/parity", "tests/property")
# Debian's suites and the version of Python that each has. None has 3.12, and its 3.11 is too old (3.11.2).
DEBIAN: Final = {"3.13": "trixie", "3.14": "sid"}
PACKAGES: Final = "python3,python3-venv,python3-dev,gcc,libc6-dev,ca-certificates"
# Where the checkout is in a chroot, and what the chroot has of the machine's, to resolve names and trust servers alike.
INSIDE: Final = "/bbr"
SHARED: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")

# Mounts what programs expect, in a namespace of its own, and goes into the tree: $1 is the tree, $2 the checkout.
ENTER: Final = f"""
set -e
mkdir -p "$1{INSIDE}"
mount --bind "$2" "$1{INSIDE}"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
tree=$1
shift 2
exec chroot "$tree" env -C {INSIDE} "$@"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an interpreter runs.

    Attributes:
        python: the interpreter.
        root: the checkout, as the interpreter sees it.
        enter: the command before each command: nothing on the machine itself.
    """

    python: str
    root: str
    enter: tuple[str, ...] = ()

    def run(self, *command: str, **environment: str) -> None:
        """Run a command in the checkout, and exit with its status if that is not 0."""
        print("+", *command, flush=True)
        done = subprocess.run([*self.enter, *command], cwd=ROOT, env=clean(environment), check=False)
        if done.returncode:
            sys.exit(done.returncode)


def clean(more: dict[str, str]) -> dict[str, str]:
    """Return this process's environment without what belongs to its own Python, and with `more`."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "PYENV"))
    }
    return kept | {"PIP_REQUIRE_VIRTUALENV": "1"} | more


def candidates(version: str) -> Iterator[str]:
    """Give the interpreters of this version that there may be, the nearest first."""
    if found := shutil.which(f"python{version}"):
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from (str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True))
    if uv := shutil.which("uv"):
        told = subprocess.run(
            [uv, "python", "find", "--no-project", version], capture_output=True, text=True, check=False
        )
        yield from told.stdout.split("\n")[:1]


def version_of(python: str) -> str:
    """Return an interpreter's version, as in 3.13; nothing if it does not run, as a shim of pyenv may not."""
    tell = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        told = subprocess.run([python, "-c", tell], capture_output=True, text=True, check=False, env=clean({}))
    except OSError:
        return ""
    return told.stdout.strip()


def missing(version: str) -> str:
    """Return what keeps this machine from getting the version from Debian; nothing if it can."""
    if version not in DEBIAN:
        return f"no suite of Debian has Python {version}"
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a chroot needs root on Linux"
    absent = [tool for tool in ("debootstrap", "unshare") if shutil.which(tool) is None]
    return f"{' and '.join(absent)} not installed" if absent else ""


def tree_of(suite: str) -> Path:
    """Return a tree of the suite, made if there is none. It appears by one rename."""
    tree = KEPT / suite
    if not tree.exists():
        made = tree.with_suffix(".new")
        shutil.rmtree(made, ignore_errors=True)
        print(f"Getting Python from Debian {suite}, which takes some minutes.", flush=True)
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(made)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        made.rename(tree)
    for path in map(Path, SHARED):
        if path.is_file():
            (tree / path.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tree / path.relative_to("/"))
    return tree


def place_of(version: str) -> Place | str:
    """Return where the version runs, or the sentence that says why it does not."""
    for python in candidates(version):
        if python and version_of(python) == version:
            return Place(python, str(ROOT))
    if reason := missing(version):
        return f"skipped: this machine has no Python {version}, and {reason}"
    tree = tree_of(DEBIAN[version])
    enter = ("unshare", "--mount", "--propagation=private", "sh", "-c", ENTER, "enter", str(tree), str(ROOT))
    place = Place("/usr/bin/python3", INSIDE, enter)
    tell = [*enter, place.python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    told = subprocess.run(tell, capture_output=True, text=True, check=False, env=clean({}))
    if (has := told.stdout.strip()) != version:
        return f"skipped: Debian {DEBIAN[version]} has Python {has or told.stderr.strip()}, not {version}"
    return place


def environment(place: Place, version: str) -> str:
    """Return the Python of an environment with the locked versions; it is made anew if the lock has changed."""
    lock = ROOT / "requirements-dev.lock"
    folder = f".cache/pythons/env-{version}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    python = f"{place.root}/{folder}/bin/python"
    if not (ROOT / folder / ".ready").exists():
        shutil.rmtree(ROOT / folder, ignore_errors=True)
        place.run(place.python, "-m", "venv", f"{place.root}/{folder}")
        uv = None if place.enter else shutil.which("uv")
        install = (uv, "pip", "install", "--python", python) if uv else (python, "-m", "pip", "install")
        place.run(*install, "--quiet", "--require-hashes", "-r", f"{place.root}/{lock.name}")
        (ROOT / folder / ".ready").touch()
    return python


def main(arguments: Sequence[str] | None = None) -> int:
    """Find the interpreter, run the tests, and try the wheels."""
    parser = argparse.ArgumentParser(description="Run the tests of the core on another version of Python.")
    parser.add_argument("version", help="as in 3.13")
    parser.add_argument("--compile", action="store_true", help="build and try the compiled wheel too (gcc)")
    parser.add_argument("--cases", metavar="N", help="run at most N cases of each parametrised test")
    given, pytest = parser.parse_known_args(arguments)
    if not re.fullmatch(r"3\.\d+", given.version):
        parser.error(f"{given.version!r} is not a version such as 3.13")
    place = place_of(given.version)
    if isinstance(place, str):
        print(place)
        return 0
    python = environment(place, given.version)
    cases = [f"--cases={given.cases}"] if given.cases else []
    place.run(python, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *cases, *(pytest or SUITES))
    wheels = f".cache/pythons/wheels-{given.version}"
    shutil.rmtree(ROOT / wheels, ignore_errors=True)
    build = (python, "-m", "hatchling", "build", "--target", "wheel", "--directory", f"{place.root}/{wheels}")
    place.run(*build)
    if given.compile:
        place.run(*build, BBR_COMPILE="1")
    built = [f"{place.root}/{wheels}/{path.name}" for path in sorted((ROOT / wheels).glob("*.whl"))]
    place.run(python, "-m", "tests.wheels", *built)
    print(f"Python {given.version}: all of this passed.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
