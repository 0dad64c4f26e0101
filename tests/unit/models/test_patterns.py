import itertools

import pytest

from bbr.models.patterns import MAX_PATTERNS, Collected, Pattern, fault, is_pattern

FITTING = [
    ("claude-*", "claude-", True),
    ("claude-*", "claude-sonnet/4", True),
    ("claude-*", "claude", False),
    ("claude-*", "x-claude-", False),
    ("*-sonnet", "claude-sonnet", True),
    ("*-sonnet", "claude-sonnet-4", False),
    ("a*a", "aa", True),
    ("a*a", "a", False),
    ("ab*ba", "aba", False),
    ("*", "", True),
    ("*", "\u4e26/x", True),
    ("a.*", "ab", False),
    ("a*", "A", False),
]


@pytest.mark.parametrize(("text", "name", "fits"), FITTING)
def test_fits(text: str, name: str, fits: bool) -> None:
    assert Pattern(text).fits(name) is fits


SHARING = [
    ("a*", "*b", True),
    ("a*", "b*", False),
    ("*a", "*b", False),
    ("ab*", "a*c", True),
    ("a*c", "b*c", False),
    ("a*bc", "a*c", True),
    ("*", "x*y", True),
]


@pytest.mark.parametrize(("one", "other", "shares"), SHARING)
def test_shares_names(one: str, other: str, shares: bool) -> None:
    assert Pattern(one).shares_names_with(Pattern(other)) is shares
    assert Pattern(other).shares_names_with(Pattern(one)) is shares


def test_two_that_share_names_have_one_that_fits_both() -> None:
    patterns = [Pattern(f"{begin}*{end}") for begin, end in itertools.product(["", "a", "b", "ab"], repeat=2)]
    names = ["".join(letters) for length in range(7) for letters in itertools.product("ab", repeat=length)]
    for one, other in itertools.product(patterns, repeat=2):
        both = any(one.fits(name) and other.fits(name) for name in names)
        assert one.shares_names_with(other) is both, (one.text, other.text)


def test_what_is_a_pattern() -> None:
    assert is_pattern("a*")
    assert not is_pattern("a")
    assert fault("a") is None
    assert fault("a*b") is None
    assert fault("*a*") == "has more than one *, which stands for any characters"


def test_collected() -> None:
    collected = Collected()
    for text in ("a*", "abc*", "*xyz", "b*"):
        pattern = Pattern(text)
        assert collected.rival(pattern) is (None if text != "*xyz" else next(iter(collected)))
        if text != "*xyz":
            collected.add(pattern)
    assert [pattern.text for pattern in collected] == ["abc*", "a*", "b*"]
    assert not collected.full
    for number in range(MAX_PATTERNS - 3):
        collected.add(Pattern(f"{number:05}*"))
    assert collected.full
