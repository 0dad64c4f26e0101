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
from deploy.release import check, prepare
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
    (tmp_path / "docs/reference").mkdir(parents=True)
    (tmp_path / "README.md").write_text("docker push x/bbr:1.2.3\n")
    (tmp_path / "docs/reference/a.md").write_text("prints `bbr 1.2.3 (x)`; measured with bbr 1.2.3, compiled; v1.2.3\n")
    (tmp_path / "docs/b.md").write_text("The package is not on PyPI yet.\n")
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


def test_a_tag_without_its_notes_is_told_how_to_get_them(tree):
    with pytest.raises(versions.VersionError, match=r"`make release-prepare VERSION=2\.0\.0` makes this section"):
        versions.notes("2.0.0", tree)


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


def unreleased(tree, *lines):
    file = tree / "CHANGELOG.md"
    file.write_text(file.read_text().replace("## Unreleased\n", "\n".join(["## Unreleased", "", *lines, ""])))


def test_a_release_is_prepared_from_unreleased_to_a_tag(tree):
    unreleased(tree, "- new")
    changed = prepare.prepare("1.3.0", "2026-12-24", tree)
    assert set(changed) == {
        "bbr/__init__.py",
        "deploy/chart/Chart.yaml",
        "CHANGELOG.md",
        "README.md",
        "docs/reference/a.md",
    }
    assert versions.version(tree) == "1.3.0"
    assert versions.notes("1.3.0", tree) == "- new\n"
    assert versions.notes("1.2.3", tree) == "### A\n\n- one\n"
    assert "# Changelog\n\n## Unreleased\n\n## 1.3.0 (2026-12-24)\n\n- new\n" in (tree / "CHANGELOG.md").read_text()
    assert (tree / "README.md").read_text() == "docker push x/bbr:1.3.0\n"
    text = "prints `bbr 1.3.0 (x)`; measured with bbr 1.2.3, compiled; v1.2.3\n"
    assert (tree / "docs/reference/a.md").read_text() == text
    # What comes next goes under "Unreleased" again, and the next release takes that alone.
    unreleased(tree, "- later")
    prepare.prepare("1.3.1", "2026-12-31", tree)
    assert versions.notes("1.3.1", tree) == "- later\n"


@pytest.mark.parametrize(
    ("name", "lines", "why"),
    [
        ("1.2", ["- new"], "'1.2' is not a version such as 1.2.3"),
        ("1.3.0-rc1", ["- new"], "'1.3.0-rc1' is not a version"),
        ("v1.3.0", ["- new"], "'v1.3.0' is not a version"),
        ("", ["- new"], "'' is not a version"),
        ("1.2.2", ["- new"], "bbr is 1.2.3 already, which is later than 1.2.2"),
        ("1.2.3", ["- new"], 'has a section "## 1.2.3" already'),
        ("1.3.0", [], 'nothing under "## Unreleased"'),
    ],
)
def test_a_release_that_cannot_be_changes_nothing(tree, name, lines, why):
    unreleased(tree, *lines)
    before = contents(tree)
    with pytest.raises(versions.VersionError, match=re.escape(why)):
        prepare.prepare(name, "2026-12-24", tree)
    assert contents(tree) == before


def test_sentences_that_a_release_makes_wrong_are_listed(tree):
    assert list(prepare.not_yet(tree)) == ["docs/b.md:1: not on PyPI yet"]


def test_the_project_can_be_prepared(tmp_path, monkeypatch, capsys):
    """The present tree, as far as the version is written in it: code, chart and texts, but not what is rendered."""
    for path in [
        ROOT / "bbr/__init__.py",
        ROOT / "deploy/chart/Chart.yaml",
        ROOT / "CHANGELOG.md",
        *prepare.pages(ROOT),
    ]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    name = "99.0.0"
    changed = prepare.prepare(name, "2026-12-24", tmp_path)
    assert "docs/gke.md" in changed
    assert versions.version(tmp_path) == name
    assert check.changelog(name, tmp_path) == f'CHANGELOG.md has "{name}"'
    assert "Nothing has been released" not in (tmp_path / "CHANGELOG.md").read_text()
    # The images that the guides build are the chart's own: their tags are its version.
    tags = [tag for page in prepare.pages(tmp_path) for tag in re.findall(r"\bbbr:(\d[\w.-]*)", page.read_text())]
    assert set(tags) == {name}
    assert len(tags) >= 6
    monkeypatch.setattr(prepare, "prepare", lambda *_: ["a", "b"])
    assert prepare.main([name, "--date", "2026-12-24"]) == 0
    assert capsys.readouterr().out.startswith(f"Wrote {name} into a, b.\n")


def test_a_release_that_cannot_be_is_one_sentence(capsys):
    assert prepare.main(["0.0.0"]) == 1
    assert capsys.readouterr().err == (
        f"The release cannot be prepared: bbr is {__version__} already, which is later than 0.0.0.\n"
    )


def test_a_check_before_the_changelog_has_its_section_says_what_comes_next(tree):
    assert check.changelog("1.2.3", tree) == 'CHANGELOG.md has "1.2.3"'
    with pytest.raises(versions.VersionError, match=r'nothing under "## Unreleased"'):
        check.changelog("1.3.0", tree)
    unreleased(tree, "- new")
    assert "`make release-prepare VERSION=1.3.0` comes before the tag" in check.changelog("1.3.0", tree)


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
    with pytest.raises(check.ReleaseError, match=r"ended with status 3:\nout"):
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
    assert named == tried
    assert "3.14" in tried


# Nobody has compiled bbr there. pip installs the wheel of Python alone.
NOT_COMPILED = {"14"}


def test_compiled_wheels_are_for_the_pythons_that_the_classifiers_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = re.findall(r"Python :: 3\.(\d+)", " ".join(project["classifiers"]))
    assert set(found) > NOT_COMPILED
    named = [minor for minor in found if minor not in NOT_COMPILED]
    assert (
        f'CIBW_BUILD: "{" ".join(f"cp3{minor}-*" for minor in named)}"'
        in (ROOT / ".github/workflows/release.yml").read_text()
    )


def test_what_contributors_read_names_what_is_there():
    for name in ("CONTRIBUTING.md", "SECURITY.md"):
        text = (ROOT / name).read_text()
        for link in re.findall(r"\]\(([^):]+)\)", text):
            assert (ROOT / link).exists()
    json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    for path in [*(ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"), ROOT / ".pre-commit-config.yaml"]:
        assert yaml.safe_load(path.read_text())
