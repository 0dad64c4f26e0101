"""Model tables that tests make, and what they ask of one."""

from bbr.models.entries import Alias, BaseModel, Conflict, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.registry import Registry
from bbr.models.steps import finish
from bench.harness.model_tables import merged

QWEN = BaseModel("qwen", ("sql-lora", "1"))
LLAMA = BaseModel("llama", ("chat-lora",))


def table(*models: BaseModel) -> Registry:
    """Build a table of base models that do not contradict each other."""
    registry, conflicts = merged(models)
    assert conflicts == []
    return registry


def merge(*declarations: Declaration) -> tuple[Registry, list[Conflict]]:
    """Build a table of declarations; return the claims that lost too."""
    return finish(merging(declarations))


def meanings(registry: Registry) -> dict[str, str]:
    """Return the base model of every name."""
    return {name: entry.base_model for name, entry in registry.items()}


def in_scope(scope, *models, names=(), hosts=(), grants=(), created=1.0):
    """Declare models and aliases (name, model) for a scope, by an object of the cluster; "" is for everyone."""
    origin = Origin("ConfigMap", f"of-{scope or 'all'}", "n", created)
    return Declaration(origin, models, tuple(Alias(*name) for name in names), grants, scope, hosts)


def base_model_of(registry: Registry, name: str) -> str | None:
    """Return the base model that serves a name, or None if the table does not hold it."""
    if registry.identity:
        return name
    entry = registry.find(name)
    return None if entry is None else entry.base_model
