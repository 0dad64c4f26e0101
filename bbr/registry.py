"""The model table: an immutable snapshot that tells a requested model's base model.

Pure: no I/O, no logging. Sources build a new Registry and publish it by one assignment; readers never lock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, Self


class BaseModel(NamedTuple):
    """One base model and the adapters that are served on it, as one source object declares them."""

    name: str
    adapters: tuple[str, ...] = ()


class Conflict(NamedTuple):
    """A name that was claimed twice: `name` goes on meaning `kept`, the claim by `refused` is ignored."""

    name: str
    kept: str
    refused: str


@dataclass(frozen=True, slots=True)
class Registry:
    """A snapshot: requested model name -> base model name.

    Attributes:
        base_of: every known name and its base model; a base model's own name maps to itself.
        identity: without any table every model is its own base model.
    """

    base_of: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    identity: bool = True

    @classmethod
    def merge(cls, models: Iterable[BaseModel]) -> tuple[Self, list[Conflict]]:
        """Build a table from base models in their order of precedence.

        A base model's own name always means itself; an adapter that several base models claim belongs to the first.
        A base model named twice is one base model with the adapters of both.

        Returns:
            The table, and the claims that lost, in the order found.
        """
        models = list(models)
        base_of = {model.name: model.name for model in models}
        conflicts = []
        for model in models:
            for adapter in model.adapters:
                owner = base_of.setdefault(adapter, model.name)
                if owner != model.name:
                    conflicts.append(Conflict(adapter, kept=owner, refused=model.name))
        return cls(MappingProxyType(base_of), identity=False), conflicts

    def resolve(self, model: str) -> str | None:
        """Return the base model that serves `model`, or None if the table does not hold it."""
        if self.identity:
            return model
        return self.base_of.get(model)

    @property
    def base_models(self) -> tuple[str, ...]:
        """The base models' names, in the table's order."""
        return tuple(dict.fromkeys(self.base_of.values()))
