"""Names that look like patterns but are literal, of which the operator is warned. Pure."""

import re
from collections.abc import Iterator
from typing import Final

from bbr.models.entries import Declaration
from bbr.models.patterns import STAR
from bbr.models.steps import Steps

# Of one object; a list of a thousand regular expressions is one mistake.
MAX_WARNINGS: Final = 20

_STEP_NAMES: Final = 500

# What stands in no name that a model is known to have, and has a meaning in regular expressions, globs or templates.
_ODD: Final = re.compile(r"\A(?:re|regexp?|glob):|\A~|[?\[\]|^$\\{}]|\.\*")


def warnings(declaration: Declaration) -> Steps[list[str]]:
    """Return a sentence for each name of a declaration that looks like a pattern and is none, MAX_WARNINGS at most."""
    found: list[str] = []
    for number, (name, what, may_star) in enumerate(_names(declaration), 1):
        if why := _why(name, may_star=may_star):
            found.append(f"{what} {name} ({declaration.origin}) {why}")
            if len(found) == MAX_WARNINGS:
                break
        if number % _STEP_NAMES == 0:
            yield
    return found


def _names(declaration: Declaration) -> Iterator[tuple[str, str, bool]]:
    for base_model, adapters in declaration.models:
        yield base_model, "the base model", False
        for adapter in adapters:
            yield adapter, "the adapter", True
    for name, model, weights in declaration.aliases:
        yield name, "the alias", True
        for target, _ in weights or ((model, 1),):
            yield target, f"the model of alias {name},", False


def _why(name: str, *, may_star: bool) -> str | None:
    if odd := _ODD.search(name):
        return f"is taken literally, {odd[0]!r} too: {STAR} alone stands for other characters, in adapters and aliases"
    if STAR in name and not may_star:
        return f"is taken literally, its {STAR} too: adapters and aliases alone can be patterns"
    return None
