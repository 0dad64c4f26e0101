"""What a ConfigMap of the Go body-based routers declares.

    data:
      baseModel: Qwen/Qwen2.5-3B-Instruct
      adapters: |
        - sql-lora
        - summarize-lora

Taken as the Go routers take it, leniencies included, so that objects which work there work here:

- names are trimmed; entries that are blank, or null, are left out;
- `adapters` may be absent, blank, or hold nothing but comments: then there are none;
- an entry that is no text in YAML (1, true, 1.50) is taken as it is written: it can only be meant as a name;
- other keys of `data` are somebody else's, but for `aliases`, `allow` and `hosts`, which theirs do not know.

`aliases` are written as in a model file (bbr.sources.aliases); an object that has some needs no base model:

      aliases: |
        gpt-4o: sql-lora
        chat: {Qwen/Qwen2.5-3B-Instruct: 90, Qwen/Qwen3-4B: 10}

`allow` says who may use which of them (bbr.sources.grants). It can name models of its own object alone, or whoever may
write one ConfigMap could close the models of all others:

      allow: |
        sql-lora: [team-a]

A label says in which scope all of it exists; `hosts` are the scope's (bbr.sources.scopes). Without the label everything
exists everywhere, and there are no hosts:

      hosts: |
        - team-a.example.com

A ConfigMap that breaks a rule is refused whole, and the sentence says which entry breaks which rule.
"""

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final, TypeVar

import msgspec

from bbr.models import patterns
from bbr.models.entries import Alias, BaseModel, Declaration, Grant, Origin
from bbr.models.steps import Steps
from bbr.reading.name import LONGEST_MODEL_BYTES, check_model
from bbr.refusal import Refusal
from bbr.sources import grants, scopes
from bbr.sources.aliases import read
from bbr.sources.objects import SourceError
from bbr.yaml_tree import MAX_NODES, Node, Scalar, Sequence, YamlError, tree

T = TypeVar("T")

KIND: Final = "ConfigMap"

BASE_MODEL: Final = "baseModel"
ADAPTERS: Final = "adapters"
ALIASES: Final = "aliases"
ALLOW: Final = "allow"
HOSTS: Final = "hosts"

# An object is the router's if one of these labels has this very value: those of the Gateway API Inference Extension's
# router, and of its successor.
LABELS: Final = ("inference.networking.k8s.io/bbr-managed", "inference.llm-d.ai/ipp-managed")
LABEL_VALUE: Final = "true"

# Entries of `adapters`. An object has a megabyte at most.
MAX_ADAPTERS: Final = 250_000

# Names checked in one step, 0.2 to 0.4 ms.
_STEP_NAMES: Final = 200


def origin(namespace: str, name: str, created: datetime.datetime | None) -> Origin:
    """Return the Origin of a ConfigMap; one without a time of creation comes before those with one."""
    return Origin(KIND, name, namespace, created.timestamp() if created else 0.0)


def parse_bytes(
    origin: Origin, max_model_bytes: int, scope: str | None, encoded: bytes
) -> Steps[tuple[Declaration, ...]]:
    """Read a ConfigMap's `data`, which is given in msgpack; see `parse`."""
    return parse(msgspec.msgpack.decode(encoded, type=dict[str, str]), origin, max_model_bytes, scope)


def parse(
    data: Mapping[str, str],
    origin: Origin,
    max_model_bytes: int = LONGEST_MODEL_BYTES,
    scope: str | None = None,
) -> Steps[tuple[Declaration, ...]]:
    """Read a ConfigMap's `data`, a step at a time.

    Args:
        data: its `data`.
        origin: the ConfigMap, for people, and for its precedence.
        max_model_bytes: a longer name is an error: no request could ever name it.
        scope: the value of its label scopes.SCOPE_LABEL; None without it.

    Raises:
        SourceError: a rule is broken; the message names key, line and rule, and leaves the object's name to the caller.
    """
    hosts: tuple[str, ...] = ()
    if scope is None:
        # A typing error in the label's name would show a tenant's models to everyone.
        if data.get(HOSTS, "").strip():
            raise SourceError(f"data.{HOSTS} are those of a scope, which the label {scopes.SCOPE_LABEL} has to name")
    else:
        scopes.name_of(scope, f"the label {scopes.SCOPE_LABEL}")
        hosts = yield from _entries(data, HOSTS, _hosts)
    name_of = partial(_name, max_model_bytes)
    aliases = yield from _entries(data, ALIASES, partial(_aliases, name_of))
    models = yield from _models(data, max_model_bytes, optional=bool(aliases or hosts))
    own = {alias.name for alias in aliases}.union(*((model.name, *model.adapters) for model in models))
    granted = yield from _entries(data, ALLOW, partial(_grants, name_of, own))
    return (Declaration(origin, models, aliases, granted, scope or "", hosts),)


def _models(data: Mapping[str, str], max_model_bytes: int, *, optional: bool) -> Steps[tuple[BaseModel, ...]]:
    """Return the base model with its adapters; none if it is missing and `optional`."""
    where = f"data.{BASE_MODEL}"
    if BASE_MODEL not in data:
        if not optional:
            raise SourceError(f"{where} is missing")
        if data.get(ADAPTERS, "").strip():
            raise SourceError(f"{where} is missing, of which data.{ADAPTERS} are adapters")
        return ()
    base_model = data[BASE_MODEL].strip()
    if not base_model:
        raise SourceError(f"{where} is blank")
    _check(base_model, where, where, max_model_bytes)
    adapters = yield from _entries(data, ADAPTERS, partial(_adapters, max_model_bytes), MAX_ADAPTERS + 1)
    return (BaseModel(base_model, adapters),)


def _entries(
    data: Mapping[str, str], key: str, read: Callable[[Node], Iterable[T]], max_nodes: int = MAX_NODES
) -> Steps[tuple[T, ...]]:
    """Return the entries of one of `data`'s texts, blank ones left out; none if there is nothing in it.

    Args:
        data: see `parse`.
        key: of the text.
        read: gives the entries of the text's root.
        max_nodes: of the text, the root included.

    Raises:
        SourceError: a rule is broken; the message begins with the key.
    """
    found: list[T] = []
    try:
        root = yield from tree(data.get(key, ""), max_nodes)
        if root is None or (isinstance(root, Scalar) and (root.null or not root.text.strip())):
            return ()
        for number, entry in enumerate(read(root), 1):
            if entry:
                found.append(entry)
            if number % _STEP_NAMES == 0:
                yield
    except (SourceError, YamlError) as error:
        raise SourceError(f"data.{key}: {error}") from None
    return tuple(found)


def _hosts(root: Node) -> Iterator[str]:
    return (host for _, host in scopes.hosts(root))


def _aliases(name_of: Callable[[Node, str], str], root: Node) -> Iterator[Alias]:
    return (alias for _, alias in read(root, name_of))


def _grants(name_of: Callable[[Node, str], str], own: set[str], root: Node) -> Iterator[Grant]:
    for line, grant in grants.read(root, name_of):
        if grant.name not in own:
            raise SourceError(f"line {line}: {grant.name} is no model, adapter or alias of this object")
        yield grant


def _name(max_model_bytes: int, node: Node, what: str) -> str:
    if not isinstance(node, Scalar) or node.null or not node.text.strip():
        raise SourceError(f"line {node.line}: {what} must be a name")
    return _check(node.text.strip(), f"line {node.line}", what, max_model_bytes)


def _adapters(max_model_bytes: int, root: Node) -> Iterator[str]:
    """Give the adapters of a list; "" for an entry that is blank, or null."""
    if not isinstance(root, Sequence):
        raise SourceError(f"line {root.line}: must be a YAML list of names")
    for item in root.items:
        if not isinstance(item, Scalar):
            raise SourceError(f"line {item.line}: an adapter must be a name, not a list or a mapping")
        name = "" if item.null else item.text.strip()
        if name:
            _check(name, f"line {item.line}", "the adapter", max_model_bytes)
            if why := patterns.fault(name):
                raise SourceError(f"line {item.line}: the adapter {name} {why}")
        yield name


def _check(name: str, where: str, what: str, max_model_bytes: int) -> str:
    try:
        return check_model(name, max_model_bytes)
    except Refusal as refused:
        why = refused.about(what)
        raise SourceError(why if where == what else f"{where}: {why}") from None
