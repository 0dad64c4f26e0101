"""Tells whether a regular expression of a gateway's configuration matches a name, in a bounded number of steps.

Pure. Envoy's engine, RE2, takes time in proportion to the text. Python's `re` can take for ever, and anybody who may
write an object of the cluster may have written the expression. So this module follows an expression at all places of
the name at once: each part turns a set of places into the places behind what it matches. It knows what expressions for
header names are made of, and evaluates no expression with anything else in it.
"""

import string
from collections.abc import Callable, Iterable
from typing import Final

# Longer ones are not evaluated.
MAX_CHARACTERS: Final = 1024
# Steps of one expression: each compares a part of it with all places of the name.
MAX_STEPS: Final = 20_000
# Groups within each other.
_MAX_DEPTH: Final = 32
# RE2 allows no more repetitions.
_MAX_REPEATED: Final = 1000

# A set of places in the text: a bit for each.
_Places = int
# Returns the places behind what it matches from these places on.
_Step = Callable[[_Places], _Places]

_DIGITS: Final = frozenset(string.digits)
_WORD: Final = _DIGITS | frozenset(string.ascii_letters) | {"_"}
_SPACE: Final = frozenset("\t\n\f\r ")
_CLASSES: Final = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_SPECIAL: Final = frozenset("()[]{}*+?|^$.\\")


class NotEvaluatedError(Exception):
    """An expression is too long, takes too many steps, or has something in it that this module does not know."""


def matches(expression: str, text: str) -> bool:
    """Tell whether an expression of RE2 matches a whole text.

    Raises:
        NotEvaluatedError: see there.
    """
    return _Reader(expression, text).matches()


class _Reader:
    """Reads an expression for one text. Each method reads a part and returns its step."""

    def __init__(self, expression: str, text: str) -> None:
        if len(expression) > MAX_CHARACTERS:
            raise NotEvaluatedError
        self._any_case = expression.startswith("(?i)")
        self._expression = expression.removeprefix("(?i)")
        self._text = text.lower() if self._any_case else text
        self._without_end = len(text) + 1  # each repetition that matters goes on by a place
        self._place = 0
        self._depth = 0
        self._steps = 0

    def matches(self) -> bool:
        step = self._alternatives()
        if self._place < len(self._expression):
            raise NotEvaluatedError
        return bool(step(1) >> len(self._text) & 1)

    def _alternatives(self) -> _Step:
        steps = [self._row()]
        while self._take("|"):
            steps.append(self._row())

        def any_of(places: _Places) -> _Places:
            self._count()
            found = 0
            for step in steps:
                found |= step(places)
            return found

        return any_of if len(steps) > 1 else steps[0]

    def _row(self) -> _Step:
        steps = []
        while self._place < len(self._expression) and self._expression[self._place] not in "|)":
            steps.append(self._repeated(self._atom()))

        def all_of(places: _Places) -> _Places:
            self._count()
            for step in steps:
                places = step(places)
            return places

        return all_of

    def _repeated(self, step: _Step) -> _Step:
        if self._take("*"):
            least, most = 0, self._without_end
        elif self._take("+"):
            least, most = 1, self._without_end
        elif self._take("?"):
            least, most = 0, 1
        elif self._take("{"):
            least, most = self._counts()
        else:
            return step
        self._take("?")  # whether it takes much or little decides nothing about the whole text
        if self._next() in tuple("*+?{"):
            raise NotEvaluatedError

        def repeated(places: _Places) -> _Places:
            for _ in range(least):
                before, places = places, step(places)
                if places == before:
                    break
            found = new = places
            for _ in range(most - least):
                new = step(new) & ~found
                if not new:
                    break
                found |= new
            return found

        return repeated

    def _counts(self) -> tuple[int, int]:
        """Read what stands behind a brace."""
        inside, brace, _ = self._expression[self._place :].partition("}")
        first, comma, last = inside.partition(",")
        numbers = [each for each in (first, last) if each]
        if not (brace and first) or any(len(each) > 4 or not set(each) <= _DIGITS for each in numbers):
            raise NotEvaluatedError
        self._place += len(inside) + 1
        least = int(first)
        most = int(last) if last else least + self._without_end if comma else least
        if least > most or max(map(int, numbers)) > _MAX_REPEATED:
            raise NotEvaluatedError
        return least, most

    def _atom(self) -> _Step:
        character = self._take_any()
        if character == "(":
            return self._group()
        if character == "[":
            negated = self._take("^")
            return self._one_of(self._class(), negated=negated)
        if character == "^":
            return self._at(1)
        if character == "$":
            return self._at(1 << len(self._text))
        if character == ".":
            return self._one(each != "\n" for each in self._text)
        if character == "\\":
            return self._one_of(self._escaped().__contains__)
        if character in _SPECIAL:
            raise NotEvaluatedError
        return self._one_of(character.__eq__)

    def _group(self) -> _Step:
        self._depth += 1
        if self._depth > _MAX_DEPTH or (self._take("?") and not self._take(":")):
            raise NotEvaluatedError
        step = self._alternatives()
        if not self._take(")"):
            raise NotEvaluatedError
        self._depth -= 1
        return step

    def _class(self) -> Callable[[str], bool]:
        """Read what stands behind a bracket; return what tells whether a character is in it."""
        singles: set[str] = set()
        ranges: list[tuple[str, str]] = []
        first = True
        while first or self._next() != "]":
            first = False
            character = self._take_any()
            if character == "[":  # may begin a class by name
                raise NotEvaluatedError
            found = self._escaped() if character == "\\" else frozenset(character)
            if self._next() != "-" or self._expression[self._place + 1 : self._place + 2] == "]":
                singles |= found
                continue
            self._place += 1
            last = self._take_any()
            if len(found) > 1 or last in ("\\", "["):
                raise NotEvaluatedError
            ranges.append((min(found), last))
        self._place += 1
        return lambda each: each in singles or any(low <= each <= high for low, high in ranges)

    def _escaped(self) -> frozenset[str]:
        character = self._take_any()
        if character in _CLASSES:
            return _CLASSES[character]
        if character in _WORD or not character.isascii():
            raise NotEvaluatedError
        return frozenset(character)

    def _one_of(self, fits: Callable[[str], bool], *, negated: bool = False) -> _Step:
        also = str.upper if self._any_case else str
        return self._one(negated != (fits(each) or fits(also(each))) for each in self._text)

    def _one(self, fits: Iterable[bool]) -> _Step:
        """Return a step over one character, of those places where it fits."""
        good = sum(1 << place for place, each in enumerate(fits) if each)

        def one(places: _Places) -> _Places:
            self._count()
            return (places & good) << 1

        return one

    def _at(self, place: _Places) -> _Step:
        return lambda places: places & place

    def _count(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise NotEvaluatedError

    def _next(self) -> str:
        return self._expression[self._place : self._place + 1]

    def _take(self, character: str) -> bool:
        found = self._next() == character
        self._place += found
        return found

    def _take_any(self) -> str:
        found = self._next()
        if not found:
            raise NotEvaluatedError
        self._place += 1
        return found
