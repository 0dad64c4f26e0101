"""What a release is made of: one version, a changelog's section, builds that are compared, workflows that parse."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from bbr import __version__
from deploy.environment import KINDS
from deploy.release import check
from deploy.release import version as versions
from hatch_build import CustomMetadataHook

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.fixture
def tree(tmp_path):
    """Return a tree with a version, a chart and a changelog."""
    (tmp_path / "bbr").mkdir()
    (tmp_path / "deploy/chart").mkdir(parents=True)
    (tmp_path / "bbr/__init__.py").write_text('"""x"""\n\n__version__ = "1.2.3"\n')
    (tmp_path / "deploy/chart/Chart.yaml").write_text('name: bbr\nversion: 1.2.3\nappVersion: "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## Unreleased\n\n## 1.2.3 (2026-12-01)\n\n### A\n\n- one\n\n## 1.2.2\n\n- old\n"
    )
    return tmp_path


def test_code_and_chart_have_one_version():
    assert versions.version() == __version__


def test_the_version_of_a_tree(tree):
    assert versions.version(tree) == "1.2.3"
    chart = tree / "deploy/chart/Chart.yaml"
    chart.write_text("version: 1.2.3\nappVersion: 1.2.4\n")
    with pytest.raises(versions.VersionError, match=r"appVersion is 1\.2\.4, and bbr is 1\.2\.3"):
        versions.version(tree)
    (tree / "bbr/__init__.py").write_text("")
    with pytest.raises(versions.VersionError, match="has no __version__"):
        versions.version(tree)


def test_the_notes_of_a_release(tree):
    assert versions.notes("1.2.3", tree) == "### A\n\n- one\n"
    assert versions.notes("1.2.2", tree) == "- old\n"
    for name in ("Unreleased", "1.2"):
        with pytest.raises(versions.VersionError, match=f'nothing under "## {name}"'):
            versions.notes(name, tree)


def test_a_tag_has_to_be_the_version(capsys):
    assert versions.main([]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"
    assert versions.main(["--tag", "v99.0.0"]) == 1
    assert capsys.readouterr().err == f"the tag is v99.0.0, and bbr is {__version__}.\n"


def test_builds_that_differ_are_told():
    check.compare({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    with pytest.raises(check.ReleaseError, match=r"these differ: b, c"):
        check.compare({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})


def test_a_command_that_fails_is_told_with_its_output():
    with pytest.raises(check.ReleaseError, match=r"has ended with 3:\nout"):
        check.run(["sh", "-c", "echo out; exit 3"])


def test_a_bill_without_the_router_is_told(monkeypatch, tmp_path):
    out = tmp_path / "sbom.json"
    out.write_text(json.dumps({"components": [{"name": "grpcio"}, {"name": "uvloop"}, {"name": "cryptography"}]}))
    monkeypatch.setattr(check, "run", lambda *_words, **_more: "")
    with pytest.raises(check.ReleaseError, match="lacks body-based-router"):
        check.bill_of_materials(Path("python"), out)


def test_the_pages_of_the_project_are_those_of_the_repository_that_builds(monkeypatch):
    hook = CustomMetadataHook(str(ROOT), {})
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    hook.update(found := {})
    assert found == {"urls": {}}
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "a/b")
    hook.update(found)
    assert found["urls"]["Source"] == "https://github.example/a/b"
    assert {"Homepage", "Documentation", "Changelog", "Issues"} < found["urls"].keys()


def test_the_short_tests_exist_and_are_in_the_sdist():
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]
    for each in (*check.SHORT_TESTS, *(kind.lock for kind in KINDS.values() if kind.name != "release")):
        assert (ROOT / each).exists()
        assert f"/{each.split('/')[0]}" in include["include"]


def test_actionlint_has_nothing_to_say():
    if shutil.which("actionlint") is None:
        pytest.skip("actionlint is not installed (go install github.com/rhysd/actionlint/cmd/actionlint@latest)")
    done = subprocess.run(["actionlint", *WORKFLOWS], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout + done.stderr == ""


def steps_of(path):
    jobs = yaml.safe_load(path.read_text())["jobs"]
    return [(name, step) for name, job in jobs.items() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_shell_of_a_workflow_parses_and_its_commands_exist(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for _, step in steps_of(path):
        script = step.get("run", "")
        done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True, timeout=300, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        # What an outsider can choose, as a branch's name, is never part of a script's text.
        assert "${{" not in script or not re.search(r"\$\{\{\s*github\.(event|head_ref|ref_name)", script)
        for target in re.findall(r"\bmake (?:[A-Z_]+=\S+ )*([a-z-]+)", script):
            assert target in targets
        for module in re.findall(r"python -m (deploy[\w.]+)", script):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_unless_a_job_needs_more(path):
    document = yaml.safe_load(path.read_text())
    assert document["permissions"] == {"contents": "read"}
    for job in document["jobs"].values():
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
            if "uses" in step:
                assert "@" in step["uses"]


def test_the_workflow_tries_each_python_that_the_classifiers_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"])))
    (test,) = [path for path in WORKFLOWS if path.name == "test.yml"]
    tried = set(yaml.safe_load(test.read_text())["jobs"]["pythons"]["strategy"]["matrix"]["python"])
    assert named <= tried
    assert "3.14" in tried


def test_what_contributors_read_names_what_is_there():
    for name in ("CONTRIBUTING.md", "SECURITY.md"):
        text = (ROOT / name).read_text()
        for link in re.findall(r"\]\(([^):]+)\)", text):
            assert (ROOT / link).exists()
    json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    for path in [*(ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"), ROOT / ".pre-commit-config.yaml"]:
        assert yaml.safe_load(path.read_text())
