"""What happens to a request by its model name: the table, and the operator's rules for unknown names. Pure."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bbr import refusal
from bbr.models.entries import Kind, Origin, Share
from bbr.models.registry import Registry


class UnknownModel(enum.Enum):
    """What happens to a request for a model that the table does not hold."""

    REJECT = "reject"  # 404
    PASSTHROUGH = "passthrough"  # the name counts as a base model
    EMPTY = "empty"  # the base model's header is set, and empty, as the Go routers do it
    DEFAULT = "default"  # it is routed as one for the default model


class MissingModel(enum.Enum):
    """What happens to a request whose body was read and names no model."""

    PASS = "pass"  # noqa: S105 (no password); it is forwarded without routing headers
    REJECT = "reject"  # 400
    DEFAULT = "default"  # it is routed as one for the default model


class Rule(enum.StrEnum):
    """Why a request is routed as it is, if not because the table holds its model."""

    NO_TABLE = "without a table every model is its own base model"
    UNKNOWN_PASSTHROUGH = "the table does not hold it: --unknown-model=passthrough"
    UNKNOWN_EMPTY = "the table does not hold it: --unknown-model=empty"
    UNKNOWN_DEFAULT = "the table does not hold it: --unknown-model=default"
    MISSING_DEFAULT = "the request names no model: --missing-model=default"


class Route(NamedTuple):
    """How a request is routed.

    Attributes:
        model: for X-Gateway-Model-Name: the requested model, or the one that stands for it (an alias, a default).
        base_model: for X-Gateway-Base-Model-Name; "" by --unknown-model=empty.
        rule: why: a rule, or what the table says that the requested model is.
        origin: the object that declares the model, if any does.
        shares: of an alias of several models: `model` is then the first, until one is chosen (bbr.models.shares).
        pattern: that the requested model fits, if it is not in the table itself; else "".
    """

    model: str
    base_model: str
    rule: Rule | Kind
    origin: Origin | None = None
    shares: tuple[Share, ...] = ()
    pattern: str = ""

    @property
    def why(self) -> str:
        """The rule, for people."""
        if isinstance(self.rule, Rule):
            return str(self.rule)
        if self.pattern:
            return f"it fits the pattern {self.pattern} of {'adapters' if self.rule is Kind.ADAPTER else 'an alias'}"
        return f"it is {'a' if self.rule is Kind.BASE_MODEL else 'an'} {self.rule}"


@dataclass(frozen=True, slots=True)
class Rules:
    """The operator's rules.

    Attributes:
        unknown_model: see UnknownModel.
        missing_model: see MissingModel.
        default_model: for those that say default: a base model, an adapter or an alias.
        draw: gives a number from 0 up to 1 at random, for aliases of several models.
        sticky_header: requests that have equal values in this header get the same model of an alias; in small letters,
            "" for none.
    """

    unknown_model: UnknownModel = UnknownModel.REJECT
    missing_model: MissingModel = MissingModel.PASS
    default_model: str = ""
    draw: Callable[[], float] = field(default=lambda: 0.0, compare=False, repr=False)
    sticky_header: str = ""


# Looked up once: a member of an enum takes long, and so does a NamedTuple's own constructor (0.4 us for each request).
_NO_TABLE: Final = Rule.NO_TABLE
_new_route: Final = tuple.__new__


def route(registry: Registry, rules: Rules, requested: str) -> Route:
    """Route a request for a usable model name.

    Raises:
        Refusal: 404; the model is unknown, and the rules say so. 503, whatever they say, before the table is complete.
    """
    return _known(registry, requested) or _unknown(registry, rules, requested)


def route_unnamed(registry: Registry, rules: Rules) -> Route | None:
    """Route a request whose body was read and names no model; None if it is forwarded without routing headers.

    Raises:
        Refusal: 400, if the rules say so; 500 if they name a default model that the table does not hold; 503, if the
            table is not complete yet.
    """
    if rules.missing_model is MissingModel.PASS:
        return None
    if rules.missing_model is MissingModel.REJECT:
        raise refusal.model_missing()
    default = _known(registry, rules.default_model)
    if default is None:
        raise refusal.default_model_unknown()
    return default._replace(rule=Rule.MISSING_DEFAULT)


def _known(registry: Registry, requested: str) -> Route | None:
    if registry.identity:
        return _new_route(Route, (requested, requested, _NO_TABLE, None, (), ""))
    entry = registry.find(requested)
    if entry is None:
        if not registry.complete:
            raise refusal.table_incomplete()
        return None
    base_model, kind, origin, alias_of, shares, pattern = entry
    return _new_route(Route, (alias_of or requested, base_model, kind, origin, shares, pattern))


def _unknown(registry: Registry, rules: Rules, requested: str) -> Route:
    match rules.unknown_model:
        case UnknownModel.PASSTHROUGH:
            return Route(requested, requested, Rule.UNKNOWN_PASSTHROUGH)
        case UnknownModel.EMPTY:
            return Route(requested, "", Rule.UNKNOWN_EMPTY)
        case UnknownModel.DEFAULT:
            default = _known(registry, rules.default_model)
            if default:
                return default._replace(rule=Rule.UNKNOWN_DEFAULT)
    raise refusal.model_not_found(requested)
