import json

import pytest

from bbr.commands.doctor import report
from bbr.commands.doctor.finding import finding
from bbr.commands.doctor.gateway import Gateway
from bbr.commands.doctor.node import Evidence
from tests.support.doctor import demo, saved

EVIDENCE = Evidence("config_dump", ".a.b", None, "SKIP")
ERROR = finding("headers-not-sent", "listener x", "Why.", [EVIDENCE], "a:\n  b: c")
REMARK = finding("no-catch-all", "listener x", "So.", [EVIDENCE], "d")
NOTHING = Gateway([], {})


def test_text():
    assert report.as_text(saved(demo(), server_info={"version": "x/1.40.0/y"}), [ERROR]) == (
        "Envoy 1.40.0: listener gateway calls cluster bbr by filter bbr.\n"
        "\n"
        "ERROR  headers-not-sent  (listener x)\n"
        "  Why.\n"
        "  found  config_dump .a.b = absent (SKIP)\n"
        "  fix    a:\n"
        "           b: c\n"
        "\n"
        "1 error.\n"
    )


def test_a_terminal_is_not_told_what_to_do():
    odd = ERROR._replace(where="\x1b[2J", evidence=(EVIDENCE._replace(value="a\nb\u202e"),))
    text = report.as_text(NOTHING, [odd])
    assert "(\\x1b[2J)" in text
    assert "= a\\nb\\u202e" in text
    assert all(each.isprintable() for each in text.splitlines())


def test_long_sentences_are_wrapped():
    text = report.as_text(NOTHING, [ERROR._replace(sentence="word " * 40)])
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize(
    ("findings", "count"),
    [([], "Nothing found."), ([ERROR, ERROR, REMARK], "2 errors, 1 remark."), ([REMARK, REMARK], "2 remarks.")],
)
def test_counts(findings, count):
    assert report.as_text(NOTHING, findings).endswith(f"\n{count}\n")


def test_text_without_a_router():
    assert report.as_text(NOTHING, []) == "no listener calls a router.\n\nNothing found.\n"


def test_json():
    told = json.loads(report.as_json(saved(demo()), [ERROR]))
    assert told["routers"] == [{"listener": "gateway", "filter": "bbr", "cluster": "bbr"}]
    assert told["envoy_version"] is None
    assert told["findings"] == [
        {
            "id": "headers-not-sent",
            "severity": "error",
            "where": "listener x",
            "sentence": "Why.",
            "evidence": [{"document": "config_dump", "path": ".a.b", "value": None, "note": "SKIP"}],
            "fix": "a:\n  b: c",
        }
    ]
