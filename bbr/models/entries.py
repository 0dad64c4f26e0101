"""What objects declare, what each name of the model table stands for, and which contradicting entries lose. Pure."""

import enum
from collections.abc import Iterable
from typing import NamedTuple


class Origin(NamedTuple):
    """The object that declares something, for people, and for its precedence.

    Attributes:
        kind: what sort of object it is: `file`, `ConfigMap`.
        name: its name; a file's path.
        namespace: its namespace, or "".
        created: seconds since the epoch; older objects win. 0 for files, which so come before all others: what is
            written into the router's own configuration should not depend on a file's date.
        line: where in the object, counted from 1, or 0.
    """

    kind: str = ""
    name: str = ""
    namespace: str = ""
    created: float = 0.0
    line: int = 0

    @property
    def precedence(self) -> tuple[float, str, str, str, int]:
        """Compare less than that of every object whose claims lose against this one's."""
        return self.created, self.namespace, self.name, self.kind, self.line

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        line = f", line {self.line}" if self.line else ""
        return f"{self.kind} {name}{line}"


class BaseModel(NamedTuple):
    """One base model and the adapters that are served on it, as one object declares them."""

    name: str
    adapters: tuple[str, ...] = ()


class Alias(NamedTuple):
    """Another name for a base model or an adapter: a request for `name` is routed as one for `model`.

    Attributes:
        name: the alias.
        model: what it stands for; the first, if it stands for several.
        weights: of several, each with the weight of its share, in their order; empty for one alone.
    """

    name: str
    model: str
    weights: tuple[tuple[str, int], ...] = ()


class Grant(NamedTuple):
    """Who may use a model.

    Attributes:
        name: of a base model, an adapter or an alias.
        askers: those who may, by name; "*" is everyone whose name is known. Empty: nobody.
    """

    name: str
    askers: frozenset[str]


class Declaration(NamedTuple):
    """What one object, or one entry of it, declares. All names are trimmed and usable (`bbr.reading.name.check_model`).

    Attributes:
        origin: the object. Two declarations with equal origins are in the order in which they are given.
        models: base models in their order of precedence; one may stand several times.
        aliases: in their order of precedence.
        grants: in any order. Whoever asks for a model has to be in all lists that are declared for it, so that no
            object can open what another one closes.
        scope: the scope in which all this exists; "" for everywhere.
        hosts: of the scope, as bbr.models.hosts.declared returns them.
        discovered: adapters that model servers list, of base models that others declare: they exist where these do.
    """

    origin: Origin
    models: tuple[BaseModel, ...] = ()
    aliases: tuple[Alias, ...] = ()
    grants: tuple[Grant, ...] = ()
    scope: str = ""
    hosts: tuple[str, ...] = ()
    discovered: tuple[BaseModel, ...] = ()


class Kind(enum.StrEnum):
    """What a name of the table is."""

    BASE_MODEL = "base model"
    ADAPTER = "adapter"
    ALIAS = "alias"
    # Neither is a name of the table: they only stand in claims that lost.
    HOST = "host"
    SCOPE = "scope"

    @property
    def article(self) -> str:
        """The word that stands before it in a sentence."""
        return "an" if self.value[0] == "a" else "a"


class Share(NamedTuple):
    """One of several models that an alias stands for.

    Attributes:
        model: a base model or an adapter.
        base_model: the base model that serves it.
        weight: its share of the requests is this, of all weights together; 0: it gets none.
    """

    model: str
    base_model: str
    weight: int


def described(shares: Iterable[Share]) -> str:
    """Return shares for people, with their weights in brackets."""
    return ", ".join(f"{share.model} ({share.weight})" for share in shares)


class Entry(NamedTuple):
    """What a name of the table stands for. Names that one object declares alike share their entry.

    Attributes:
        base_model: the base model that serves it; a base model's own name.
        kind: see Kind.
        origin: the object that declares it; of several that agree, the first.
        alias_of: the model that an alias stands for, or None: the name stands for itself.
        shares: the models that an alias of several stands for; `alias_of` and `base_model` are then those of the first.
            Empty for one alone.
        pattern: of a name that many fit: the pattern; "" of any other.
    """

    base_model: str
    kind: Kind
    origin: Origin
    alias_of: str | None = None
    shares: tuple[Share, ...] = ()
    pattern: str = ""

    @property
    def what(self) -> str:
        """What it is, for people."""
        kind = f"{self.kind} pattern" if self.pattern else str(self.kind)
        if self.kind is not Kind.ALIAS:
            return kind
        return f"{kind} of {described(self.shares) or self.alias_of}"


class Conflict(NamedTuple):
    """A claim that is ignored: `name` goes on meaning what `kept` says.

    Attributes:
        name: the name that was claimed twice.
        kept: what it means; None if it means nothing, since it is an alias of a model that the table does not hold.
        refused: what the ignored claim would have made of it.
        why: the reason, if it is a pattern that another one keeps out, or the number of them; if model servers claim
            it; or of a scope or its host.
        scope: the scope in which this is so; "" for everywhere.
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
