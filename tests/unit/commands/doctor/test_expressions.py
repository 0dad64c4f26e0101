import pytest

from bbr.commands.doctor import expressions
from bbr.commands.doctor.expressions import MAX_CHARACTERS, NotEvaluatedError, matches

NAME = "x-gateway-base-model-name"


@pytest.mark.parametrize(
    ("expression", "text", "expected"),
    [
        ("x-gateway-.*", NAME, True),
        ("x-gateway", NAME, False),
        ("gateway-.*", NAME, False),
        ("", "", True),
        ("", "a", False),
        ("X-GATEWAY-.*", NAME, False),
        ("(?i)X-GATEWAY-.*", NAME, True),
        ("a|ab", "ab", True),  # the whole text, whichever alternative comes first
        ("[[:alpha:]-]+", NAME, True),  # not Python's
        (r"\pL+", "name", True),
    ],
)
def test_what_matches(expression, text, expected):
    assert matches(expression, text) is expected


@pytest.mark.parametrize("expression", ["(a|a)*b", "(a*)*b", "(a|aa)+b", "(.*)*(.*)*(.*)*b"])
def test_what_takes_pythons_engine_for_ever_is_evaluated(expression):
    assert not matches(expression, "a" * 1000)


@pytest.mark.parametrize(
    "expression",
    [
        *("(", "a)", "[a", "a**{", "a{1001}", "((a{100}){100}){100}", "(?=a)", r"\1"),
        r"(\pL{100}){10}",  # 1 MiB is not enough
        "a" * (MAX_CHARACTERS + 1),
    ],
)
def test_what_re2_rejects_and_what_is_too_large_is_not_evaluated(expression, capfd):
    with pytest.raises(NotEvaluatedError):
        matches(expression, NAME)
    assert capfd.readouterr() == ("", "")  # RE2 writes no log of its own


def test_without_re2_nothing_is_evaluated(monkeypatch):
    monkeypatch.setattr(expressions, "re2", None)
    with pytest.raises(NotEvaluatedError):
        matches("a", "a")
