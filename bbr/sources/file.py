"""The model table from YAML (or JSON) files: one file, or those of a directory.

    models:
      - name: Qwen/Qwen2.5-3B-Instruct
        adapters: [sql-lora, summarize-lora]
        allow: [team-a, team-b]
    aliases:
      gpt-4: Qwen/Qwen2.5-3B-Instruct
    allow:
      sql-lora: [team-a]
    scopes:
      team-a:
        hosts: [team-a.example.com]
        aliases: {gpt-4: sql-lora}

`models.schema.json` is the format as a JSON Schema. A file that is wrong anywhere is refused whole, with the line: half
a table would answer 404 for models that exist.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from bbr.models import patterns
from bbr.models.entries import Alias, BaseModel, Declaration, Grant, Kind, Origin
from bbr.models.merging import merging
from bbr.models.steps import Steps
from bbr.reading.name import LONGEST_MODEL_BYTES, check_model
from bbr.refusal import MAX_ECHO_CHARACTERS, Refusal
from bbr.sources import aliases as aliases_of
from bbr.sources import grants as grants_of
from bbr.sources import scopes as scopes_of
from bbr.sources.documents import source_object
from bbr.sources.objects import SourceError, SourceObject, refusing
from bbr.sources.table import FILE, Table
from bbr.system import files
from bbr.system.watch import POLL_SECONDS, Poll, in_thread, metadata, size
from bbr.yaml_tree import Mapping, Node, Scalar, Sequence, YamlError, tree

SUFFIXES: Final = (".yaml", ".yml", ".json")

# 100,000 adapters take 3 MB. A larger file is some other file.
MAX_FILE_BYTES: Final = 32 << 20

# Of a directory: its files, and their sizes together.
MAX_FILES: Final = 1000
MAX_DIRECTORY_BYTES: Final = 64 << 20

# Names checked in one step, 0.2 to 0.4 ms.
_STEP_NAMES: Final = 200

# What a file, and each of its scopes, can hold.
_TABLE: Final = frozenset({"models", "aliases", "allow"})


class _Look(NamedTuple):
    """What a look at the files has found.

    Attributes:
        seen: the files, and their metadata.
        changed: those that differ from what was published last.
        gone: those that are there no longer.
    """

    seen: dict[str, tuple[int, ...]]
    changed: list[SourceObject]
    gone: list[str]


class FileSource:
    """Publishes what a file, or a directory's files, hold, and follows their changes.

    A directory's files are those directly in it that end in .yaml, .yml or .json and do not begin with a dot. Changes
    are found by looking at the files' metadata once a second: that sees a mounted ConfigMap's swap of `..data`, a
    rename over the file, and a write in place, on every file system.

    Args:
        path: a file or a directory.
        table: published to as source `file`.
        max_model_bytes: a longer name is an error of its file: no request could ever name it.
        poll_seconds: how often to look.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        path: Path,
        table: Table,
        *,
        max_model_bytes: int = LONGEST_MODEL_BYTES,
        poll_seconds: float = POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._directory = path.is_dir()
        self._table = table
        self._max_model_bytes = max_model_bytes
        self._seen: dict[str, tuple[int, ...]] = {}  # the files, and their metadata at the last look
        self._poll = Poll(poll_seconds)
        self._clock = clock
        self._looked_at = clock()
        self._unsure = False  # whether what the last look found may not have been published, all of it

    def load(self) -> None:
        """Read everything and publish it at once.

        Raises:
            SourceError: the directory can't be read, or holds too much. Errors of a file are in `Table.broken`.
        """
        found = self._look(forced=True)
        self._table.replace(FILE, found.changed)
        self._keep(found)

    @property
    def age_seconds(self) -> float:
        """How long ago the files were last looked at; a file system that hangs makes it grow."""
        return self._clock() - self._looked_at

    @property
    def failing(self) -> str:
        """Why the file, or the directory as such, can't be used just now; "" if it can."""
        return self._table.broken.get((FILE, str(self._path)), "")

    def reload(self) -> None:
        """Read everything anew, whether it seems to have changed or not."""
        self._poll.ask()

    async def run(self) -> None:
        """Follow the files, until cancelled."""
        while True:
            forced = await self._poll.wait() or self._unsure
            self._unsure = True
            directory = str(self._path)
            try:
                found = await in_thread(partial(self._look, forced=forced))
            except SourceError as error:  # of the directory itself: what its files declared stays
                self._table.put(FILE, _unusable(directory, str(error)))
                continue
            for each in found.changed:
                self._table.put(FILE, each)
            for path in found.gone:
                self._table.remove(FILE, path)
            if self._directory and (FILE, directory) in self._table.broken:
                self._table.remove(FILE, directory)
            self._keep(found)

    def _keep(self, found: _Look) -> None:
        """Take what a look has found for published."""
        self._seen = found.seen
        self._unsure = False
        self._looked_at = self._clock()

    def _look(self, *, forced: bool) -> _Look:
        """Look at the files; with `forced`, all of them count as changed."""
        before, now = self._seen, {path: metadata(path) for path in self._paths()}
        self._check_sizes(now.values())
        changed = [_object(path, self._max_model_bytes) for path in now if forced or now[path] != before.get(path)]
        return _Look(now, changed, [path for path in before if path not in now])

    def _paths(self) -> list[str]:
        """Return the files to read."""
        if not self._directory:
            return [str(self._path)]
        try:
            with os.scandir(self._path) as entries:
                found = sorted(entry.path for entry in entries if _is_table(entry))
        except OSError as error:
            raise SourceError(files.reason(error)) from None
        if len(found) > MAX_FILES:
            raise SourceError(f"the directory has {len(found)} files; at most {MAX_FILES} are read")
        return found

    def _check_sizes(self, seen: Iterable[tuple[int, ...]]) -> None:
        total = sum(map(size, seen))
        if self._directory and total > MAX_DIRECTORY_BYTES:
            raise SourceError(
                f"the directory's files have {total:,} bytes together; at most {MAX_DIRECTORY_BYTES:,} are read"
            )


def is_bare_directory(path: Path) -> bool:
    """Tell whether a path is a directory that can be read and holds no file of a model table."""
    try:
        with os.scandir(path) as entries:
            return not any(map(_is_table, entries))
    except OSError:
        return False


def _is_table(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(SUFFIXES) and not entry.name.startswith(".") and not entry.is_dir()


def _object(path: str, max_model_bytes: int) -> SourceObject:
    try:
        data = files.read(path, MAX_FILE_BYTES)
    except files.FileError as error:
        return _unusable(path, str(error))
    digest = hashlib.blake2b(data, digest_size=16).digest()
    origin = Origin("file", path)
    return source_object(path, digest, origin, partial(_parse_bytes, origin, max_model_bytes), data)


def _unusable(key: str, why: str) -> SourceObject:
    return SourceObject(key, ("unusable", why), refusing(why))


def _parse_bytes(origin: Origin, max_model_bytes: int, data: bytes) -> Steps[tuple[Declaration, ...]]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"not UTF-8 at byte {error.start}") from None
    yield
    return (yield from parse(text, origin, max_model_bytes))


def parse(text: str, origin: Origin, max_model_bytes: int = LONGEST_MODEL_BYTES) -> Steps[tuple[Declaration, ...]]:
    """Read a file's text; each of its entries is a Declaration with the line.

    Raises:
        SourceError: the text is not YAML, breaks a rule of the format, or contradicts itself.
    """
    try:
        root = yield from tree(text)
    except YamlError as error:
        raise SourceError(str(error)) from None
    if root is None:
        raise SourceError("the file is empty: it needs a list called models")
    fields = _mapping(root, "the file", {*_TABLE, "scopes"})
    if not fields:
        raise SourceError(f"line {root.line}: the file needs a list called models")
    reader = _Reader(origin, max_model_bytes)
    yield from reader.table(fields)
    yield from reader.scopes(fields.get("scopes"))
    yield from reader.check()
    return tuple(reader.declarations)


class _Reader:
    """Collects what the entries of one file declare."""

    def __init__(self, origin: Origin, max_model_bytes: int) -> None:
        self.declarations: list[Declaration] = []
        self._origin = origin
        self._max_model_bytes = max_model_bytes
        self._scope = ""
        self._lines: dict[tuple[str, Kind, str, str], int] = {}  # where each claim stands: scope, what, name, of which

    def table(self, fields: dict[str, Node]) -> Steps[None]:
        yield from self._models(fields.get("models"))
        yield from self._aliases(fields.get("aliases"))
        yield from self._grants(fields.get("allow"))

    def scopes(self, node: Node | None) -> Steps[None]:
        if node is None or _is_null(node):
            return
        for line, name, value in scopes_of.read(node):
            self._scope = name
            fields = _mapping(value, f"the scope {name}", {*_TABLE, "hosts"})
            hosts = scopes_of.hosts(fields["hosts"]) if "hosts" in fields else ()
            for place, host in hosts:
                self._lines["", Kind.HOST, host, name] = place
            # Also one without anything in it exists.
            self._declare(line, hosts=tuple(host for _, host in hosts))
            yield from self.table(fields)
            yield

    def _models(self, node: Node | None) -> Steps[None]:
        if node is None:
            return
        for number, entry in enumerate(_sequence(node, "models"), 1):
            fields = _mapping(entry, "an entry of models", {"name", "adapters", "allow"})
            if "name" not in fields:
                raise SourceError(f"line {entry.line}: an entry of models needs a name")
            name = self._name(fields["name"], "the name")
            adapters = yield from self._adapters(fields.get("adapters"), name)
            allow = fields.get("allow")
            grants = () if allow is None else (Grant(name, grants_of.askers(allow, name)),)
            self._declare(entry.line, models=(BaseModel(name, adapters),), grants=grants)
            if number % _STEP_NAMES == 0:
                yield

    def _adapters(self, node: Node | None, base_model: str) -> Steps[tuple[str, ...]]:
        if node is None or _is_null(node):
            return ()
        adapters = []
        for number, item in enumerate(_sequence(node, "adapters"), 1):
            adapter = self._name(item, "the adapter")
            if why := patterns.fault(adapter):
                raise SourceError(f"line {item.line}: the adapter {adapter} {why}")
            self._lines.setdefault((self._scope, Kind.ADAPTER, adapter, base_model), item.line)
            adapters.append(adapter)
            if number % _STEP_NAMES == 0:
                yield
        return tuple(adapters)

    def _aliases(self, node: Node | None) -> Steps[None]:
        if node is None or _is_null(node):
            return
        for number, (line, alias) in enumerate(aliases_of.read(node, self._name), 1):
            for target in (alias.model, *(model for model, _ in alias.weights)):
                self._lines[self._scope, Kind.ALIAS, alias.name, target] = line
            self._declare(line, aliases=(alias,))
            if number % _STEP_NAMES == 0:
                yield

    def _grants(self, node: Node | None) -> Steps[None]:
        if node is None or _is_null(node):
            return
        for number, (line, grant) in enumerate(grants_of.read(node, self._name), 1):
            self._declare(line, grants=(grant,))
            if number % _STEP_NAMES == 0:
                yield

    def check(self) -> Steps[None]:
        """Refuse a file whose claims contradict each other. An alias may stand for a model of some other file."""
        _, conflicts = yield from merging(self.declarations)
        for name, kept, refused, why, scope in conflicts:
            if kept is None and not why:
                continue
            target = refused.alias_of or refused.base_model
            line = self._lines[scope, refused.kind, name, target]
            if kept is not None and not why:
                why = f"it is an adapter of {kept.base_model} already"
                if kept.kind is Kind.BASE_MODEL:
                    why = "it is a base model itself"
            raise SourceError(f"line {line}: {name} can't be {refused.kind.article} {refused.kind} of {target}: {why}")

    def _declare(
        self,
        line: int,
        models: tuple[BaseModel, ...] = (),
        aliases: tuple[Alias, ...] = (),
        grants: tuple[Grant, ...] = (),
        hosts: tuple[str, ...] = (),
    ) -> None:
        origin = self._origin._replace(line=line)
        self.declarations.append(Declaration(origin, models, aliases, grants, self._scope, hosts))

    def _name(self, node: Node, what: str) -> str:
        if not isinstance(node, Scalar) or node.null:
            raise SourceError(f"line {node.line}: {what} must be text")
        text = node.text.strip()
        if not text:
            raise SourceError(f"line {node.line}: {what} is empty")
        try:
            return check_model(text, self._max_model_bytes)
        except Refusal as refused:
            raise SourceError(f"line {node.line}: {refused.about(what)}") from None


def _mapping(node: Node, what: str, known: set[str]) -> dict[str, Node]:
    fields: dict[str, Node] = {}
    *first, last = sorted(known)
    for key, value in _pairs(node, f"{what} must be a mapping; its keys can be {', '.join(first)} and {last}"):
        name = key.text if isinstance(key, Scalar) else "(a list or a mapping)"
        if name not in known:
            shown = name if len(name) <= MAX_ECHO_CHARACTERS else f"{name[:MAX_ECHO_CHARACTERS]}..."
            raise SourceError(f"line {key.line}: {what} has the unknown key {shown}; known: {', '.join(sorted(known))}")
        if name in fields:  # PyYAML would silently take the last
            raise SourceError(f"line {key.line}: {name} occurs twice in {what}")
        fields[name] = value
    return fields


def _pairs(node: Node, rule: str) -> Iterator[tuple[Node, Node]]:
    if not isinstance(node, Mapping):
        raise SourceError(f"line {node.line}: {rule}")
    return iter(node.pairs)


def _sequence(node: Node, what: str) -> list[Node]:
    if not isinstance(node, Sequence):
        raise SourceError(f"line {node.line}: {what} must be a list")
    return node.items


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.null
