"""The model outside the body: in a URL's query, and in its path by an operator's templates.

Pure. The gateway, the router and the server may each read a path in another way (see `bbr.reading.path_readings`). So a
path is read in each of these ways, and taken only if it names the same model, or none, in all of them.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from bbr import refusal
from bbr.reading import name as model
from bbr.reading import path_readings
from bbr.reading.form import FormReader
from bbr.reading.templates import Allowance, PathSegments, Template

# A longer query is not looked at: a form is read in steps, a query at once.
MAX_QUERY_BYTES: Final = 8 << 10
# Keys of a query that must be looked at, of 3 us each. Honest queries have none but `model`.
MAX_QUERY_KEYS: Final = 50

_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9a-fA-F]{2})")
_ESCAPED_COLON: Final = re.compile(rb"%3[aA]")

# Paths that are known again, with their models: 500 KB at most.
_CACHED: Final = 1024
_CACHED_BYTES: Final = 256


class PathModel(NamedTuple):
    """A model that a path names.

    Attributes:
        name: its name.
        longer: what else a body may call it: with the segments before it, as in `models/NAME`.
    """

    name: str
    longer: tuple[str, ...] = ()


def model_in_query(path: bytes, max_model_bytes: int = model.MAX_MODEL_BYTES) -> str | None:
    """Return the `model` of a request target's query, or None if it has none.

    Args:
        path: the :path pseudo-header, with its query.
        max_model_bytes: a longer name is refused.

    Raises:
        Refusal: 400; the model is not usable, or not all servers would read the same one. 414; the query is too long.
    """
    _, mark, query = path.partition(b"?")
    if not mark:
        return None
    if len(query) > MAX_QUERY_BYTES:
        raise refusal.url_too_long("query", MAX_QUERY_BYTES)
    name = _read_query(query, max_model_bytes)
    # It may also end in the midst of a key.
    if b"#" in path and (name is not None or _read_query(query.partition(b"#")[0], max_model_bytes) is not None):
        raise refusal.form_model("query of the URL", "the URL contains a #, at which it ends for some servers")
    return name


def _read_query(query: bytes, max_model_bytes: int) -> str | None:
    reader = FormReader(max_model_bytes, "query of the URL")
    at = 0
    while at < len(query):
        at = reader.feed(query, at)
        if reader.judged > MAX_QUERY_KEYS:
            raise refusal.form_model(
                "query of the URL", f"it has more than {MAX_QUERY_KEYS} keys that some servers could read as `model`"
            )
    return reader.end()


def model_in_query_of(path: bytes, paths: frozenset[bytes], max_model_bytes: int = model.MAX_MODEL_BYTES) -> str | None:
    """Return the `model` of a request target's query if its path is one of those on which a query names one.

    Args:
        path: the :path pseudo-header, with its query.
        paths: as an operator has named them.
        max_model_bytes: a longer name is refused.

    Raises:
        Refusal: as `model_in_query`, and 400 if the path is one of them for some servers only.
    """
    bare, mark, _ = path.partition(b"?")
    if not mark:
        return None
    exact = bare in paths
    if not exact and not _could_be_one_of(bare, paths):
        return None
    name = model_in_query(path, max_model_bytes)
    if name is not None and not exact:
        raise refusal.path_ambiguous("in another spelling it is a path on which the query names the model")
    return name


def _could_be_one_of(path: bytes, paths: frozenset[bytes]) -> bool:
    ways = path_readings.readings(path)
    if ways is None:
        return bool(paths)
    return not _folded(paths).isdisjoint(way.lower().rstrip(b"/") for way, _ in ways)


@lru_cache(16)
def _folded(paths: frozenset[bytes]) -> frozenset[bytes]:
    return frozenset(path.lower().rstrip(b"/") for path in paths)


def model_in_path(
    path: bytes, templates: Sequence[Template], max_model_bytes: int = model.MAX_MODEL_BYTES
) -> PathModel | None:
    """Return the model that a request target's path names by one of the templates, or None if none fits.

    Args:
        path: the :path pseudo-header; its query is left out.
        templates: as `parse_templates` returns them.
        max_model_bytes: a longer name is refused.

    Raises:
        Refusal: 400; the model is not usable, or it depends on how the path is read. 414; the path is too long.
    """
    if not templates:
        return None
    path = path.partition(b"?")[0]
    if len(path) > path_readings.MAX_PATH_BYTES:
        raise refusal.url_too_long("path", path_readings.MAX_PATH_BYTES)
    find = _find_in_path if len(path) > _CACHED_BYTES else _cached_find_in_path
    return find(path, tuple(templates), max_model_bytes)


def _find_in_path(path: bytes, templates: tuple[Template, ...], max_model_bytes: int) -> PathModel | None:
    names, prefixes = _named_in_each_way(path, _longest_first(templates))
    if names == {None}:
        return None
    if len(names) > 1:
        raise refusal.path_ambiguous("unchanged, decoded, and with its dots and slashes resolved")
    (name,) = names
    if name is None or _BROKEN_ESCAPE.search(path):
        raise refusal.path_ambiguous("a % in it is no escape")
    if not name:
        raise refusal.model_empty("URL path")
    try:
        text = model.check_model(name.decode(), max_model_bytes)
    except UnicodeDecodeError:
        raise refusal.path_ambiguous("its model is not UTF-8") from None
    return PathModel(text, tuple(prefix + text for prefix in sorted(prefixes)))


_cached_find_in_path = lru_cache(_CACHED)(_find_in_path)


def _named_in_each_way(path: bytes, templates: Sequence[Template]) -> tuple[set[bytes | None], frozenset[str]]:
    """Return the models that a path names in the ways to read it, None for none, and what may stand before them.

    If there are several, some are left out.

    Args:
        path: without its query.
        templates: the longest first.

    Raises:
        Refusal: 400; there are too many ways, or places where a name could begin.
    """
    # Clients escape the colon before a verb too. As it stands it would be no verb, and RFC 3986 (section 3.3) has a
    # colon in a segment mean the same, escaped or not.
    allowance = Allowance()
    if _ESCAPED_COLON.search(path):
        segments = PathSegments(path, allowance)
        if not any(template.models(segments) for template in templates):
            path = _ESCAPED_COLON.sub(b":", path)
    ways = path_readings.readings(path)
    if ways is None:
        raise refusal.path_ambiguous(
            f"a path with escapes, dots or double slashes may have {path_readings.MAX_ODD_PATH_BYTES} bytes, and at "
            f"most {path_readings.MAX_READINGS} ways to resolve them"
        )
    names: set[bytes | None] = set()
    prefixes: frozenset[str] = frozenset()
    for reading, decoded in ways:
        decode = bytes if decoded else unquote_to_bytes
        in_any_case, before = _named(PathSegments(reading, allowance, any_case=True), templates, decode)
        # In other letters it is no path of the templates' for most, and one for some.
        exact = _named(PathSegments(reading, allowance), templates, decode)[0] if in_any_case else set[bytes]()
        names |= in_any_case | exact
        if not exact:
            names.add(None)
        prefixes |= before
        if len(names) > 1:
            break
    return names, prefixes


def _named(
    path: PathSegments, templates: Sequence[Template], decode: Callable[[bytes], bytes]
) -> tuple[set[bytes], frozenset[str]]:
    """Return the models that templates find in one reading of a path, and what may stand before their names.

    Of templates that begin alike, the one with the longest end counts: `.../{model}/chat/completions` before
    `.../{model}/completions`. If there are several names, some are left out.
    """
    heads = set[str]()
    names, prefixes = set[bytes](), frozenset[str]()
    for template in templates:
        if template.head not in heads and (found := template.models(path)):
            heads.add(template.head)
            names |= set(map(decode, found))
            prefixes |= template.prefixes
            if len(names) > 1:
                break
    return names, prefixes


@lru_cache(16)
def _longest_first(templates: tuple[Template, ...]) -> tuple[Template, ...]:
    return tuple(sorted(templates, key=lambda template: -len(template.text)))
