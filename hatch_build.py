"""Builds wheels: of Python alone, or with the core compiled by mypyc (docs/design/compiling.md).

    python -m hatchling build --target wheel                  # body_based_router-...-py3-none-any.whl
    BBR_COMPILE=1 python -m hatchling build --target wheel    # body_based_router-...-cp311-cp311-linux_x86_64.whl

The second needs gcc.

The compiled wheel holds the sources as well: tracebacks show them. Nothing is written beside them in the source tree.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

SWITCH = "BBR_COMPILE"

# Run in a process of its own, in a copy of the sources: setuptools and mypy write where they run.
COMPILE = r"""
import os
import re
import sys
from pathlib import Path
from mypyc.build import mypycify
from setuptools import setup

# mypy takes one branch of what depends on the version of Python: that of the Python that the wheel is for.
version = f"--python-version={sys.version_info.major}.{sys.version_info.minor}"
options = ["--config-file=pyproject.toml", version, *sys.argv[1:]]
extensions = mypycify(options, opt_level="3", debug_level="0", group_name="bbr")
for source in {source for extension in extensions for source in extension.sources}:
    # mypyc indents what it declares for each class further than for the one before: 80 of 95 MB were blanks.
    Path(source).write_text(re.sub("(?m)^ +", "", Path(source).read_text("utf-8")), "utf-8")
for extension in extensions:
    # Nobody else links to its functions: so that the compiler may put one into another, and calls need no table.
    extension.extra_compile_args += ["-fvisibility=hidden", "-fno-semantic-interposition", "-fno-plt"]
    # No debug symbols, and no name of the directory where it was built: what is built twice has the same bytes.
    extension.extra_compile_args = [*extension.extra_compile_args, "-g0", f"-ffile-prefix-map={os.getcwd()}=."]
    extension.extra_link_args = ["-s", "-Wl,--build-id=none"]
sys.argv = ["setup.py", "build_ext", "--inplace"]
setup(name="bbr-compiled", ext_modules=extensions, packages=[])
"""


class CustomBuildHook(BuildHookInterface):
    """Compiles what `compile` of the hook's table in pyproject.toml names: modules, and folders with theirs."""

    _scratch: "TemporaryDirectory[str] | None" = None

    @property
    def _wanted(self) -> bool:
        return self.target_name == "wheel" and os.environ.get(SWITCH) == "1"

    def dependencies(self) -> list[str]:
        """Return what a build needs besides hatchling: to compile is to check all types first."""
        if not self._wanted:
            return []
        return [*self.config["compile-dependencies"], *self.metadata.core.dependencies]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; an editable installation is never compiled."""
        if not self._wanted or version == "editable":
            return
        self._scratch = TemporaryDirectory()
        build = Path(self._scratch.name)
        compile_into(Path(self.root), build, self.config["compile"])
        for made in sorted(build.rglob("*.so")):
            place = made.relative_to(build)
            if place.parts[0] != "build":
                build_data["force_include"][str(made)] = str(place)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was built: it is in the wheel now."""
        if self._scratch is not None:
            self._scratch.cleanup()


class CustomMetadataHook(MetadataHookInterface):
    """Names the pages of the project: those of the repository whose workflow builds it."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the URLs; a build that is no workflow's has none, since the repository could be anybody's."""
        server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
        home = f"{server}/{repository}"
        pages = {
            "Homepage": home,
            "Documentation": f"{home}/blob/main/README.md",
            "Changelog": f"{home}/blob/main/CHANGELOG.md",
            "Issues": f"{home}/issues",
            "Source": home,
        }
        metadata["urls"] = pages if server and repository else {}


def compile_into(root: Path, build: Path, names: list[str]) -> None:
    """Compile modules of a source tree, and leave the extensions in another directory, beside a copy of the sources.

    Raises:
        subprocess.CalledProcessError: the types are wrong, or the compiler has failed; both tell it on standard error.
    """
    shutil.copytree(
        root / "bbr", build / "bbr", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.so")
    )
    shutil.copy(root / "pyproject.toml", build)
    subprocess.run([sys.executable, "-c", COMPILE, *modules(root, names)], cwd=build, check=True, stdout=sys.stderr)


def modules(root: Path, names: list[str]) -> list[str]:
    """Return the paths of the modules that are named, below the root. A package's __init__.py is none of them."""
    found = []
    for name in names:
        path = root / name
        found += sorted(path.glob("*.py")) if path.is_dir() else [path]
    return [str(path.relative_to(root)) for path in found if path.name != "__init__.py"]
