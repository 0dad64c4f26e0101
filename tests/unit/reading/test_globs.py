import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbr.reading import globs

SEGMENTS = ("*", "a", "ab", "*a", "a*", "a*b", "ab*ba", "*a*", "*ab*b", "a**b")


def by_trying(pattern: list[str], path: list[str]) -> bool:
    """Tell whether a path fits, trying all ways."""
    if not pattern:
        return not path
    first, *rest = pattern
    if first == "**":
        return any(by_trying(rest, path[start:]) for start in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], first) and by_trying(rest, path[1:])


@given(
    st.lists(st.sampled_from(("**", *SEGMENTS)), max_size=5),
    st.lists(st.text("ab", max_size=5), min_size=1, max_size=6),
)
def test_a_path_fits_if_there_is_a_way(pattern: list[str], path: list[str]) -> None:
    text = "".join(f"/{segment}" for segment in path)
    assert (re.fullmatch(globs.path(pattern), text) is not None) == by_trying(pattern, path)


@given(st.sampled_from(SEGMENTS), st.text("ab", max_size=8))
def test_a_segment_fits_if_there_is_a_way(pattern: str, segment: str) -> None:
    assert (re.fullmatch(globs.segment(pattern), segment) is not None) == fnmatch.fnmatchcase(segment, pattern)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ([], "", True),
        (["**"], "", True),
        (["**"], "a", False),
        (["**", "**", "a", "**", "**"], "/b/a/b", True),
        (["**", "**", "**"], "/b/a", True),
        (["**", "a", "**", "b", "**"], "/a/x/b", True),
        (["**", "a", "**", "b", "**"], "/b/a", False),
        (["a", "**"], "/a", True),
        (["a", "**"], "/ab", False),
        (["a.b"], "/axb", False),
        (["a", "**", "*"], "/ab", False),
        (["*"], "/a/", False),
    ],
)
def test_edges(pattern: list[str], path: str, expected: bool) -> None:
    assert (re.fullmatch(globs.path(pattern), path) is not None) is expected


def test_of_several_texts_the_one_is_named_that_breaks_a_rule() -> None:
    assert globs.read_each(["1", "2"], int) == (1, 2)
    assert globs.read_each([], int) == ()
    with pytest.raises(ValueError, match=r"^invalid literal"):
        globs.read_each(["x"], int)
    with pytest.raises(ValueError, match=r"^has 'x', which invalid literal"):
        globs.read_each(["1", "x"], int)
    with pytest.raises(ValueError, match=r"^has 'x{256}\.\.\.', which invalid literal"):
        globs.read_each(["1", "x" * 300], int)
