"""The records of the model table: what objects declare, what each name means, and which declarations lose. Pure."""

import enum
from collections.abc import Iterable
from typing import NamedTuple


class Origin(NamedTuple):
    """The object that declares something. Messages name it, and it decides which declaration wins.

    Attributes:
        kind: `file` or `ConfigMap`, for example.
        name: its name, or a file's path.
        namespace: its namespace, or "".
        created: seconds since the epoch. Older objects win. It is 0 for files, so they win over all others: the
            router's own configuration should not depend on a file's date.
        line: the line in the object, counted from 1, or 0.
    """

    kind: str = ""
    name: str = ""
    namespace: str = ""
    created: float = 0.0
    line: int = 0

    @property
    def precedence(self) -> tuple[float, str, str, str, int]:
        """A key to sort by: of two declarations of one name, the one with the smaller key wins."""
        return self.created, self.namespace, self.name, self.kind, self.line

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        line = f", line {self.line}" if self.line else ""
        return f"{self.kind} {name}{line}"


class BaseModel(NamedTuple):
    """A base model and its adapters, as one object declares them."""

    name: str
    adapters: tuple[str, ...] = ()


class Alias(NamedTuple):
    """Another name for a base model or an adapter: a request for `name` is routed as one for `model`.

    Attributes:
        name: the alias.
        model: the model that it stands for; the first one if there are several.
        weights: each model with its weight, in the order of the declaration, if there are several; else empty.
    """

    name: str
    model: str
    weights: tuple[tuple[str, int], ...] = ()


class Grant(NamedTuple):
    """Who may use a model.

    Attributes:
        name: a base model, an adapter or an alias.
        askers: the names of those who may use it. "*" is everyone whose name is known. Empty: nobody may.
    """

    name: str
    askers: frozenset[str]


class Declaration(NamedTuple):
    """What one object, or one entry of it, declares. All names are trimmed and usable (`bbr.reading.name.check_model`).

    Attributes:
        origin: the object. Of two declarations with equal origins, the one that is given first wins.
        models: base models in their order of precedence. One may occur several times.
        aliases: in their order of precedence.
        grants: in any order. A client must be in all lists that are declared for a model, so that no object can open
            a model that another one closes.
        scope: the scope in which the declarations hold; "" for everywhere.
        hosts: the scope's hosts, as bbr.models.hosts.declared returns them.
        discovered: adapters that model servers list, for base models that other objects declare. An adapter exists
            wherever its base model does.
    """

    origin: Origin
    models: tuple[BaseModel, ...] = ()
    aliases: tuple[Alias, ...] = ()
    grants: tuple[Grant, ...] = ()
    scope: str = ""
    hosts: tuple[str, ...] = ()
    discovered: tuple[BaseModel, ...] = ()


class Kind(enum.StrEnum):
    """The kind of a name in the table."""

    BASE_MODEL = "base model"
    ADAPTER = "adapter"
    ALIAS = "alias"
    # These two are never names of the table. They occur only in a Conflict.
    HOST = "host"
    SCOPE = "scope"

    @property
    def article(self) -> str:
        """The article before it in a sentence: a or an."""
        return "an" if self.value[0] == "a" else "a"


class Share(NamedTuple):
    """One of several models that an alias stands for.

    Attributes:
        model: a base model or an adapter.
        base_model: the base model that serves it.
        weight: it gets this part of the sum of all weights; with 0 it gets no requests.
    """

    model: str
    base_model: str
    weight: int


def described(shares: Iterable[Share]) -> str:
    """Return shares as text, with their weights in brackets."""
    return ", ".join(f"{share.model} ({share.weight})" for share in shares)


class Entry(NamedTuple):
    """What a name of the table means. Names that one object declares in the same way share their entry.

    Attributes:
        base_model: the base model that serves it. For a base model, its own name.
        kind: see Kind.
        origin: the object that declares it; the first one if several agree.
        alias_of: the model that an alias stands for; None if the name is not an alias.
        shares: the models of an alias that stands for several. `alias_of` and `base_model` are then those of the first.
            Empty for all other names.
        pattern: the pattern, if this is the entry of one; else "".
    """

    base_model: str
    kind: Kind
    origin: Origin
    alias_of: str | None = None
    shares: tuple[Share, ...] = ()
    pattern: str = ""

    @property
    def what(self) -> str:
        """The kind of the name as text, and for an alias its models."""
        kind = f"{self.kind} pattern" if self.pattern else str(self.kind)
        if self.kind is not Kind.ALIAS:
            return kind
        return f"{kind} of {described(self.shares) or self.alias_of}"


class Conflict(NamedTuple):
    """A declaration that is ignored.

    Attributes:
        name: the name that it declares.
        kept: what the name means; None if it means nothing, because the alias's model is not in the table.
        refused: what the name would mean by the ignored declaration.
        why: the reason, if it is not simply another declaration of the name: for patterns, for scopes and their hosts,
            and for adapters that model servers list. Else "".
        scope: the scope of the declaration; "" for everywhere.
    """

    name: str
    kept: Entry | None
    refused: Entry
    why: str = ""
    scope: str = ""

    def __str__(self) -> str:
        kind = self.refused.kind
        target = self.refused.alias_of or self.refused.base_model
        where = f"scope {self.scope}: " if self.scope else ""
        what = f"{where}{self.name} can't be {kind.article} {kind} of {target} ({self.refused.origin})"
        if self.why:
            return f"{what}: {self.why}"
        if self.kept is None:
            return f"{what}: {target} is neither a base model nor an adapter"
        if self.kept.kind is Kind.BASE_MODEL:
            return f"{what}: it is a base model itself ({self.kept.origin})"
        return f"{what}: it is an {self.kept.kind} of {self.kept.alias_of or self.kept.base_model} ({self.kept.origin})"
