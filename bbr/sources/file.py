"""The model table from a YAML (or JSON) file.

    models:
      - name: Qwen/Qwen2.5-3B-Instruct
        adapters: [sql-lora, summarize-lora]

A file that is wrong anywhere is refused whole, with the line: half a table would answer 404 for models that exist.
"""

from pathlib import Path
from typing import Final

import yaml

from bbr.model import check_model
from bbr.refusal import Refusal
from bbr.registry import BaseModel, Registry

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class SourceError(Exception):
    """A file can't be used as a model table; the message names the file, the line, and the rule."""


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
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise SourceError(f"{where}not YAML: {getattr(error, 'problem', None) or error}") from None
    if root is None:
        raise SourceError("the file is empty: it needs a list called models")
    fields = _mapping(root, "the file", {"models"})
    if "models" not in fields:
        raise SourceError(f"{_line(root)}: the file needs a list called models")
    models = [_base_model(node) for node in _sequence(fields["models"], "models")]
    registry, conflicts = Registry.merge(models)
    for conflict in conflicts:
        raise SourceError(
            f"{conflict.name} is claimed by both {conflict.kept} and {conflict.refused}: a name has one base model"
        )
    return registry


def _base_model(node: yaml.Node) -> BaseModel:
    fields = _mapping(node, "an entry of models", {"name", "adapters"})
    if "name" not in fields:
        raise SourceError(f"{_line(node)}: an entry of models needs a name")
    adapters = fields.get("adapters")
    names = [] if adapters is None or _is_null(adapters) else _sequence(adapters, "adapters")
    return BaseModel(_name(fields["name"], "name"), tuple(_name(name, "an adapter") for name in names))


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
    try:
        return check_model(node.value.strip())
    except Refusal as refused:
        raise SourceError(f"{_line(node)}: {what} is no usable model name. {refused.message}") from None


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"
