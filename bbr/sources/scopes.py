"""Scopes, as model files and ConfigMaps write them: a name, and the hosts whose requests are in it.

team-a:
  hosts: [team-a.example.com, "*.team-a.example.com"]
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from bbr.models.hosts import MAX_HOST, declared
from bbr.models.merging import MAX_SCOPES
from bbr.sources.mappings import Named, named
from bbr.sources.objects import SourceError
from bbr.yaml_tree import Mapping, Node, Scalar, Sequence

# As Kubernetes has the values of labels, so that each name can stand in one.
MAX_NAME: Final = 63
_NAME: Final = re.compile(rf"[A-Za-z0-9](?:[A-Za-z0-9._-]{{0,{MAX_NAME - 2}}}[A-Za-z0-9])?")

# Of a ConfigMap: its value is the scope in which what the object declares exists.
SCOPE_LABEL: Final = "inference.networking.k8s.io/bbr-scope"

# Of one list.
MAX_LISTED: Final = 1_000


class Placed(NamedTuple):
    """A name, and the line where it stands."""

    line: int
    name: str


def read(node: Node) -> Iterator[Named]:
    """Give the scopes of a mapping, each with what it holds.

    Raises:
        SourceError: a rule is broken; the message names the line and the rule.
    """
    if isinstance(node, Mapping) and len(node.pairs) > MAX_SCOPES:
        raise SourceError(f"line {node.line}: scopes has {len(node.pairs)} names; at most {MAX_SCOPES} are allowed")
    yield from named(node, "scopes", "names to what exists in them", _name)


def _name(key: Node) -> str:
    return name_of(key.text if isinstance(key, Scalar) and not key.null else "", f"line {key.line}")


def name_of(text: str, where: str) -> str:
    """Return the name of a scope.

    Raises:
        SourceError: it is none.
    """
    if not _NAME.fullmatch(text):
        rule = f"1 to {MAX_NAME} letters, digits, dots, - and _, with a letter or a digit at both ends"
        raise SourceError(f"{where}: the name of a scope must be {rule}")
    return text


def hosts(node: Node) -> list[Placed]:
    """Return the hosts of a list, as they are compared.

    Raises:
        SourceError: it is no list, or holds what is no host.
    """
    if not isinstance(node, Sequence):
        raise SourceError(f"line {node.line}: hosts must be a list")
    if len(node.items) > MAX_LISTED:
        raise SourceError(f"line {node.line}: hosts has {len(node.items)} entries; at most {MAX_LISTED} are allowed")
    found = []
    for item in node.items:
        host = declared(item.text.strip()) if isinstance(item, Scalar) and not item.null else None
        if host is None:
            rule = f"a name of at most {MAX_HOST} characters without a port, *. and a name, or *"
            raise SourceError(f"line {item.line}: a host must be {rule}; other letters than a to z in punycode (xn--)")
        found.append(Placed(item.line, host))
    return found
