"""Mappings of names, which model files and ConfigMaps both contain."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from bbr.sources.objects import SourceError
from bbr.yaml_tree import Mapping, Node


class Named(NamedTuple):
    """An entry of a mapping: the line where it stands, its name, and what it holds."""

    line: int
    name: str
    value: Node


def named(node: Node, key: str, of_what: str, name_of: Callable[[Node], str]) -> Iterator[Named]:
    """Give the entries of a mapping, in their order.

    Args:
        node: the mapping.
        key: under which it stands, for errors.
        of_what: what it maps, for errors.
        name_of: returns the name that a key is, or raises SourceError.

    Raises:
        SourceError: it is not a mapping, or has a name twice; the message names the line.
    """
    if not isinstance(node, Mapping):
        raise SourceError(f"line {node.line}: {key} must be a mapping of {of_what}")
    names = set()
    for each, value in node.pairs:
        name = name_of(each)
        if name in names:
            raise SourceError(f"line {each.line}: {name} occurs twice in {key}")
        names.add(name)
        yield Named(each.line, name, value)
