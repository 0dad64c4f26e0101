"""What tests ask of a model table."""

from bbr.models.registry import Registry


def base_model_of(registry: Registry, name: str) -> str | None:
    """Return the base model that serves a name, or None if the table does not hold it."""
    if registry.identity:
        return name
    entry = registry.find(name)
    return None if entry is None else entry.base_model
