"""Model tables for whoever needs one without a source."""

from collections.abc import Iterable

from bbr.models.entries import BaseModel, Conflict, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.registry import Registry
from bbr.models.steps import finish


def merged(models: Iterable[BaseModel]) -> tuple[Registry, list[Conflict]]:
    """Build a table at once from base models of one object, in their order of precedence."""
    return finish(merging([Declaration(Origin(), tuple(models))]))
