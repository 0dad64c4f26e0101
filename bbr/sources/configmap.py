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
from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec

from bbr.models import patterns
from bbr.models.registry import Alias, BaseModel, Declaration, Grant, Origin, Steps
from bbr.reading.name import LONGEST_MODEL_BYTES, check_model
from bbr.refusal import Refusal
from bbr.sources import grants, scopes
from bbr.sources.aliases import read
from bbr.sources.objects import SourceError
from bbr.yaml_tree import MAX_NODES, Node, Scalar, Sequence, YamlError, tree

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
    """Return the Origin of a ConfigMap; one that does not tell when it was created comes before those that do."""
    return Origin(KIND, name, namespace, created.timestamp() if created else 0.0)


def parse_bytes(
    origin: Origin, max_model_bytes: int, scope: str | None, octets: bytes
) -> Steps[tuple[Declaration, ...]]:
    """Read a ConfigMap's `data`, which is given in msgpack; see `parse`."""
    return parse(msgspec.msgpack.decode(octets, type=dict[str, str]), origin, max_model_bytes, scope)


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
        hosts = yield from _hosts(data.get(HOSTS, ""))
    aliases = yield from _aliases(data.get(ALIASES, ""), max_model_bytes)
    where = (scope or "", hosts)
    if BASE_MODEL not in data and (aliases or hosts):
        if data.get(ADAPTERS, "").strip():
            raise SourceError(f"data.{BASE_MODEL} is missing, of which data.{ADAPTERS} are adapters")
        granted = yield from _grants(data.get(ALLOW, ""), {alias.name for alias in aliases}, max_model_bytes)
        return (Declaration(origin, (), aliases, granted, *where),)
    if BASE_MODEL not in data:
        raise SourceError(f"data.{BASE_MODEL} is missing")
    base_model = data[BASE_MODEL].strip()
    if not base_model:
        raise SourceError(f"data.{BASE_MODEL} is blank")
    _check(base_model, f"data.{BASE_MODEL}", f"data.{BASE_MODEL}", max_model_bytes)
    adapters = yield from _adapters(data.get(ADAPTERS, ""), max_model_bytes)
    own = {base_model, *adapters, *(alias.name for alias in aliases)}
    granted = yield from _grants(data.get(ALLOW, ""), own, max_model_bytes)
    return (Declaration(origin, (BaseModel(base_model, adapters),), aliases, granted, *where),)


def _hosts(text: str) -> Steps[tuple[str, ...]]:
    where = f"data.{HOSTS}"
    root = yield from _tree(text, where, MAX_NODES)
    if root is None:
        return ()
    try:
        return tuple(host for _, host in scopes.hosts(root))
    except SourceError as error:
        raise SourceError(f"{where}: {error}") from None


def _tree(text: str, where: str, max_nodes: int) -> Steps[Node | None]:
    """Read a text of `data`; None if there is nothing in it."""
    try:
        root = yield from tree(text, max_nodes)
    except YamlError as error:
        raise SourceError(f"{where}: {error}") from None
    blank = isinstance(root, Scalar) and (root.null or not root.text.strip())
    return None if blank else root


def _grants(text: str, own: set[str], max_model_bytes: int) -> Steps[tuple[Grant, ...]]:
    where = f"data.{ALLOW}"
    root = yield from _tree(text, where, MAX_NODES)
    if root is None:
        return ()
    found = []
    try:
        for number, (line, grant) in enumerate(grants.read(root, partial(_name, max_model_bytes)), 1):
            if grant.name not in own:
                raise SourceError(f"line {line}: {grant.name} is no model, adapter or alias of this object")
            found.append(grant)
            if number % _STEP_NAMES == 0:
                yield
    except SourceError as error:
        raise SourceError(f"{where}: {error}") from None
    return tuple(found)


def _name(max_model_bytes: int, node: Node, what: str) -> str:
    if not isinstance(node, Scalar) or node.null or not node.text.strip():
        raise SourceError(f"line {node.line}: {what} must be a name")
    return _check(node.text.strip(), f"line {node.line}", what, max_model_bytes)


def _aliases(text: str, max_model_bytes: int) -> Steps[tuple[Alias, ...]]:
    where = f"data.{ALIASES}"
    root = yield from _tree(text, where, MAX_NODES)
    if root is None:
        return ()
    found = []
    try:
        for number, (_, alias) in enumerate(read(root, partial(_name, max_model_bytes)), 1):
            found.append(alias)
            if number % _STEP_NAMES == 0:
                yield
    except SourceError as error:
        raise SourceError(f"{where}: {error}") from None
    return tuple(found)


def _adapters(text: str, max_model_bytes: int) -> Steps[tuple[str, ...]]:
    where = f"data.{ADAPTERS}"
    root = yield from _tree(text, where, MAX_ADAPTERS + 1)  # with the list itself
    if root is None:
        return ()
    if not isinstance(root, Sequence):
        raise SourceError(f"{where}: line {root.line}: must be a YAML list of names")
    names = []
    for number, item in enumerate(root.items, 1):
        if not isinstance(item, Scalar):
            raise SourceError(f"{where}: line {item.line}: an adapter must be a name, not a list or a mapping")
        name = "" if item.null else item.text.strip()
        if name:
            _check(name, f"{where}: line {item.line}", "the adapter", max_model_bytes)
            if why := patterns.fault(name):
                raise SourceError(f"{where}: line {item.line}: the adapter {name} {why}")
            names.append(name)
        if number % _STEP_NAMES == 0:
            yield
    return tuple(names)


def _check(name: str, where: str, what: str, max_model_bytes: int) -> str:
    try:
        return check_model(name, max_model_bytes)
    except Refusal as refused:  # its sentence is meant for a client that sent the name as `model`
        why = refused.message.removesuffix(".").replace("`model`", what)
        raise SourceError(why if where == what else f"{where}: {why}") from None
