"""The guides stay true: what they name is there."""

import json
import re
from pathlib import Path

import pytest
import yaml

from bbr.commands.doctor.finding import RULES
from bbr.config import settings as config
from bbr.headers import PRIORITY_HEADERS, STEERING_HEADERS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/reference").glob("*.md"))]
GUIDES = {file.relative_to(ROOT).as_posix(): file.read_text("utf-8") for file in PAGES}
# Guides that deploy something, and so name files of deploy/.
DEPLOYING = ("README.md", *(f"docs/{name}.md" for name in ("gke", "istio", "envoy-gateway", "kgateway", "kind")))
CHART = ROOT / "deploy/chart"
FOLDERS = "|".join(sorted(each.name for each in (ROOT / "deploy").iterdir() if each.is_dir() and each.name[0] != "_"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))


def properties(path):
    """Return the schema of a value by its path, or None."""
    schema = SCHEMA
    for key in path.split("."):
        while "$ref" in schema:
            schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
        found = schema.get("properties", {}).get(key) or schema.get("items", {}).get("properties", {}).get(key)
        schema = found if found is not None else schema.get("additionalProperties")
        if not isinstance(schema, dict):
            return None
    return schema


@pytest.mark.parametrize("guide", GUIDES)
def test_files_and_links_are_there(guide):
    text = GUIDES[guide]
    base = (ROOT / guide).parent
    files = {name.rstrip(".") for name in re.findall(rf"(?<![\w$/])deploy/(?:{FOLDERS})[\w./-]*", text)}
    assert files or guide not in DEPLOYING
    assert [name for name in files if not (ROOT / name).exists()] == []
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^):]+)\)", text.replace("\n", " "))} - {""}
    assert [link for link in links if not (base / link).exists()] == []


def test_manifests_that_are_applied_one_by_one_are_there():
    files = re.findall(r"\$M/([\w./-]+)", GUIDES["docs/gke.md"])
    assert len(set(files)) == 8
    assert [name for name in files if not (ROOT / "deploy/manifests" / name).exists()] == []


@pytest.mark.parametrize("guide", GUIDES)
def test_values_are_those_of_the_chart(guide):
    text = GUIDES[guide]
    if guide == "docs/reference/observing.md":  # what looks like values there are attributes of spans
        return
    named = set(re.findall(r"--set (?:(?:profile|values\.pilot\.[\w.]+)|([\w.]+))=", text)) - {""}
    named |= set(re.findall(r"`((?:bbr|provider|inferenceGateway|catchAll)(?:\.\w+)+)", text))
    assert [path for path in named if properties(path) is None] == []


def test_every_value_of_the_chart_is_in_its_schema():
    def paths(value, before=""):
        for key, inner in value.items():
            yield f"{before}{key}"
            if isinstance(inner, dict):
                yield from paths(inner, f"{before}{key}.")

    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    # Nothing below these has names of ours.
    free = re.compile(r"bbr\.(resources|dashboard\.labels)\.|epp\.(resources|securityContext)\.")
    assert [path for path in paths(values) if not free.match(path) and properties(path) is None] == []


def test_findings_are_those_of_the_doctor():
    tables = re.findall(r"^\| .* \| ([^|]*) \|$", GUIDES["docs/troubleshooting.md"], re.MULTILINE)
    named = {name for cell in tables for name in re.findall(r"`([a-z][a-z-]+)`", cell)}
    assert len(named) > 30
    assert named - RULES.keys() == {"picker-shared"}  # of make validate, which the cell says


def test_reasons_are_those_of_the_page_of_answers():
    reasons = set(re.findall(r"`(bbr:[a-z-]+)`", GUIDES["docs/troubleshooting.md"]))
    assert len(reasons) >= 6
    assert [reason for reason in reasons if f"`{reason}`" not in GUIDES["docs/reference/answers.md"]] == []


def test_the_page_of_security_lists_the_headers_that_the_router_removes():
    (table,) = re.findall(r"^\| headers \|.*\n(?:\|.*\n)+", GUIDES["docs/reference/security.md"], re.MULTILINE)
    listed = [name for row in table.splitlines() for name in re.findall(r"`([a-z_-]+)`", row.split("|")[1])]
    assert sorted(listed) == sorted([*STEERING_HEADERS, *PRIORITY_HEADERS])
    (count,) = re.findall(r"removes\s+(\d+)\s+of\s+them", GUIDES["docs/reference/security.md"])
    assert int(count) == len(listed)


def test_flags_in_the_chart_s_values_are_settings():
    flags = re.findall(r"`bbr\.flags\.([\w-]+)", GUIDES["docs/migrating.md"])
    assert flags == ["compat"]
    assert [flag for flag in flags if flag.replace("-", "_") not in config.OPTIONS] == []
