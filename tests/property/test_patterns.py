"""No regular expression of a room that reads what clients, peers and tenants send can go back over a text."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from re import _constants, _parser

import pytest

ROOMS = ("reading", "exchange", "models", "http2", "rpc", "transports", "telemetry", "tls", "admin", "sources")
ROOMS += ("commands.doctor",)  # reads what anybody has written into a gateway's configuration
FILES = ("yaml_tree", "text")
MANY = 70  # what may be repeated so often costs no more than a constant


def patterns() -> Iterator[tuple[str, "re.Pattern[str] | re.Pattern[bytes]"]]:
    """Give every compiled expression in a module of the rooms, wherever in a value it stands."""
    packages = (importlib.import_module(f"bbr.{room}") for room in ROOMS)
    found = [each.name for room in packages for each in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")]
    for module in (*found, *(f"bbr.{file}" for file in FILES)):
        for name, value in vars(importlib.import_module(module)).items():
            for each in inside(value, 3):
                yield f"{module}.{name}", each


def inside(value: object, depth: int) -> Iterator["re.Pattern[str] | re.Pattern[bytes]"]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(owner := getattr(value, "__self__", None), re.Pattern):
        yield owner
    elif depth and isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from inside(each, depth - 1)
    elif depth and isinstance(value, dict):
        yield from inside([*value.values()], depth)
    elif depth and hasattr(value, "func"):
        yield from inside(value.func, depth - 1)


def goes_back(parsed: object, *, last: bool = True) -> bool:
    """Tell whether a part of an expression repeats something without end, and may give some of that up again.

    A set of characters at the very end may: what it gives up, nothing else takes.
    """
    items = list(parsed)
    for index, (operator, argument) in enumerate(items):
        at_end = last and index == len(items) - 1
        if operator in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
            _, most, inner = argument
            if most > MANY and not (at_end and operator is _constants.MAX_REPEAT and is_one(inner)):
                return True
            if goes_back(inner, last=at_end and most == 1):
                return True
        elif operator is _constants.POSSESSIVE_REPEAT:
            if goes_back(argument[2], last=False):
                return True
        elif operator is _constants.SUBPATTERN:
            if goes_back(argument[3], last=at_end):
                return True
        elif operator is _constants.ATOMIC_GROUP:
            if goes_back(argument, last=False):
                return True
        elif operator is _constants.BRANCH:
            if any(goes_back(branch, last=at_end) for branch in argument[1]):
                return True
        elif operator in (_constants.ASSERT, _constants.ASSERT_NOT) and goes_back(argument[1]):
            return True
    return False


def is_one(parsed: object) -> bool:
    (operator, _), *others = parsed
    single = (_constants.IN, _constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY)
    return not others and operator in single


FOUND = dict(patterns())


def test_there_are_some() -> None:
    assert len(FOUND) > 30


@pytest.mark.parametrize("pattern", FOUND.values(), ids=FOUND)
def test_no_pattern_goes_back(pattern: "re.Pattern[str] | re.Pattern[bytes]") -> None:
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    assert not goes_back(_parser.parse(text, pattern.flags & ~re.UNICODE))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a*", False),
        ("[ab]+", False),
        ("x(?:-.*)?", False),
        ("a*b", True),
        ("(?:ab)*", True),
        ("(a+)+", True),
        ("a*?", True),
        ("a*+b", False),
        ("(?:a*)++", True),
        ("(?>a*b)", True),
        ("a{1,8}b", False),
        ("a{1,100}b", True),
        ("x|a*b", True),
        ("(?=a*b)", True),
    ],
)
def test_what_goes_back(text: str, expected: bool) -> None:
    assert goes_back(_parser.parse(text)) is expected
