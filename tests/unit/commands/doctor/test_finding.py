import inspect
import re
from pathlib import Path

import pytest

import bbr.commands.doctor
from bbr.commands.doctor.finding import RULES, Severity, finding
from bbr.commands.doctor.node import Evidence


def test_a_finding_has_its_rules_severity():
    found = finding("route-cache-pinned", "listener x", "Why.", [Evidence("stats", "a", 1)], "a: b")
    assert (found.severity, found.evidence) == (Severity.ERROR, (Evidence("stats", "a", 1),))


def test_a_finding_without_a_rule_is_a_fault_of_ours():
    with pytest.raises(KeyError):
        finding("x", "", "", [], "")


def test_every_rule_can_be_found():
    folder = Path(inspect.getfile(bbr.commands.doctor)).parent
    source = "".join(path.read_text("utf-8") for path in folder.glob("checks_*.py"))
    assert [id_ for id_ in RULES if f'"{id_}"' not in source] == []


def test_ids_are_stable_names():
    assert [id_ for id_ in RULES if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+|overflow", id_)] == []
