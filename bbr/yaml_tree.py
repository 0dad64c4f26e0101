"""YAML (and so JSON) read a step at a time, with the line of each part.

PyYAML's own composer takes 0.26 s for 100,000 names, in one go, and recurses without a limit. This one makes no
Python values either: a plain 1, no or 1.50 stays as it is written, since it can only be meant as a name.

What costs more than its length is refused before it is read:

- Directives: libyaml compares each %TAG with all before it.
- Nesting beyond MAX_DEPTH.
- More than MAX_NODES parts, where an alias counts as all that it stands for. An alias within what it stands for would
  count without end.

All else takes libyaml a time that grows with the length, but not a time that is known beforehand: one event may
be the whole text. So texts beyond a few kilobytes are read in another process while requests are served.
"""

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, NamedTuple

import yaml

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# The model table's formats need 4.
MAX_DEPTH: Final = 16

# 100,000 base models with an adapter each are 600,000 parts.
MAX_NODES: Final = 1_000_000

# At a line's beginning, whatever YAML takes for a line's end.
_DIRECTIVE: Final = re.compile("(?:\\A|[\n\r\x85\u2028\u2029])\ufeff?%")

# Events parsed in one step, 0.3 to 0.6 ms.
_STEP_EVENTS: Final = 100

_NULLS: Final = ("", "~", "null", "Null", "NULL")  # YAML 1.1's and 1.2's
_NULL_TAG: Final = "tag:yaml.org,2002:null"


class YamlError(Exception):
    """A text can't be read; the message names the rule and the line, and leaves the text's name to the caller."""


class Scalar(NamedTuple):
    """A text; `null` says that it is none: nothing at all, or the word null without quotes."""

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


def tree(text: str, max_nodes: int = MAX_NODES) -> Generator[None, None, Node | None]:
    """Read one document and return its root, or None if there is none. A node with an anchor may stand several times.

    Args:
        text: the document.
        max_nodes: how many lists, mappings, keys and values it may have, those that aliases repeat included.

    Raises:
        YamlError: the text is not YAML, holds several documents, or exceeds a limit; with the line.
    """
    directive = _DIRECTIVE.search(text)
    if directive:
        line = text.count("\n", 0, directive.end()) + 1
        raise YamlError(f"line {line}: begins with %: YAML directives are not read")
    builder = _Builder(max_nodes)
    try:
        for number, event in enumerate(yaml.parse(text, Loader=_Loader), 1):
            builder.take(event)
            if number % _STEP_EVENTS == 0:
                yield
    except yaml.YAMLError as error:
        raise _not_yaml(text, error) from None
    return builder.root


@dataclass(slots=True)
class _Anchor:
    """A node that aliases may repeat; its size is how many nodes it is in all, 0 while it is read."""

    node: Node
    size: int = 0


class _Open(NamedTuple):
    """A list or mapping that is being read: the nodes inside so far, and how many nodes there were before it."""

    node: Sequence | Mapping
    inside: list[Node]
    before: int
    anchor: _Anchor | None


class _Builder:
    """Puts a document together from its events."""

    def __init__(self, max_nodes: int) -> None:
        self.root: Node | None = None
        self._max_nodes = max_nodes
        self._nodes = 0  # with those that aliases repeat
        self._open: list[_Open] = []
        self._anchors: dict[str, _Anchor] = {}
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        line = mark.line + 1 if mark else 0
        if isinstance(event, yaml.ScalarEvent):
            plain = event.implicit[0] and event.value in _NULLS
            scalar = Scalar(line, event.value, plain or event.tag == _NULL_TAG)
            anchor = self._add(event, scalar, line)
            if anchor:
                anchor.size = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self._open) == MAX_DEPTH:
                raise YamlError(f"line {line}: lists and mappings are nested more than {MAX_DEPTH} deep")
            node = Sequence(line, []) if isinstance(event, yaml.SequenceStartEvent) else Mapping(line, [])
            before = self._nodes
            anchor = self._add(event, node, line)
            self._open.append(_Open(node, node.items if isinstance(node, Sequence) else [], before, anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            node, inside, before, anchor = self._open.pop()
            if isinstance(node, Mapping):
                node.pairs.extend(zip(inside[::2], inside[1::2], strict=True))
            if anchor:
                anchor.size = self._nodes - before
        elif isinstance(event, yaml.AliasEvent):
            self._repeat(event.anchor or "", line)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise YamlError(f"line {line}: a second document begins; only one is allowed")

    def _repeat(self, name: str, line: int) -> None:
        anchor = self._anchors.get(name)
        if anchor is None:
            raise YamlError(f"line {line}: not YAML: found undefined alias")
        if anchor.size == 0:
            raise YamlError(f"line {line}: an alias contains itself")
        self._count(anchor.size, line)
        self._place(anchor.node)

    def _add(self, event: yaml.NodeEvent, node: Node, line: int) -> _Anchor | None:
        self._count(1, line)
        self._place(node)
        if event.anchor is None:
            return None
        anchor = self._anchors[event.anchor] = _Anchor(node)
        return anchor

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > self._max_nodes:
            raise YamlError(
                f"line {line}: the document has more than {self._max_nodes:,} parts, "
                "where an alias counts as all that it stands for"
            )

    def _place(self, node: Node) -> None:
        if self._open:
            self._open[-1].inside.append(node)
        else:
            self.root = node


def _not_yaml(text: str, error: yaml.YAMLError) -> YamlError:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        why = ", ".join(filter(None, (error.context, error.problem)))
        if text[error.problem_mark.index : error.problem_mark.index + 1] == "\t":
            why += "; YAML does not allow tabs for indentation"
        return YamlError(f"line {error.problem_mark.line + 1}: not YAML: {why}")
    # A character that YAML does not allow; its position counts bytes.
    line = text.encode()[: getattr(error, "position", 0)].count(b"\n") + 1
    return YamlError(f"line {line}: not YAML: {getattr(error, 'reason', error)}")
