"""The answers to GET /v1/models and GET /v1/models/{id}, in OpenAI's format or in Anthropic's.

Pure.
"""

import datetime
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

import orjson

from bbr import refusal
from bbr.models.access import NOBODY, is_listed
from bbr.models.entries import Entry, Kind
from bbr.models.registry import Registry

MAX_BYTES: Final = 60_000

_PATH: Final = b"/v1/models"
# Of the answer to a HEAD a gateway sends the headers alone.
_METHODS: Final = frozenset((b"GET", b"HEAD"))
_MAX_PATH_BYTES: Final = 4 << 10
_OWNER: Final = "bbr"

# No entry of a list in either format is shorter: so a large table is known at once to be too large.
_SHORTEST_ENTRY_BYTES: Final = 75

# Of lists that are kept, and how many of them: to make a long one takes several milliseconds, and there may be one for
# each scope that a client asks in.
MAX_KEPT_BYTES: Final = 4 << 20
MAX_LISTS: Final = 4096


def asked_for(method: bytes, path: bytes) -> str | None:
    """Tell what of the list a request asks for: "" for all of it, a model's name, or None if it is another request.

    A name may hold slashes, escaped or not. A slash at the end does not count, as for most servers. Other spellings of
    the path than the API's own are other requests, and so are paths of more than 4 KiB.
    """
    if method not in _METHODS or not path.startswith(_PATH):
        return None
    path = path.partition(b"?")[0]
    if len(path) > _MAX_PATH_BYTES:
        return None
    path = path.rstrip(b"/")
    if path == _PATH:
        return ""
    if not path.startswith(_PATH + b"/"):
        return None
    try:
        return unquote_to_bytes(path[len(_PATH) + 1 :]).decode()
    except UnicodeDecodeError:
        return None


class ModelsList:
    """Answers for a table, of which the last snapshot's lists are kept, for the last few who asked.

    Args:
        max_bytes: a longer answer is none.
        max_kept_bytes: of the lists that are kept.
        max_lists: how many of them are.
    """

    def __init__(
        self, max_bytes: int = MAX_BYTES, *, max_kept_bytes: int = MAX_KEPT_BYTES, max_lists: int = MAX_LISTS
    ) -> None:
        self._max_bytes = max_bytes
        self._max_kept_bytes = max_kept_bytes
        self._max_lists = max_lists
        self._snapshot: object = None
        # By scope, by who may use what is in it, and by format.
        self._lists: dict[tuple[str, frozenset[str], bool], bytes | None] = {}
        self._kept_bytes = 0

    def answer(
        self, registry: Registry, name: str, askers: frozenset[str] = NOBODY, *, anthropic: bool = False
    ) -> bytes | None:
        """Return the JSON that describes `name`, or all models if it is empty; None if that is too long.

        Args:
            registry: the table.
            name: of a model, or "".
            askers: the names of whoever asks: the list has what these may use.
            anthropic: in Anthropic's format.

        Raises:
            Refusal: 404; the table does not hold the name. 403; whoever asks may not use it. 503; the table is not
                complete yet.
        """
        if not registry.complete:
            raise refusal.table_incomplete()
        if name:
            entry = registry.find(name)
            if entry is None:
                raise refusal.model_not_found(name)
            if registry.grants and not is_listed(registry, name, entry, askers):
                raise refusal.model_not_allowed(name)
            return self._short(_anthropic_model(name, entry) if anthropic else _model(name, entry))
        if registry.snapshot is not self._snapshot:
            self._lists.clear()
            self._kept_bytes = 0
            self._snapshot = registry.snapshot
        key = (registry.scope, askers if registry.grants else NOBODY, anthropic)
        if key not in self._lists:
            found = self._list(registry, *key[1:])
            self._kept_bytes += len(found or b"")
            while self._lists and (len(self._lists) >= self._max_lists or self._kept_bytes > self._max_kept_bytes):
                self._kept_bytes -= len(self._lists.pop(next(iter(self._lists))) or b"")
            self._lists[key] = found
        return self._lists[key]

    def _list(self, registry: Registry, askers: frozenset[str], anthropic: bool) -> bytes | None:
        # Whatever the asker may not use: a table that is too large is not looked through.
        if registry.size * _SHORTEST_ENTRY_BYTES > self._max_bytes:
            return None
        describe = _anthropic_model if anthropic else _model
        models: list[dict[str, object]] = []
        least = 0
        for name, entry in _named(registry, askers):
            least += _SHORTEST_ENTRY_BYTES + len(name) - 1
            if least > self._max_bytes:
                return None
            models.append(describe(name, entry))
        if not anthropic:
            return self._short({"object": "list", "data": models})
        first, last = (models[0]["id"], models[-1]["id"]) if models else (None, None)
        # One page, whatever `limit` asks for: clients go on while there is more.
        return self._short({"data": models, "has_more": False, "first_id": first, "last_id": last})

    def _short(self, found: dict[str, object]) -> bytes | None:
        encoded = orjson.dumps(found)
        return encoded if len(encoded) <= self._max_bytes else None


def _named(registry: Registry, askers: frozenset[str]) -> Iterator[tuple[str, Entry]]:
    """Give what can be named, and may be used: no client could choose a pattern."""
    for name, entry in in_order(registry):
        if not entry.pattern and (not registry.grants or is_listed(registry, name, entry, askers)):
            yield name, entry


def in_order(registry: Registry) -> Iterator[tuple[str, Entry]]:
    """Give the base models in their order of precedence, each before its adapters and aliases, those by name.

    Of a scope's table the scope's own base models come first.
    """
    yield from _sorted(registry, registry.items())


def own_in_order(registry: Registry) -> Iterator[tuple[str, Entry]]:
    """Give what is declared for a scope alone, as `in_order` does."""
    yield from _sorted(registry, registry.own_items())


def _sorted(registry: Registry, items: Iterable[tuple[str, Entry]]) -> Iterable[tuple[str, Entry]]:
    names = (*registry.base_models, *(registry.shared.base_models if registry.shared else ()))
    place: dict[str, int] = {}
    for name in names:
        place.setdefault(name, len(place))
    kinds = list(Kind)
    return sorted(items, key=lambda item: (place[item[1].base_model], kinds.index(item[1].kind), item[0]))


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


def _anthropic_model(name: str, entry: Entry) -> dict[str, object]:
    """Return a model as Anthropic lists it."""
    return {"type": "model", "id": name, "display_name": name, "created_at": _time(int(entry.origin.created))}


@lru_cache(256)  # most models of a table are of a few objects
def _time(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
