"""The configuration of llm-d's inference payload processor (--config-file, --config-text), as plugins that run here.

A PayloadProcessorConfig lists plugins, and profiles that refer to them by name. A plugin does something for a request
if the one profile, or preProcessing, refers to it. Of the types this router has three; a file that lists another one is
refused, whether or not something refers to it: what is missing may be what guards a header.

Like theirs, this reader is strict: no field may be unknown or occur twice. It differs in three ways only. A plain
number or boolean is text here; theirs refuses it where it wants text. Two profiles, and a profile picker that is none,
are refused at the start; theirs fails with each request. Merge keys (<<) are unknown fields.
"""

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from bbr import yaml_tree
from bbr.config import go_plugins
from bbr.config.go_plugins import BASE_MODEL, BODY_FIELD, DEFAULTS, PARAMETERS, Plugin, shown
from bbr.config.settings import ConfigError
from bbr.models.steps import finish
from bbr.system import files
from bbr.text import quoted
from bbr.yaml_tree import Node, Scalar, Sequence, YamlError

API_VERSION: Final = "llm-d.ai/v1alpha1"
KIND: Final = "PayloadProcessorConfig"
PICKER: Final = "single-profile-picker"
TYPES: Final = (BODY_FIELD, BASE_MODEL, PICKER)

# A ConfigMap's limit.
MAX_BYTES: Final = 1 << 20
MAX_PARTS: Final = 10_000

_ROOT: Final = (
    "apiVersion",
    "kind",
    "plugins",
    "preProcessing",
    "profilePicker",
    "profiles",
    "postProcessing",
    "datalayer",
)
_DATALAYER: Final = ("collectors", "extractors", "datasources")
# Names of plugins in an error.
_MOST_NAMES: Final = 20
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_file(path: str) -> str:
    """Return the text of a configuration file.

    Raises:
        ConfigError: it can't be read, is larger than 1 MiB, or not UTF-8; with its name.
    """
    try:
        return files.read(path, MAX_BYTES).decode()
    except files.FileError as error:
        raise ConfigError(f"--config-file: {quoted(path)} {_completing(str(error))}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config-file: {quoted(path)} is not UTF-8 at byte {error.start}") from None


def plugins(text: str, source: str) -> list[Plugin]:
    """Return the plugins that run for a request, in their order.

    Args:
        text: YAML or JSON. No text at all is the payload processor's own default.
        source: what it is called in errors: the flag, and the file.

    Raises:
        ConfigError: it is no such configuration, breaks one of its rules, or wants what this router does not have; with
            the source, the line, and the plugin.
    """
    if not text:
        return list(DEFAULTS)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # an argument that is not UTF-8 has lone surrogates
        raise ConfigError(f"{source}: is not UTF-8") from None
    if size > MAX_BYTES:
        raise ConfigError(f"{source}: is larger than {files.size_of(MAX_BYTES)}")
    try:
        root = finish(yaml_tree.tree(text, MAX_PARTS))
    except YamlError as error:
        raise ConfigError(f"{source}: {error}") from None
    return _Reader(source).read(root or Scalar(1, "", null=True))


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of plugins; `node` is where it stands."""

    node: Node
    type: str
    plugin: Plugin


class _Reader:
    """Reads one configuration; `source` begins its errors."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._entries: dict[str, _Entry] = {}

    def read(self, root: Node) -> list[Plugin]:
        self._check_keys(root)
        fields = self._fields(root, "the configuration", _ROOT)
        for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
            given = self._text(fields.get(name), name)
            if given != wanted:
                raise self._wrong(fields.get(name, root), f"{name} is {shown(given)}; it must be {wanted!r}")
        for node in self._items(fields.get("plugins"), "plugins"):
            self._add(node)
        if not self._entries:
            raise self._wrong(fields.get("plugins", root), "plugins lists no plugin; at least one is needed")
        self._check_picker(fields.get("profilePicker"))
        before = self._list(fields.get("preProcessing"), "preProcessing")
        found = [*self._requests(before, "preProcessing"), *self._profile(fields.get("profiles"), root)]
        self._refuse(self._list(fields.get("postProcessing"), "postProcessing"), "process responses")
        datalayer = self._fields(fields.get("datalayer"), "datalayer", _DATALAYER)
        for name, node in datalayer.items():
            self._refuse(self._items(node, f"datalayer.{name}"), f"be one of datalayer.{name}")
        return found

    def _add(self, node: Node) -> None:
        fields = self._fields(node, "an entry of plugins", ("name", "type", "parameters"))
        kind = self._text(fields.get("type"), "type")
        name = self._text(fields.get("name"), "name") or kind
        if not kind:
            raise self._wrong(node, f"plugin {shown(name)} has no type")
        if kind not in TYPES:
            unknown = f"is of the type {shown(kind)}, which this router does not have"
            raise self._wrong(node, f"plugin {shown(name)} {unknown}; known: {', '.join(TYPES)}")
        if name in self._entries:
            raise self._wrong(node, f"two plugins are called {shown(name)}")
        where = f"{self._source}: line {node.line}: plugin {shown(name)}"
        plugin = Plugin(where, kind, {})
        if kind == BODY_FIELD:
            plugin = plugin._replace(parameters=self._parameters(fields.get("parameters"), where))
            for parameter in PARAMETERS:  # even if nothing refers to it
                go_plugins.parameter(plugin, parameter)
        self._entries[name] = _Entry(node, kind, plugin)

    def _parameters(self, node: Node | None, where: str) -> Mapping[str, str]:
        """Return the parameters of body-field-to-header that are text; names in small letters, as Go matches them."""
        if node is None or (isinstance(node, Scalar) and node.null):
            return {}
        if not isinstance(node, yaml_tree.Mapping):
            raise ConfigError(f"{where} has parameters that are not a mapping")
        found: dict[str, str] = {}
        for key, value in node.pairs:
            key_text = self._text(key, "a parameter's name")
            name = key_text.lower()
            if name in found:
                raise self._wrong(key, f"{shown(key_text)} occurs twice in parameters, in other letters")
            found[name] = value.text if isinstance(value, Scalar) and not value.null else ""
        return found

    def _check_picker(self, node: Node | None) -> None:
        name = self._reference(node, "profilePicker") if node else ""
        if name:
            entry = self._entry(name, node)
            if entry.type != PICKER:
                raise self._unable(node, name, entry, "pick profiles")
        pickers = [name for name, entry in self._entries.items() if entry.type == PICKER]
        if not name and len(pickers) > 1:
            two = " and ".join(map(shown, pickers[:2]))
            raise self._wrong(self._entries[pickers[1]].node, f"{two} pick profiles: profilePicker must name one")

    def _profile(self, node: Node | None, root: Node) -> Iterator[Plugin]:
        """Give the request plugins of the only profile."""
        profiles = self._items(node, "profiles")
        if len(profiles) != 1:
            raise self._wrong(node or root, f"profiles has {len(profiles)} entries; {PICKER} needs exactly one")
        (profile,) = profiles
        fields = self._fields(profile, "a profile", ("name", "plugins"))
        name = self._text(fields.get("name"), "name")
        if not name:
            raise self._wrong(profile, "the profile has no name")
        lists = self._fields(fields.get("plugins"), "plugins of a profile", ("request", "response"))
        request, response = (self._items(lists.get(each), each) for each in ("request", "response"))
        if not request and not response:
            raise self._wrong(profile, f"profile {shown(name)} refers to no plugin")
        self._refuse(response, "process responses")
        yield from self._requests(request, f"profile {shown(name)}")

    def _requests(self, references: Collection[Node], what: str) -> Iterator[Plugin]:
        for node in references:
            name = self._reference(node, f"an entry of {what}")
            entry = self._entry(name, node)
            if entry.type == PICKER:
                raise self._unable(node, name, entry, "process requests")
            yield entry.plugin

    def _refuse(self, references: Collection[Node], what: str) -> None:
        """Refuse each reference: none of the plugins that there are can do this."""
        for node in references:
            name = self._reference(node, "a reference")
            raise self._unable(node, name, self._entry(name, node), what)

    def _reference(self, node: Node, what: str) -> str:
        fields = self._fields(node, what, ("pluginRef", "weight"))
        weight = fields.get("weight")
        if weight and not _NUMBER.fullmatch(self._text(weight, "weight") or "0"):
            raise self._wrong(weight, "weight must be a number")
        return self._text(fields.get("pluginRef"), "pluginRef")

    def _entry(self, name: str, node: Node | None) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise self._wrong(node, f"there is no plugin called {shown(name)}; known: {_names(self._entries)}")
        return entry

    def _list(self, node: Node | None, what: str) -> Collection[Node]:
        return self._items(self._fields(node, what, ("plugins",)).get("plugins"), f"{what}.plugins")

    def _fields(self, node: Node | None, what: str, known: Collection[str]) -> dict[str, Node]:
        if node is None or (isinstance(node, Scalar) and node.null):
            return {}
        if not isinstance(node, yaml_tree.Mapping):
            raise self._wrong(node, f"{what} must be a mapping")
        found: dict[str, Node] = {}
        for key, value in node.pairs:
            name = self._text(key, "a field's name")
            if name not in known:
                raise self._wrong(key, f"{what} has no field {shown(name)}; known: {', '.join(known)}")
            found[name] = value
        return found

    def _check_keys(self, node: Node) -> None:
        """Refuse a key that occurs twice in a mapping, wherever it is."""
        if isinstance(node, Sequence):
            for item in node.items:
                self._check_keys(item)
        elif isinstance(node, yaml_tree.Mapping):
            names = set()
            for key, value in node.pairs:
                name = self._text(key, "a field's name")
                if name in names:
                    raise self._wrong(key, f"{shown(name)} occurs twice")
                names.add(name)
                self._check_keys(value)

    def _items(self, node: Node | None, what: str) -> Collection[Node]:
        if node is None or (isinstance(node, Scalar) and node.null):
            return ()
        if not isinstance(node, Sequence):
            raise self._wrong(node, f"{what} must be a list")
        return node.items

    def _text(self, node: Node | None, what: str) -> str:
        if node is None:
            return ""
        if not isinstance(node, Scalar):
            raise self._wrong(node, f"{what} must be text")
        return "" if node.null else node.text

    def _unable(self, node: Node | None, name: str, entry: _Entry, what: str) -> ConfigError:
        return self._wrong(node, f"plugin {shown(name)} of the type {entry.type} can't {what}")

    def _wrong(self, node: Node | None, why: str) -> ConfigError:
        line = node.line if node else 1
        return ConfigError(f"{self._source}: line {line}: {why}")


def _completing(why: str) -> str:
    """Return why a file can't be read, as the end of a sentence that begins with its name."""
    return why if why.startswith("is ") else f"can't be read: {why}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(shown(name) for name in itertools.islice(names, _MOST_NAMES))
