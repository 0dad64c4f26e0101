import random
import re
import sys

import pytest

from bbr.commands.doctor import expressions
from bbr.commands.doctor.expressions import MAX_CHARACTERS, NotEvaluatedError, matches

NAME = "x-gateway-base-model-name"


@pytest.mark.parametrize(
    ("expression", "text", "expected"),
    [
        ("x-gateway-.*", NAME, True),
        ("x-gateway", NAME, False),
        ("", "", True),
        ("", "a", False),
        ("a|b|", "b", True),
        ("a|b|", "", True),
        ("a|b|", "c", False),
        ("(?:ab|c)+", "abcab", True),
        ("(ab|c)+", "aba", False),
        ("a{2}", "aaa", False),
        ("a{2,}", "aaa", True),
        ("a{2,3}?", "aaaa", False),
        ("(a*)*b", "aab", True),
        ("(a?){3}", "a", True),
        ("^a$", "a", True),
        ("a^", "a", False),
        ("(?i)X-[A-C]\\w", "x-bD", True),
        ("(?i)[^A]", "a", False),
        ("[^a]", "a", False),
        ("[]a]+", "]a", True),
        ("[a-]+", "-a", True),
        ("[a-c\\d]+", "b7", True),
        ("\\.\\-\\w\\s", ".-_ ", True),
        (".", "\n", False),
    ],
)
def test_what_matches(expression, text, expected):
    assert matches(expression, text) is expected


@pytest.mark.parametrize(
    "expression",
    [
        *("(", ")", "a)", "[", "[a", "[[:alpha:]]", "[\\w-z]", "[a-\\w]", "[a-[b]", "*", "a**", "a{2}{2}", "]", "\\"),
        *("a{", "a{}", "a{,2}", "a{2,1}", "a{1001}", "a{99999}", "a{x}", "(?=a)", "(?m)a", "\\C", "\\1", "\\p", "\\é"),
        "a" * (MAX_CHARACTERS + 1),
        "(" * 40 + ")" * 40,
    ],
)
def test_what_is_not_known_or_too_long_is_not_evaluated(expression):
    with pytest.raises(NotEvaluatedError):
        matches(expression, NAME)


ATOMS = ["a", "b", "-", ".", "|", "(", ")", "(?:", "*", "+", "?", "{1,2}", "{2}", "{2,}", "[ab]", "[^a]", "[a-c-]"]
ATOMS += ["\\w", "\\.", "^", "$", "A", "[A-B]"]


def test_it_finds_what_pythons_engine_finds():
    chance = random.Random(17)
    compared = 0
    while compared < 3000:
        expression = chance.choice(["", "", "(?i)"]) + "".join(chance.choices(ATOMS, k=chance.randint(1, 8)))
        text = "".join(chance.choices("aabBA-.c", k=chance.randint(0, 7)))
        try:
            expected = re.fullmatch(expression, text) is not None
            assert matches(expression, text) is expected, (expression, text)
            compared += 1
        except (re.error, NotEvaluatedError):
            continue


@pytest.mark.parametrize(
    "expression",
    ["(a*)*b", "(a|a)*b", "(a|aa)+b", "(a|a)" * 200 + "b", "(" * 30 + "a" + ")*" * 30 + "b", "((a{1000}){1000})*b"],
)
def test_what_takes_pythons_engine_for_ever_takes_a_bounded_number_of_lines(expression, monkeypatch):
    assert lines(expression) < 40 * expressions.MAX_STEPS
    monkeypatch.setattr(expressions, "MAX_STEPS", 2)
    with pytest.raises(NotEvaluatedError):
        matches(expression, "a" * 40)


def lines(expression):
    count = 0

    def trace(_frame, event, _argument):
        nonlocal count
        count += event == "line"
        assert count < 100 * expressions.MAX_STEPS, "it would go on"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        matches(expression, "a" * 40)
    except NotEvaluatedError:
        pass
    finally:
        sys.settrace(before)
    return count
