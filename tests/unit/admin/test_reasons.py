import re
from pathlib import Path

from bbr.admin.reasons import REASONS, UNKNOWN, reason
from bbr.exchange.phases import Act
from tests.unit.test_refusal import EXAMPLES

ROOT = Path(__file__).resolve().parents[3]


def test_every_refusal_has_a_sentence():
    assert {each.reason for each in EXAMPLES} - REASONS.keys() == set()


def test_every_fault_has_a_sentence():
    faults = {Act.HEADERS_TWICE, Act.BODY_TWICE, Act.TRAILERS_EARLY, Act.UNKNOWN}
    source = (ROOT / "bbr/exchange/exchange.py").read_text("utf-8")
    faults |= set(re.findall(r'_fault\(StatusCode\.\w+, "([a-z-]+)"', source))
    assert len(faults) >= 6
    assert faults - REASONS.keys() == set()


def test_reasons_are_those_of_the_page_of_answers():
    answers = set(re.findall(r"`bbr:([a-z-]+)`", (ROOT / "docs/reference/answers.md").read_text("utf-8")))
    assert answers - REASONS.keys() == {"models-list"}  # an answer, no reason of a rejection
    refused = {each.reason for each in EXAMPLES}
    assert refused - answers == set()


def test_sentences_are_short_and_end():
    for each in (*REASONS.values(), UNKNOWN):
        for text in each:
            assert text.endswith("."), text
            assert len(text) < 200


def test_an_unknown_one():
    assert reason("invalid-json") is REASONS["invalid-json"]
    assert reason("new") is UNKNOWN
