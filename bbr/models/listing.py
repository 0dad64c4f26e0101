"""The answers to GET /v1/models and GET /v1/models/{id}, in OpenAI's format.

Pure.
"""

from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

import orjson

from bbr import refusal
from bbr.models.registry import Entry, Kind, Registry

MAX_BYTES: Final = 60_000

_PATH: Final = b"/v1/models"
_MAX_PATH_BYTES: Final = 4 << 10
_OWNER: Final = "bbr"

# No entry of a list is shorter: this tells at once that a large table is too large.
_SHORTEST_ENTRY_BYTES: Final = 75


def asked_for(method: bytes, path: bytes) -> str | None:
    """Tell what of the list a request asks for: "" for all of it, a model's name, or None if it is another request.

    A name may hold slashes, escaped or not. Other spellings of the path than the API's own are other requests, and so
    are paths of more than 4 KiB.
    """
    if method != b"GET" or not path.startswith(_PATH):
        return None
    path = path.partition(b"?")[0]
    if len(path) > _MAX_PATH_BYTES:
        return None
    if path == _PATH:
        return ""
    if not path.startswith(_PATH + b"/"):
        return None
    try:
        return unquote_to_bytes(path[len(_PATH) + 1 :]).decode() or None
    except UnicodeDecodeError:
        return None


class ModelsList:
    """Answers for a table, of which the last snapshot's whole list is kept.

    Args:
        max_bytes: a longer answer is none.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._registry: Registry | None = None
        self._all: bytes | None = None

    def answer(self, registry: Registry, name: str) -> bytes | None:
        """Return the JSON that tells of `name`, or of all models if it is empty; None if that is too long.

        Raises:
            Refusal: 404; the table does not hold the name. 503; it is not complete yet.
        """
        if not registry.complete:
            raise refusal.table_incomplete()
        if name:
            entry = registry.find(name)
            if entry is None:
                raise refusal.model_not_found(name)
            found = orjson.dumps(_model(name, entry))
            return found if len(found) <= self._max_bytes else None
        if registry is not self._registry:
            self._all = self._list(registry)
            self._registry = registry
        return self._all

    def _list(self, registry: Registry) -> bytes | None:
        if registry.size * _SHORTEST_ENTRY_BYTES > self._max_bytes:
            return None
        found = orjson.dumps({"object": "list", "data": [*_models(registry)]})
        return found if len(found) <= self._max_bytes else None


def _models(registry: Registry) -> Iterator[dict[str, object]]:
    """Give what can be named: no client could choose a pattern."""
    for name, entry in in_order(registry):
        if not entry.pattern:
            yield _model(name, entry)


def in_order(registry: Registry) -> Iterator[tuple[str, Entry]]:
    """Give the base models in their order of precedence, each before its adapters and aliases, those by name."""
    place = {name: number for number, name in enumerate(registry.base_models)}
    kinds = list(Kind)
    yield from sorted(
        registry.items(), key=lambda item: (place[item[1].base_model], kinds.index(item[1].kind), item[0])
    )


def _model(name: str, entry: Entry) -> dict[str, object]:
    """Return a model as vLLM lists it: `parent` is an adapter's base model, `root` what a name stands for."""
    root = entry.alias_of or name
    return {
        "id": name,
        "object": "model",
        "created": int(entry.origin.created),
        "owned_by": _OWNER,
        "root": root,
        "parent": None if root == entry.base_model else entry.base_model,
    }
