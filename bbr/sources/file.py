"""The model table from a YAML (or JSON) file.

    models:
      - name: Qwen/Qwen2.5-3B-Instruct
        adapters: [sql-lora, summarize-lora]

A file that is wrong anywhere is refused whole, with the line: half a table would answer 404 for models that exist.
"""

from pathlib import Path
from typing import Final

import yaml

from bbr.model import LONGEST_MODEL_BYTES, check_model
from bbr.refusal import Refusal
from bbr.registry import BaseModel, Registry
from bbr.sources.table import SourceError

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# The format needs 4. libyaml's composer recurses without a limit of its own: 100,000 brackets crash the process.
_MAX_DEPTH: Final = 16


def load(path: Path) -> Registry:
    """Read a table.

    Raises:
        SourceError: the file can't be read, is not YAML, or breaks a rule of the format.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 at byte {error.start}") from None
    try:
        return parse(text)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from None


def parse(text: str) -> Registry:
    """Build a table from YAML text.

    Raises:
        SourceError: as `load`, with the line but without the file's name.
    """
    try:
        root = _compose(text)
    except yaml.YAMLError as error:
        raise _not_yaml(text, error) from None
    if root is None:
        raise SourceError("the file is empty: it needs a list called models")
    fields = _mapping(root, "the file", {"models"})
    if "models" not in fields:
        raise SourceError(f"{_line(root)}: the file needs a list called models")
    lines: dict[tuple[str, str], str] = {}
    models = [_base_model(node, lines) for node in _sequence(fields["models"], "models")]
    registry, conflicts = Registry.merge(models)
    for name, kept, refused in conflicts:
        assert kept is not None  # noqa: S101 (only an alias has nothing in its way)
        owner, claimant = kept.base_model, refused.base_model
        why = "it is a base model itself" if name == owner else f"it is an adapter of {owner} already"
        raise SourceError(f"{lines[name, claimant]}: {name} can't be an adapter of {claimant}: {why}")
    return registry


def _compose(text: str) -> yaml.Node | None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise SourceError(f"{_line(event)}: lists and mappings are nested more than {_MAX_DEPTH} deep")
    root: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    return root


def _not_yaml(text: str, error: yaml.YAMLError) -> SourceError:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        why = ", ".join(filter(None, (error.context, error.problem)))
        return SourceError(f"line {error.problem_mark.line + 1}: not YAML: {why}")
    # A character that YAML does not allow; its position counts bytes.
    line = text.encode()[: getattr(error, "position", 0)].count(b"\n") + 1
    return SourceError(f"line {line}: not YAML: {getattr(error, 'reason', error)}")


def _base_model(node: yaml.Node, lines: dict[tuple[str, str], str]) -> BaseModel:
    """Read an entry, and note in `lines` where each of its adapters stands."""
    fields = _mapping(node, "an entry of models", {"name", "adapters"})
    if "name" not in fields:
        raise SourceError(f"{_line(node)}: an entry of models needs a name")
    name = _name(fields["name"], "the name")
    listed = fields.get("adapters")
    nodes = [] if listed is None or _is_null(listed) else _sequence(listed, "adapters")
    adapters = tuple(_name(adapter, "the adapter") for adapter in nodes)
    for adapter, where in zip(adapters, nodes, strict=True):
        lines.setdefault((adapter, name), _line(where))
    return BaseModel(name, adapters)


def _mapping(node: yaml.Node, what: str, known: set[str]) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        raise SourceError(f"{_line(node)}: {what} must be a mapping with {' and '.join(sorted(known))}")
    fields: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else "a nested key"
        if name not in known:
            raise SourceError(f"{_line(key)}: {what} can't hold {name}; known: {', '.join(sorted(known))}")
        if name in fields:  # PyYAML would silently take the last
            raise SourceError(f"{_line(key)}: {name} stands twice in {what}")
        fields[name] = value
    return fields


def _sequence(node: yaml.Node, what: str) -> list[yaml.Node]:
    if not isinstance(node, yaml.SequenceNode):
        raise SourceError(f"{_line(node)}: {what} must be a list")
    return list(node.value)


def _name(node: yaml.Node, what: str) -> str:
    # A plain 1 or true is taken as it is written: it can only be meant as a name.
    if not isinstance(node, yaml.ScalarNode) or _is_null(node):
        raise SourceError(f"{_line(node)}: {what} must be text")
    text = node.value.strip()
    if not text:
        raise SourceError(f"{_line(node)}: {what} is empty")
    try:
        return check_model(text, LONGEST_MODEL_BYTES)
    except Refusal as refused:  # its sentence is meant for a client that sent the name as `model`
        why = refused.message.removesuffix(".").replace("`model`", what)
        raise SourceError(f"{_line(node)}: {why}") from None


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _line(part: yaml.Node | yaml.Event) -> str:
    mark = part.start_mark
    assert mark is not None  # noqa: S101 (only what is built by hand has none)
    return f"line {mark.line + 1}"
