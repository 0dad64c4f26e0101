"""Who may use which model, as model files and ConfigMaps write it: a mapping of names to lists of askers.

sql-lora: [team-a, team-b]    an adapter, for two teams
gpt-4o: ["*"]                 an alias, for everyone whom the gateway knows
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from bbr.models.entries import Grant
from bbr.sources.mappings import named
from bbr.sources.objects import SourceError
from bbr.yaml_tree import Node, Scalar, Sequence

# Of one list, and of one name: what a request is compared with.
MAX_ASKERS: Final = 1_000
MAX_ASKER_CHARACTERS: Final = 256

# A header separates names by commas.
_ASKER: Final = re.compile(rf"[^\x00-\x1f\x7f,]{{1,{MAX_ASKER_CHARACTERS}}}")


class Placed(NamedTuple):
    """A list, and the line where it stands."""

    line: int
    grant: Grant


def read(node: Node, name_of: Callable[[Node, str], str]) -> Iterator[Placed]:
    """Give the lists of a mapping, in their order.

    Args:
        node: the mapping.
        name_of: returns the name of a model that a node is; the text says what it is, for its error.

    Raises:
        SourceError: a rule is broken; the message names the line and the rule.
    """
    of_what = "models to lists of who may use them"
    for line, name, value in named(node, "allow", of_what, lambda key: name_of(key, "the model")):
        yield Placed(line, Grant(name, askers(value, name)))


def askers(node: Node, model: str) -> frozenset[str]:
    """Return the names of a list of those who may use a model.

    Raises:
        SourceError: it is no list, or holds what is no name.
    """
    what = f"who may use {model}"
    if not isinstance(node, Sequence):
        raise SourceError(f"line {node.line}: {what} must be a list of names ([] for nobody)")
    if len(node.items) > MAX_ASKERS:
        raise SourceError(f"line {node.line}: {what} are {len(node.items)} names; at most {MAX_ASKERS} are allowed")
    found = set()
    for item in node.items:
        text = item.text.strip() if isinstance(item, Scalar) and not item.null else ""
        if not _ASKER.fullmatch(text):
            why = f"must be names of 1 to {MAX_ASKER_CHARACTERS} characters without commas and control characters"
            raise SourceError(f"line {item.line}: {what} {why}")
        found.add(text)
    return frozenset(found)
