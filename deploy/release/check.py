"""`make release-check`: all of a release that needs no network service and no container engine.

Builds sdist, wheel and chart twice, and compares; lets twine look at them; installs the wheel and asks it for its
version; runs tests out of the sdist; writes the bill of materials of what the wheel brings with it. All of it lands in
.cache/release. COMPILE=1 builds the compiled wheel as well, which needs gcc and some minutes.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.release.version import ROOT, VersionError, notes, version

PLACE: Final = ROOT / ".cache/release"
TOOLS: Final = Path(sys.executable).parent
# The interpreter that has what tests need.
TESTER: Final = ROOT / ".venv/bin/python"

# Tests that need no files but the sdist's, and some seconds.
SHORT_TESTS: Final = ("tests/unit/test_cli.py", "tests/unit/reading/test_json_body.py", "tests/unit/test_imports.py")


class ReleaseError(Exception):
    """The release cannot be published; the message says why."""


def run(command: Sequence[object], cwd: Path = ROOT, **variables: str) -> str:
    """Run a command and return its standard output.

    Raises:
        ReleaseError: it has failed; the message has its output.
    """
    words = [str(word) for word in command]
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("BBR_", "PYTHONPATH"))}
    done = subprocess.run(words, cwd=cwd, env=kept | variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"`{' '.join(words)}` ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def build(place: Path, epoch: str, *, compiled: bool) -> None:
    """Build sdist and wheels into a directory."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", place]
    run([*command, "--target", "sdist"], SOURCE_DATE_EPOCH=epoch)
    run([*command, "--target", "wheel"], SOURCE_DATE_EPOCH=epoch)
    if compiled:
        # Its build needs mypy and setuptools, which the tests' environment has.
        command[0] = TESTER
        run([*command, "--target", "wheel"], SOURCE_DATE_EPOCH=epoch, BBR_COMPILE="1")


def digests(place: Path) -> dict[str, str]:
    """Return the names and SHA-256 digests of a directory's files."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(place.iterdir())}


def compare(one: Mapping[str, str], other: Mapping[str, str]) -> None:
    """Compare two builds.

    Raises:
        ReleaseError: they differ.
    """
    differing = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    if differing:
        raise ReleaseError(f"built twice, these differ: {', '.join(differing)}")


def package_chart(place: Path) -> str:
    """Package the chart twice and return the file's name. Helm writes the time into it, so contents are compared.

    Raises:
        ReleaseError: Helm is not installed, or has packaged two different charts.
    """
    helm = shutil.which("helm", path=f"{ROOT / '.cache/kube/bin'}:{os.environ.get('PATH', '')}")
    if helm is None:
        raise ReleaseError("helm is not installed: run `make helm`")
    found = []
    for number in ("chart-1", "chart-2"):
        run([helm, "package", "deploy/chart", "--destination", place / number])
        (path,) = (place / number).iterdir()
        with tarfile.open(path) as packed:
            members = [each for each in packed.getmembers() if each.isfile()]
            found.append({each.name: _digest(packed, each) for each in members})
    compare(*found)
    shutil.copy(path, place)
    return path.name


def _digest(packed: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = packed.extractfile(member)
    return hashlib.sha256(file.read() if file else b"").hexdigest()


def install(place: Path, wheel: Path) -> Path:
    """Install a wheel with the locked packages into an environment of its own; return its Python."""
    run([sys.executable, "-m", "venv", place])
    python = place / "bin/python"
    pip = [python, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "--requirement", ROOT / "requirements.lock"], PIP_REQUIRE_VIRTUALENV="1")
    run([*pip, "--no-deps", wheel], PIP_REQUIRE_VIRTUALENV="1")
    return python


def bill_of_materials(python: Path, out: Path) -> int:
    """Write what an environment holds as CycloneDX; return the number of its components.

    Raises:
        ReleaseError: the router or one of its packages is missing from it.
    """
    run([TOOLS / "cyclonedx-py", "environment", python, "--output-reproducible", "--of", "JSON", "-o", out])
    names = {each["name"].lower() for each in json.loads(out.read_text("utf-8"))["components"]}
    missing = {"body-based-router", "grpcio", "uvloop", "cryptography"} - names
    if missing:
        raise ReleaseError(f"the bill of materials lacks {', '.join(sorted(missing))}")
    return len(names)


def steps(*, compiled: bool) -> Iterator[str]:
    """Do one step after another, and give a sentence on each.

    Raises:
        ReleaseError: a step has failed.
        VersionError: two places have different versions.
    """
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    name = version()
    yield f"version {name} in bbr and in the chart; {changelog(name)}"
    epoch = run(["git", "log", "-1", "--format=%ct"]).strip() if (ROOT / ".git").exists() else "0"
    for each in ("dist", "again"):
        build(PLACE / each, epoch, compiled=compiled)
    built = digests(PLACE / "dist")
    compare(built, digests(PLACE / "again"))
    yield f"built twice with the same bytes: {', '.join(built)}"
    run([sys.executable, "-m", "twine", "check", "--strict", *sorted((PLACE / "dist").iterdir())])
    yield "twine accepts them"
    python = install(PLACE / "environment", next((PLACE / "dist").glob("*-none-any.whl")))
    said = run([python.parent / "bbr", "version"], cwd=Path("/")).strip()
    if not said.startswith(f"bbr {name} (interpreted)"):
        raise ReleaseError(f"the installed wheel says that it is {said!r}")
    yield f"installed: {said}"
    yield f"sbom.json: {bill_of_materials(python, PLACE / 'sbom.json')} components"
    yield test_sdist(next((PLACE / "dist").glob("*.tar.gz")))
    yield f"chart packaged twice with the same contents: {package_chart(PLACE)}"


def test_sdist(sdist: Path) -> str:
    """Run tests out of an unpacked sdist; return their summary."""
    with tarfile.open(sdist) as packed:
        packed.extractall(PLACE / "sdist", filter="data")
    (root,) = (PLACE / "sdist").iterdir()
    command = [TESTER, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *SHORT_TESTS]
    summary = run(command, cwd=root, PYTHONPATH=str(root), PYTHONSAFEPATH="1").strip().splitlines()[-1]
    return f"the sdist's own tests: {summary}"


def changelog(name: str, root: Path = ROOT) -> str:
    """Return what CHANGELOG.md has for a version.

    Raises:
        VersionError: it has neither a section for the version nor anything under "Unreleased".
    """
    try:
        notes(name, root)
    except VersionError:
        notes("Unreleased", root)
        return f'CHANGELOG.md has only "Unreleased" yet: `make release-prepare VERSION={name}` comes before the tag'
    return f'CHANGELOG.md has "{name}"'


def main() -> int:
    """Check the release; return 0 if it can be published."""
    compiled = os.environ.get("COMPILE") == "1"
    try:
        for sentence in steps(compiled=compiled):
            print(f"ok  {sentence}", flush=True)
    except (ReleaseError, VersionError) as error:
        print(f"The release cannot be published: {error}.", file=sys.stderr)
        return 1
    without = "" if compiled else "the compiled wheel (COMPILE=1 builds it), "
    print(f"Not checked here: {without}arm64 and musl, the image (`make image-test`), and all that publishes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
