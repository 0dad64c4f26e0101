"""Sets up the virtual environments of `make`: `python3 deploy/environment.py dev|demo [--given] [-- ARGUMENT...]`.

dev is .venv, with all that tests and tools need. demo is what `make demo` needs, a third of it. What stands behind `--`
are arguments for the environment's Python, which takes the place of this process; for demo a dev that is ready serves
as well.

An environment is built in a directory of its own in .cache/environments, under a lock. When it is complete, a symbolic
link to it is put in place by one rename, so that nobody sees half of one, and one that fails to build replaces nothing.
It is built anew if the content of its lock file or its Python is another one; what the time stamps say is no matter.
"""

import os
import shutil
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST = (3, 11, 5)  # bbr/cli.py says why

# Before anything that an older Python can't run.
if sys.version_info < OLDEST:
    READY_PYTHON = os.path.join(ROOT, ".venv", "bin", "python")
    if os.access(READY_PYTHON, os.X_OK) and "--given" not in sys.argv:
        os.execv(READY_PYTHON, [READY_PYTHON, *sys.argv])
    # Not the version that this one is of: it would be this one again.
    names = ["python3.%d" % minor for minor in range(19, OLDEST[1] - 1, -1) if minor != sys.version_info[1]]
    there = [name for name in names if shutil.which(name)] or ["python3.12"]
    sys.exit(
        "bbr needs Python 3.11.5 or later; %s is Python %d.%d.%d. Try: make PYTHON=%s ..."
        % (sys.executable, sys.version_info[0], sys.version_info[1], sys.version_info[2], there[0])
    )

import argparse
import fcntl
import hashlib
import json
import platform
import subprocess
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MARKER: Final = ".ready"
MISSING: Final = "it is not there"
# What to do if packages can't be installed.
INDEX: Final = "Packages come from PyPI, or from where PIP_INDEX_URL says: look at the network and the proxy"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of environment.

    Attributes:
        name: of the kind.
        link: where it is found, below the checkout.
        lock: the file of its packages.
        editable: whether bbr itself is installed, and pip.
        megabytes: its size on disk, about.
        seconds: how long uv and pip take with empty caches (docs/design/dependencies.md).
    """

    name: str
    link: str
    lock: str
    editable: bool
    megabytes: int
    seconds: tuple[int, int]


KINDS: Final = {
    "dev": Kind("dev", ".venv", "requirements-dev.lock", editable=True, megabytes=1100, seconds=(30, 90)),
    "demo": Kind("demo", ".cache/demo", "requirements-demo.lock", editable=False, megabytes=250, seconds=(15, 40)),
    "release": Kind(
        "release", ".cache/release-tools", "requirements-release.lock", editable=False, megabytes=90, seconds=(10, 30)
    ),
}


class SetupError(Exception):
    """The environment can't be set up; the message tells why and what to do."""


class Checkout:
    """A checkout with its environments.

    Args:
        root: its directory.
        given: whether the user has named the Python that runs this; else any that an environment has will do.
    """

    def __init__(self, root: Path, *, given: bool) -> None:
        self._root = root
        self._given = given
        self._home = root / ".cache/environments"

    def ready(self, kind: Kind) -> bool:
        """Tell whether an environment needs nothing."""
        return not self._why(kind) and self._installed(kind)

    def python(self, kind: Kind) -> Path:
        """Return the path of an environment's Python."""
        return self._root / kind.link / "bin/python"

    def set_up(self, kind: Kind) -> None:
        """Make an environment ready, if it is not.

        Raises:
            SetupError: it can't be.
        """
        if self.ready(kind):
            return
        with self._locked():
            why = self._why(kind)  # another process may have done it meanwhile
            if why:
                self._build(kind, why)
            elif not self._installed(kind):
                say(f"Installing bbr anew into {kind.link}: its part of pyproject.toml has changed.")
                place = (self._root / kind.link).resolve()
                self._install_bbr(place)
                self._mark(kind, place)

    def _why(self, kind: Kind) -> str:
        """Return why an environment has to be built, or an empty text."""
        link = self._root / kind.link
        marker = _read_marker(link)
        if marker is None:
            return "it is incomplete" if os.path.lexists(link) else MISSING
        if marker["root"] != str(self._root):
            return f"it was built in {marker['root']}"
        if marker["lock"] != _digest(self._root / kind.lock):
            return f"{kind.lock} has changed"
        found = _version(link / "bin/python")
        if found != marker["python"]:
            return f"its Python was {marker['python']} and is {found or 'gone'}"
        if self._given and found.split(".")[:2] != platform.python_version().split(".")[:2]:
            return f"its Python is {found}, and {platform.python_version()} is wanted"
        return ""

    def _installed(self, kind: Kind) -> bool:
        marker = _read_marker(self._root / kind.link)
        return marker is not None and marker["project"] == self._project(kind)

    def _build(self, kind: Kind, why: str) -> None:
        link = self._root / kind.link
        if os.path.lexists(link) and not link.is_symlink() and not (link / MARKER).exists():
            raise SetupError(
                f"{kind.link} is there, and make has not built it. Move it away or remove it: rm -r {kind.link}"
            )
        uv = shutil.which("uv") or shutil.which("uv", path=str(link / "bin"))
        count = len([line for line in (self._root / kind.lock).read_text().splitlines() if "==" in line])
        tool, seconds = ("uv", kind.seconds[0]) if uv else ("pip", kind.seconds[1])
        say(
            f"Setting up {kind.link} with Python {platform.python_version()}{'' if why is MISSING else f', as {why}'}: "
            f"{count} packages by {tool}, {kind.megabytes} MB on disk, about {seconds} s on a good line. "
            "No compiler is needed."
        )
        begun = time.monotonic()
        place = self._home / f"{kind.name}-{time.time_ns():x}"
        free = shutil.disk_usage(self._home).free // 1_000_000
        try:
            self._fill(kind, place, uv)
            self._put(kind, place)
        except SetupError as error:
            shutil.rmtree(place, ignore_errors=True)
            if free >= kind.megabytes:
                raise
            raise SetupError(
                f"the disk of {self._root} had only {free} MB free, which may be the cause. {error}"
            ) from None
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        for other in self._home.glob(f"{kind.name}-*"):
            if other != place:
                shutil.rmtree(other, ignore_errors=True)
        say(f"{kind.link} is ready after {time.monotonic() - begun:.0f} s.")

    def _fill(self, kind: Kind, place: Path, uv: str | None) -> None:
        """Build an environment at its place, with all but its name."""
        python = str(place / "bin/python")
        without = [] if kind.editable or not uv else ["--without-pip"]
        hint = "On Debian and Ubuntu `apt install python3-venv` brings what it needs"
        _run([sys.executable, "-m", "venv", *without, str(place)], hint)
        lock = str(self._root / kind.lock)
        if uv:
            try:
                _run([uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "--requirement", lock])
            except SetupError as error:  # an index that only pip is configured for, perhaps
                say(f"{error} Trying pip.")
                uv = None
                if without:
                    _run([python, "-I", "-m", "ensurepip"], hint)
        if not uv:
            _run([*_pip(python), "--require-hashes", "--requirement", lock], INDEX)
        if kind.editable:
            self._install_bbr(place)
        else:
            (packages,) = place.glob("lib/python*/site-packages")
            (packages / "bbr-checkout.pth").write_text(f"{self._root}\n", "utf-8")
        self._mark(kind, place)

    def _install_bbr(self, place: Path) -> None:
        python = str(place / "bin/python")
        _run([*_pip(python), "--no-deps", "--no-build-isolation", "--editable", str(self._root)])

    def _mark(self, kind: Kind, place: Path) -> None:
        """Write down what an environment was built from: it is complete."""
        marker = {
            "root": str(self._root),
            "lock": _digest(self._root / kind.lock),
            "project": self._project(kind),
            "python": _version(place / "bin/python"),
        }
        new = place / f"{MARKER}.new"
        new.write_text(json.dumps(marker), "utf-8")
        new.replace(place / MARKER)

    def _put(self, kind: Kind, place: Path) -> None:
        """Let an environment take its name, in one rename."""
        link = self._root / kind.link
        new = self._home / f"{kind.name}.link"
        new.unlink(missing_ok=True)
        new.symlink_to(os.path.relpath(place, link.parent))
        if link.is_symlink() or not link.exists():
            new.replace(link)
            return
        old = self._home / f"{kind.name}-of-before"  # a directory, as make built them once: no rename replaces that
        link.rename(old)
        new.replace(link)

    def _project(self, kind: Kind) -> str:
        """Return a digest of what of pyproject.toml an editable installation is made from."""
        if not kind.editable:
            return ""
        found = tomllib.loads((self._root / "pyproject.toml").read_text("utf-8"))
        parts = [found.get("build-system"), found.get("project"), found.get("tool", {}).get("hatch")]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock. The system lets it go when the process ends, however that comes about."""
        self._home.mkdir(parents=True, exist_ok=True)
        with (self._home / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Waiting for another make in this checkout, which is setting up.")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def say(text: str) -> None:
    """Print a line at once, on standard error: standard output is for what the user has asked for."""
    print(text, file=sys.stderr, flush=True)


def _read_marker(link: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((link / MARKER).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"root", "lock", "project", "python"} <= found.keys() else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(python: Path) -> str:
    """Return the version of a Python, or an empty text if it does not run."""
    command = [str(python), "-I", "-S", "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _pip(python: str) -> list[str]:
    return [python, "-I", "-m", "pip", "install", "--quiet"]


def _run(command: Sequence[str], hint: str = "") -> None:
    """Run a command. pip refuses to touch anything but a virtual environment, whatever the user's settings say.

    Raises:
        SetupError: it fails. The hint comes first: the command may be longer than a screen is wide.
    """
    settings = {"PIP_REQUIRE_VIRTUALENV": "1", "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    kept = {name: text for name, text in os.environ.items() if name not in ("PIP_TARGET", "PIP_PREFIX", "PYTHONHOME")}
    status = subprocess.run(command, env=kept | settings, stdin=subprocess.DEVNULL, check=False).returncode
    if status:
        said = f"`{' '.join(command)}` has ended with {status}."
        raise SetupError(f"{hint}. {said}" if hint else said)


def main() -> int:
    """Set up what the command line names; return the exit status, unless another program takes over."""
    arguments = sys.argv[1:]
    at = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--given", action="store_true", help="this Python was named by the user: no other will do")
    given = parser.parse_args(arguments[:at])
    checkout, kind = Checkout(Path(ROOT), given=given.given), KINDS[given.kind]
    if kind is KINDS["demo"] and checkout.ready(KINDS["dev"]):
        kind = KINDS["dev"]
    try:
        checkout.set_up(kind)
    except (OSError, SetupError) as error:
        say(f"The set-up has failed, and nothing has changed: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nThe set-up was interrupted, and nothing has changed. The same command begins it anew.")
        return 130
    if arguments[at + 1 :]:
        python = str(checkout.python(kind))
        os.execv(python, [python, *arguments[at + 1 :]])
    return 0


if __name__ == "__main__":
    sys.exit(main())
