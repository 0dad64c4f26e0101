"""Filters that act unless another one, earlier in the chain, has set metadata: how kgateway turns filters off by route.

It has a set_metadata filter on for a route with `disable`. External authorization looks at the metadata itself; other
filters are wrapped in a matcher that does. tests/integration/test_policies.py tries both in a real Envoy.

Pure: configurations in, an answer out.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from bbr.commands.doctor.node import Node


class _Off(NamedTuple):
    """What keeps a filter from acting: metadata with this value, in this namespace, under these keys."""

    namespace: str
    path: tuple[str, ...]
    value: bool


def turns_off(setter: Node, typed_config: Node) -> bool:
    """Tell whether what a set_metadata filter sets keeps another filter from acting.

    Args:
        setter: a filter's configuration, of any type.
        typed_config: the other filter's, as it stands in http_filters.
    """
    conditions = list(_conditions(typed_config))
    return any(_found(value, each.path) is each.value for each in conditions for value in _set(setter, each.namespace))


def _set(setter: Node, namespace: str) -> Iterator[Any]:
    """Yield what a filter sets in a namespace; nothing if it is no set_metadata filter."""
    if ".set_metadata." not in setter.get("@type").text:
        return
    for each in (setter, *setter.each("metadata")):
        if each.get("metadata_namespace").text == namespace:
            yield each.get("value").value


def _found(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _conditions(config: Node) -> Iterator[_Off]:
    """Yield when a filter does not act; nothing where that is not known."""
    if config.type == "ExtensionWithMatcher":
        matcher = config.get("xds_matcher")
        listed = list(matcher.each("matcher_list", "matchers"))
        if len(listed) == 1 and not matcher.get("on_no_match"):
            single = listed[0].get("predicate", "single_predicate")
            yield from _condition(single.get("input", "typed_config"), single.get("custom_match", "typed_config"))
    else:
        enabled = config.get("filter_enabled_metadata")
        yield from _condition(enabled, enabled)


def _condition(where: Node, what: Node) -> Iterator[_Off]:
    value = what.get("value", "bool_match").value
    if isinstance(value, bool) and what.get("invert").is_true and (namespace := where.get("filter").text):
        yield _Off(namespace, tuple(each.get("key").text for each in where.each("path")), value)
