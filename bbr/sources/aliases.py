"""Aliases as model files and ConfigMaps write them: a mapping of names to what they stand for.

gpt-4o: sql-lora                 one model
chat: {qwen: 90, qwen-next: 10}  several, each with the weight of its share
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from bbr.models import patterns
from bbr.models.entries import Alias
from bbr.sources.mappings import named
from bbr.sources.objects import SourceError
from bbr.yaml_tree import Mapping, Node, Scalar

# Models of one alias. A request for it is compared with each of them.
MAX_SHARES: Final = 16
MAX_WEIGHT: Final = 1_000_000


class Placed(NamedTuple):
    """An alias, and the line where it stands."""

    line: int
    alias: Alias


def read(node: Node, name_of: Callable[[Node, str], str]) -> Iterator[Placed]:
    """Give the aliases of a mapping, in their order.

    Args:
        node: the mapping.
        name_of: returns the name that a node is, of a model or an alias; the text says whose it is, for its error.

    Raises:
        SourceError: a rule is broken; the message names the line and the rule.
    """
    for line, name, value in named(node, "aliases", "names to models", lambda key: name_of(key, "the alias")):
        if why := patterns.fault(name):
            raise SourceError(f"line {line}: the alias {name} {why}")
        if isinstance(value, Mapping):
            weights = _weights(value, name, name_of)
            yield Placed(line, Alias(name, weights[0][0], weights))
        else:
            yield Placed(line, Alias(name, name_of(value, f"the model of alias {name}")))


def _weights(node: Mapping, name: str, name_of: Callable[[Node, str], str]) -> tuple[tuple[str, int], ...]:
    if len(node.pairs) > MAX_SHARES:
        raise SourceError(
            f"line {node.line}: alias {name} has {len(node.pairs)} models; at most {MAX_SHARES} are allowed"
        )
    weights: dict[str, int] = {}
    for key, value in node.pairs:
        model = name_of(key, f"a model of alias {name}")
        if model in weights:
            raise SourceError(f"line {key.line}: {model} occurs twice in alias {name}")
        text = value.text if isinstance(value, Scalar) else ""
        if not re.fullmatch(r"[0-9]{1,7}", text) or int(text) > MAX_WEIGHT:
            why = f"must be a whole number from 0 to {MAX_WEIGHT}"
            raise SourceError(f"line {value.line}: the weight of {model} in alias {name} {why}")
        weights[model] = int(text)
    if not any(weights.values()):
        raise SourceError(f"line {node.line}: alias {name} needs a model with a weight of more than 0")
    return tuple(weights.items())
