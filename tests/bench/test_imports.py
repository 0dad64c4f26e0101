"""Who may import whom among benchmarks, their harness and the tests; and that texts name modules that exist."""

import re
from pathlib import Path

import pytest

from tests.structure import layers
from tests.support.imports import forbidden, imports

ROOT = Path(__file__).resolve().parents[2]
BENCH = sorted(path.relative_to(ROOT) for path in (ROOT / "bench").rglob("*.py"))
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))

# What each folder of bench may import of bench, beside itself.
FOLDERS: dict[str, set[str]] = {
    "harness": set(),
    "parts": {"harness"},
    "trials": {"harness"},
    "render": {"harness"},
    "published": {"harness", "parts", "trials"},
    "micro": {"harness", "published"},
}

TEXTS = (
    "*.md",
    "docs/**/*.md",
    "Makefile",
    ".ci/run",
    "bench/**/*.py",
    "bbr/**/*.py",
    "deploy/**/*.py",
)
MODULE = re.compile(r"(?:-m |\"-m\", \")(bench\.\w+\.\w+)|(?<![\w/])(bench(?:/\w+)+\.py)\b")


def of_bench(file: Path) -> set[str]:
    """Return the folders of bench that a file imports from."""
    return {name.split(".")[1] for name in imports((ROOT / file).read_text("utf-8")) if name.startswith("bench.")}


def test_every_file_of_bench_stands_in_a_folder():
    assert {file.parts[1] for file in BENCH} == FOLDERS.keys()
    assert {len(file.parts) for file in BENCH} == {3}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_what_it_may(folder):
    files = [file for file in BENCH if file.parts[1] == folder]
    assert files
    found = {str(file): wrong for file in files if (wrong := of_bench(file) - FOLDERS[folder] - {folder})}
    assert found == {}


def test_imports_of_folders_point_downwards():
    assert layers(FOLDERS)  # or it names a circle


def test_bench_and_deploy_import_nothing_of_tests():
    files = [*BENCH, *sorted(path.relative_to(ROOT) for path in (ROOT / "deploy").rglob("*.py"))]
    found = {str(file): wrong for file in files if (wrong := forbidden(imports((ROOT / file).read_text()), {"tests"}))}
    assert found == {}


def test_deploy_and_the_package_import_nothing_of_bench():
    files = [path for folder in ("bbr", "deploy") for path in (ROOT / folder).rglob("*.py")]
    assert [str(path) for path in files if forbidden(imports(path.read_text("utf-8")), {"bench"})] == []


def test_tests_import_the_harness_alone_but_for_those_of_bench():
    """A test in tests/bench/FOLDER may import what it tests, and so may what stands below that."""
    found = {}
    for file in TESTS:
        allowed = {"harness"}
        if file.parts[1] == "bench" and len(file.parts) == 4:
            allowed |= FOLDERS[file.parts[2]] | {file.parts[2]}
        if wrong := of_bench(file) - allowed:
            found[str(file)] = wrong
    assert found == {}


def test_tests_of_bench_mirror_its_modules():
    tested = [file for file in TESTS if file.parts[1] == "bench" and len(file.parts) == 4]
    assert tested
    modules = {Path("bench", file.parts[2], file.name.removeprefix("test_")) for file in tested}
    assert modules <= set(BENCH)


def named(text: str) -> set[str]:
    """Return the files of bench that a text names, by a command or by a path."""
    return {path or f"{module.replace('.', '/')}.py" for module, path in MODULE.findall(text)}


def test_texts_and_commands_name_files_that_exist():
    files = [path for pattern in TEXTS for path in ROOT.glob(pattern) if path != Path(__file__)]
    wrong = {
        str(path.relative_to(ROOT)): missing
        for path in files
        if (missing := named(path.read_text("utf-8")) - {str(file) for file in BENCH})
    }
    assert wrong == {}


def test_names_of_files_are_found_in_texts():
    text = "`python -m bench.micro.fields`, see bench/render/report.py and bench/results; a bench.py"
    assert named(text) == {"bench/micro/fields.py", "bench/render/report.py"}
