"""README and the pages of reference stay true: what they say of flags, refusals and findings is in the code."""

import inspect
import re
from pathlib import Path

import yaml

from bbr import refusal
from bbr.commands.doctor.finding import RULES
from bbr.config import go_flags as dropin
from bbr.config import settings as config
from bbr.reading import json_body
from docs.reference import build
from tests.conformance.go import differences, replay

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
MAX_LINES = 150


def reference(page: str) -> str:
    """Return a page of reference."""
    return (ROOT / "docs/reference" / f"{page}.md").read_text("utf-8")


def test_the_readme_can_be_read_in_a_minute_and_starts_with_what_the_router_is() -> None:
    assert README.count("\n") <= MAX_LINES
    assert "`make demo`" in README or "\nmake demo\n" in README
    assert "`make test`" in README
    before_the_picture = README.partition("![")[0]
    assert before_the_picture.count(". ") + before_the_picture.count(".\n") == 3
    # A stranger does not know these words yet.
    assert "ext_proc" not in before_the_picture


def test_the_readme_says_how_many_packages_the_demo_installs() -> None:
    locked = (ROOT / "requirements-demo.lock").read_text("utf-8").splitlines()
    assert f"installs {sum('==' in line for line in locked)} packages" in README


def test_the_third_model_is_one_entry_more() -> None:
    (values,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    third = re.search(r"```yaml\n(  - name: gemma\n.*?)```", reference("running"), re.DOTALL)
    assert third is not None
    models = yaml.safe_load(values + third[1])["models"]
    assert [model["name"] for model in models] == ["qwen", "phi", "gemma"]


def test_the_page_of_options_is_generated() -> None:
    assert reference("flags") == build.page()


def test_the_page_of_options_is_checked_and_written(tmp_path, monkeypatch, capsys) -> None:
    file = tmp_path / "flags.md"
    file.write_text("old")
    monkeypatch.setattr(build, "FILE", file)
    assert build.main(["--check"]) == 1
    assert "run `make reference`" in capsys.readouterr().err
    assert build.main([]) == 0
    assert build.main(["--check"]) == 0
    for name in config.OPTIONS:
        assert file.read_text("utf-8").count(f"</a>`{config.flag_of(name)}` |") == 1


def test_every_refusal_is_listed() -> None:
    source = inspect.getsource(refusal) + inspect.getsource(json_body)
    reasons = re.findall(r'(?:return Refusal\(\d+, |invalid_json\()"([a-z0-9-]+)"', source)
    assert len(reasons) >= 19
    assert [reason for reason in reasons if f"`bbr:{reason}`" not in reference("answers")] == []


def test_every_finding_of_the_doctor_is_listed() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (error|warning|info) \| (.*) \|$", reference("doctor"), re.MULTILINE)
    assert rows == [(id_, str(rule.severity), rule.about) for id_, rule in RULES.items()]


def test_the_go_routers_flags_are_what_is_made_of_them() -> None:
    rows = dict(re.findall(r"^\| `--([a-z-]+)` \| (.*) \|$", reference("go-router"), re.MULTILINE))
    idle = dropin.IDLE_SWITCHES | dropin.IDLE_VALUES
    assert {name: said for name, said in rows.items() if name in idle} == idle
    values = {dropin.PLUGIN: "base-model-to-header:b", dropin.CONFIG_FILE: "", dropin.CONFIG_TEXT: ""}
    headers = {"model_header", "base_model_header"}
    meant = {dropin.PLUGIN: headers, dropin.STREAMING: {"assume_body_mode"}}
    meant |= dict.fromkeys((dropin.CONFIG_FILE, dropin.CONFIG_TEXT), headers | {"assume_body_mode"})
    for name, said in rows.items():
        line = dropin.read(["serve", f"--{name}={values.get(name, 1)}"], {})
        told = {note.text for note in line.notes}
        if name in idle:
            assert (line.arguments, told) == (["serve"], {f"--{name}: {said}"})
        elif name in meant:
            assert (line.arguments, line.settings.keys()) == (["serve"], meant[name])
            assert line.settings.get("assume_body_mode", "full-duplex") == "full-duplex"
        elif name == dropin.VERBOSITY:
            assert dropin.read(["serve", "--v=5"], {}).settings == {"log_level": "debug", "access_log": "all"}
        else:
            assert line.arguments == ["serve", f"--{name}=1"]
            assert name.replace("-", "_") in config.OPTIONS
    # --kubeconfig is controller-runtime's own, which versions up to v1.3 took.
    assert rows.keys() == {"kubeconfig"}.union(*replay.their_flags().values())


def test_the_differences_from_the_go_routers_are_those_of_the_test() -> None:
    assert differences.page() == differences.PAGE.read_text("utf-8")


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    links = {
        (page.parent / (link.partition("#")[0] or page.name), link.partition("#")[2])
        for page in pages
        for link in re.findall(r"\]\(([^):]+)\)", page.read_text("utf-8").replace("\n", " "))
    }
    assert len(links) > 60
    assert [str(page) for page, _ in links if not page.exists()] == []
    known = {page.resolve(): anchors(page.read_text("utf-8")) for page, anchor in links if anchor}
    assert [f"{page}#{anchor}" for page, anchor in links if anchor and anchor not in known[page.resolve()]] == []


def test_pages_that_programs_name_are_there() -> None:
    sources = [ROOT / "deploy/dashboards/alerts.yaml", ROOT / "deploy/chart/templates/NOTES.txt"]
    sources += (ROOT / "bbr").rglob("*.py")
    named = {name for path in sources for name in re.findall(r"docs/[a-z/-]+\.md", path.read_text("utf-8"))}
    assert {"docs/troubleshooting.md", "docs/reference/answers.md", "docs/reference/envoy.md"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []


def anchors(text: str) -> set[str]:
    """Return the anchors of a page: those that GitHub gives its headings, and its own."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))
