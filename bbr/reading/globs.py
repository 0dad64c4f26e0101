"""Patterns of paths as regular expressions that take time in proportion to the path, whatever stands in it.

Pure. `*` stands for any characters within a segment, `**` for any number of whole segments. A pattern of these never
needs to go back: the first place where what follows a star fits leaves the most room for the rest. So each star and
what follows it is an atomic group, and nothing in an expression is tried twice at one place.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from bbr.text import quoted

T = TypeVar("T")

_STAR: Final = "*"
_ANY_SEGMENTS: Final = "**"
_REST_OF_SEGMENT: Final = "[^/]*+"
_BOUNDARY: Final = r"(?=/|\Z)"
_ANYTHING: Final = "(?s:.*?)"  # a run begins with a slash, so the engine goes from one to the next


def segment(text: str) -> str:
    """Return an expression for one segment: literals with any number of `*` between them."""
    first, *others = text.split(_STAR)
    expression = re.escape(first)
    if not others:
        return expression
    *middle, last = others
    for literal in middle:
        if literal:
            expression += f"(?>[^/]*?{re.escape(literal)})"
    if not last:
        return expression + _REST_OF_SEGMENT
    # The last literal stands at the segment's end, and behind what the others have taken.
    return f"{expression}(?=[^/]{{{len(last)}}}){_REST_OF_SEGMENT}(?<={re.escape(last)})"


def path(segments: Sequence[str]) -> str:
    """Return an expression for a whole path of such segments, `**` among them, each with a slash before it."""
    runs: list[list[str]] = [[]]
    for text in segments:
        if text == _ANY_SEGMENTS:
            runs.append([])
        else:
            runs[-1].append("/" + segment(text))
    first, *others = ("".join(run) for run in runs)
    if not others:
        return first
    *middle, last = others
    expression = first + _BOUNDARY
    for run in middle:
        if run:
            expression += f"(?>{_ANYTHING}{run}{_BOUNDARY})"
    return expression + (f"(?>{_ANYTHING}{last}\\Z)" if last else "(?:/(?s:.*+))?+")


def read_each(texts: Sequence[str], read: Callable[[str], T]) -> tuple[T, ...]:
    """Return what is read of each text of a setting.

    Raises:
        ValueError: the message is to follow the setting's name and text, and names the text that breaks a rule. A text
            that is all of the setting is not named again.
    """
    found = []
    for text in texts:
        try:
            found.append(read(text))
        except ValueError as error:
            raise ValueError(f"{error}" if len(texts) == 1 else f"has {quoted(text)}, which {error}") from None
    return tuple(found)
