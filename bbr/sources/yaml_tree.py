"""YAML (and so JSON) read a step at a time, with the line of each part.

PyYAML's own composer takes 0.26 s for 100,000 names, in one go, and recurses without a limit. This one makes no
Python values either: a plain 1, no or 1.50 stays as it is written, since it can only be meant as a name.
"""

from typing import Final, NamedTuple

import yaml

from bbr.models.registry import Steps
from bbr.sources.table import SourceError

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# The model table's formats need 4.
MAX_DEPTH: Final = 16

# Events parsed in one step, 0.3 to 0.6 ms.
_STEP_EVENTS: Final = 100

_NULLS: Final = ("", "~", "null", "Null", "NULL")  # YAML 1.1's and 1.2's
_NULL_TAG: Final = "tag:yaml.org,2002:null"


class Scalar(NamedTuple):
    """A text; `null` tells whether it is none: nothing at all, or the word null without quotes."""

    line: int
    text: str
    null: bool


class Sequence(NamedTuple):
    """A list."""

    line: int
    items: "list[Node]"


class Mapping(NamedTuple):
    """Keys and values, in the order of the text; a key may stand twice."""

    line: int
    pairs: "list[tuple[Node, Node]]"


Node = Scalar | Sequence | Mapping


def tree(text: str) -> Steps[Node | None]:
    """Read one document and return its root, or None if there is none. A node with an anchor may stand several times.

    Raises:
        SourceError: the text is not YAML, holds several documents, or is nested too deeply; with the line.
    """
    builder = _Builder()
    try:
        for number, event in enumerate(yaml.parse(text, Loader=_Loader), 1):
            builder.take(event)
            if number % _STEP_EVENTS == 0:
                yield
    except yaml.YAMLError as error:
        raise _not_yaml(text, error) from None
    return builder.root


class _Builder:
    """Puts a document together from its events."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[tuple[Sequence | Mapping, list[Node]]] = []  # with the nodes inside so far
        self._anchors: dict[str, Node] = {}
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        line = mark.line + 1 if mark else 0
        if isinstance(event, yaml.ScalarEvent):
            plain = event.implicit[0] and event.value in _NULLS
            self._add(event, Scalar(line, event.value, plain or event.tag == _NULL_TAG))
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self._open) == MAX_DEPTH:
                raise SourceError(f"line {line}: lists and mappings are nested more than {MAX_DEPTH} deep")
            node = Sequence(line, []) if isinstance(event, yaml.SequenceStartEvent) else Mapping(line, [])
            self._add(event, node)
            self._open.append((node, node.items if isinstance(node, Sequence) else []))
        elif isinstance(event, yaml.CollectionEndEvent):
            node, inside = self._open.pop()
            if isinstance(node, Mapping):
                node.pairs.extend(zip(inside[::2], inside[1::2], strict=True))
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise SourceError(f"line {line}: not YAML: found undefined alias")
            self._place(self._anchors[event.anchor])
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise SourceError(f"line {line}: a second document begins, where one is expected")

    def _add(self, event: yaml.NodeEvent, node: Node) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._place(node)

    def _place(self, node: Node) -> None:
        if self._open:
            self._open[-1][1].append(node)
        else:
            self.root = node


def _not_yaml(text: str, error: yaml.YAMLError) -> SourceError:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        why = ", ".join(filter(None, (error.context, error.problem)))
        return SourceError(f"line {error.problem_mark.line + 1}: not YAML: {why}")
    # A character that YAML does not allow; its position counts bytes.
    line = text.encode()[: getattr(error, "position", 0)].count(b"\n") + 1
    return SourceError(f"line {line}: not YAML: {getattr(error, 'reason', error)}")
