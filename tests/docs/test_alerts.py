"""The page of alerts: each rule and each panel of the dashboard links to a section that says what the rule says."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = "docs/reference/alerts.md"
TEXT = (ROOT / PAGE).read_text("utf-8")
RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "deploy/dashboards/alerts.yaml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
}
# Name of an alert -> its section's text.
SECTIONS = dict(re.findall(r"^### (Bbr\w+)\n\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE))
DASHBOARD = (ROOT / "deploy/dashboards/bbr.json").read_text("utf-8")
METRICS = set(re.findall(r"\b(?:bbr|process)_[a-z_]+", DASHBOARD + (ROOT / "docs/reference/observing.md").read_text()))


def test_each_rule_has_a_section_and_each_section_a_rule():
    assert sorted(SECTIONS) == sorted(RULES)
    assert len(re.findall(r"^### ", TEXT, re.MULTILINE)) == len(SECTIONS)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_names_its_section(name):
    # GitHub and the documentation's site make the anchor of a heading of one word by writing it in lower case.
    assert RULES[name]["annotations"]["runbook_url"] == f"{PAGE}#{name.lower()}"


@pytest.mark.parametrize("name", RULES)
def test_a_section_begins_with_the_severity_and_the_time_of_its_rule(name):
    rule = RULES[name]
    minutes = int(rule["for"].removesuffix("m")) if "for" in rule else 0
    after = f"after {minutes} minutes" if minutes else "at once"
    assert SECTIONS[name].startswith(f"{rule['labels']['severity']}, {after}. ")


@pytest.mark.parametrize("name", RULES)
def test_a_section_says_where_to_look_or_leads_to_one_that_does(name):
    text = SECTIONS[name]
    same = re.search(r"Do the same as\s+for \[(\w+)\]", text)
    assert "**Look at**" in (SECTIONS[same[1]] if same else text)


@pytest.mark.parametrize("name", RULES)
def test_a_section_has_the_limit_of_its_rule(name):
    shares = re.findall(r"> (0\.\d+)$", RULES[name]["expr"].strip())
    for share in shares:
        value = float(share)
        said = f"{value:.0%}" if value >= 0.05 else f"{value * 1000:g} ms"
        assert said in SECTIONS[name]


def test_the_page_names_only_metrics_that_are_shown_elsewhere():
    assert set(re.findall(r"\b(?:bbr|process)_[a-z_]+", TEXT)) - METRICS == set()


def test_the_dashboard_leads_to_the_section_of_each_alert():
    anchors = set(re.findall(rf"{re.escape(PAGE)}#(\w+)", DASHBOARD))
    assert anchors == {name.lower() for name in RULES}
    assert DASHBOARD.count(PAGE) == len(re.findall(rf"{re.escape(PAGE)}#\w", DASHBOARD))
