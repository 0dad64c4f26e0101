"""The model outside the body: in a URL's query, and in its path by an operator's templates.

Pure. The gateway, the router and the server may each read a path in another way (see `bbr.reading.path_readings`). So a
path is read in each of these ways, and taken only if it names the same model, or none, in all of them.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final
from urllib.parse import unquote_to_bytes

from bbr import refusal
from bbr.reading import globs, path_readings
from bbr.reading import name as model
from bbr.reading.form import FormReader

MAX_TEMPLATES: Final = 32
MAX_TEMPLATE_CHARACTERS: Final = 512
# A longer query is not looked at: a form is read in steps, a query at once.
MAX_QUERY_BYTES: Final = 8 << 10

_PLACEHOLDER: Final = "{model}"
_LITERAL: Final = re.compile(r"[0-9A-Za-z._~!$&'()+,=:@-]*+")
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9a-fA-F]{2})")
_ESCAPED_SLASH: Final = re.compile(rb"%(?:2[fF]|5[cC])")


class _Shape:
    """The segments of a template, as they stand or in small letters, and how they are compared with a path's.

    A place where it could begin is tried once, and of the model's segment only the longest and the shortest name that
    fit. So the time is in proportion to the path's.
    """

    def __init__(self, text: str) -> None:
        segments = text[1:].split("/")
        self._anywhere = segments[0] == "**"
        self._open_end = segments[-1] == "**"
        segments = [segment for segment in segments if segment != "**"]
        self._model_index = next(index for index, segment in enumerate(segments) if _PLACEHOLDER in segment)
        before, _, behind = segments[self._model_index].partition(_PLACEHOLDER)
        behind, star, end = behind.partition("*")
        self._model_parts = (before.encode(), behind.encode(), bool(star), end.encode())
        self._literals = [
            None if "*" in segment or _PLACEHOLDER in segment else segment.encode() for segment in segments
        ]
        self._patterns = [
            re.compile(globs.segment("*" if _PLACEHOLDER in segment else segment).encode()) for segment in segments
        ]

    def models(self, segments: list[bytes], originals: list[bytes]) -> set[bytes]:
        """Return the names that a path's segments give, cut out of `originals`."""
        found = set()
        for start in self._starts(segments):
            if all(map(self._fits, range(len(self._literals)), segments[start:])):
                index = start + self._model_index
                found |= {originals[index][first:last] for first, last in self._names(segments[index])}
        return found

    def _starts(self, segments: list[bytes]) -> Sequence[int]:
        room = len(segments) - len(self._literals)
        if room < 0:
            return ()
        if not self._anywhere:
            return (0,) if self._open_end or not room else ()
        if not self._open_end:
            return (room,)
        index, literal = next(filter(itemgetter(1), enumerate(self._literals)), (0, None))
        return [start for start in range(room + 1) if literal in (None, segments[start + index])]

    def _fits(self, index: int, segment: bytes) -> bool:
        literal = self._literals[index]
        return segment == literal if literal is not None else self._patterns[index].fullmatch(segment) is not None

    def _names(self, segment: bytes) -> Iterator[tuple[int, int]]:
        """Give the ends of the longest and the shortest name in a segment."""
        before, behind, star, end = self._model_parts
        first = len(before)
        last = len(segment) - len(end)  # behind what a star stands for
        if not (segment.startswith(before) and segment.endswith(end)):
            return
        if star:
            ends = (segment.find(behind, first + 1, last), segment.rfind(behind, first + 1, last))
            yield from ((first, place) for place in ends if place >= 0)
        elif first < last - len(behind) and segment.endswith(behind + end):
            yield first, last - len(behind)


class Template:
    """A pattern of paths that name a model.

    Attributes:
        text: as the operator wrote it.
    """

    __slots__ = ("_any_case", "_exact", "text")

    def __init__(self, text: str) -> None:
        """Read a template.

        Raises:
            ValueError: the message names the template and the rule.
        """
        _check(text)
        self.text = text
        self._exact = _Shape(text)
        self._any_case = _Shape(text.lower())

    def models(self, path: bytes, *, any_case: bool = False) -> set[bytes]:
        """Return the names that a path gives by this template, as they stand in it: none, one, or several.

        Args:
            path: in one of the ways to read it.
            any_case: compare letters without regard to case; the names keep theirs.
        """
        first, *segments = path.split(b"/")
        if first:
            return set()
        if not any_case:
            return self._exact.models(segments, segments)
        return self._any_case.models([segment.lower() for segment in segments], segments)

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def parse_templates(text: str) -> tuple[Template, ...]:
    """Return the templates of a setting's text, separated by blanks or commas.

    A template is a path. `{model}` stands once, for one or more characters of one segment, which may have a literal
    before and behind it; `*` for any characters within a segment; `**`, as the first or last segment, for any number of
    segments. Examples: `/openai/deployments/{model}/**` (Azure OpenAI), `/**/models/{model}:*` (Gemini, Vertex AI),
    `/model/{model}/invoke` (Bedrock).

    Raises:
        ValueError: the message names the template and the rule.
    """
    texts = text.replace(",", " ").split()
    if len(texts) > MAX_TEMPLATES:
        raise ValueError(f"has {len(texts)} path templates; at most {MAX_TEMPLATES} are allowed")
    return tuple(map(Template, texts))


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
    reader = FormReader(max_model_bytes, "query of the URL")
    at = 0
    while at < len(query):
        at = reader.feed(query, at)
    name = reader.end()
    if name is not None and b"#" in path:
        raise refusal.form_model("query of the URL", "a # stands in the URL, which ends it for some")
    return name


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
        raise refusal.path_ambiguous("in another spelling it is one on which the query names the model")
    return name


def _could_be_one_of(path: bytes, paths: frozenset[bytes]) -> bool:
    if path_readings.is_odd(path):
        if len(path) > path_readings.MAX_ODD_PATH_BYTES:
            return bool(paths)
        ways = {reading for reading, _ in path_readings.readings(path)}
    else:
        ways = {path}
    return not _folded(paths).isdisjoint(way.lower().rstrip(b"/") for way in ways)


@lru_cache(16)
def _folded(paths: frozenset[bytes]) -> frozenset[bytes]:
    return frozenset(path.lower().rstrip(b"/") for path in paths)


def model_in_path(
    path: bytes, templates: Sequence[Template], max_model_bytes: int = model.MAX_MODEL_BYTES
) -> str | None:
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
    odd = path_readings.is_odd(path)
    if odd and len(path) > path_readings.MAX_ODD_PATH_BYTES:
        raise refusal.path_ambiguous(
            f"it is longer than {path_readings.MAX_ODD_PATH_BYTES} bytes, with escapes, dots or slashes to resolve"
        )
    ways = path_readings.readings(path) if odd else {(path, False)}
    found = {name for reading, decoded in ways for name in _named(reading, templates, decoded=decoded)}
    if found == {None}:
        return None
    if len(found) > 1:
        raise refusal.path_ambiguous("as it stands, decoded, and with its dots and slashes resolved")
    (name,) = found
    if name is None or _BROKEN_ESCAPE.search(path) or _ESCAPED_SLASH.search(path):
        raise refusal.path_ambiguous("a % in it is no escape, or stands for a slash")
    try:
        return model.check_model(name.decode(), max_model_bytes)
    except UnicodeDecodeError:
        raise refusal.path_ambiguous("its model is not UTF-8") from None


def _named(path: bytes, templates: Sequence[Template], *, decoded: bool) -> set[bytes | None]:
    """Return the models that the templates find in one reading of a path, also in other letters; None for none."""
    names = {name for template in templates for name in template.models(path, any_case=True)}
    if not names:
        return {None}
    exact = {name for template in templates for name in template.models(path)}
    return {name if decoded else unquote_to_bytes(name) for name in names | exact} | (set() if exact else {None})


def _check(text: str) -> None:
    """Raise a ValueError about a text that is no template."""

    def wrong(rule: str) -> ValueError:
        return ValueError(f"has the path template {text[:MAX_TEMPLATE_CHARACTERS]!r}, which {rule}")

    if len(text) > MAX_TEMPLATE_CHARACTERS:
        raise wrong(f"is longer than {MAX_TEMPLATE_CHARACTERS} characters")
    if not text.startswith("/"):
        raise wrong("does not begin with a slash")
    if text.count(_PLACEHOLDER) != 1:
        raise wrong(f"does not hold {_PLACEHOLDER} once")
    segments = text[1:].split("/")
    for index, segment in enumerate(segments):
        if segment == "**":
            if 0 < index < len(segments) - 1:
                raise wrong("has ** between other segments; it may stand first or last")
            continue
        if segment.count("*") > 1 or ("*" in segment and segment.index("*") < segment.find(_PLACEHOLDER)):
            raise wrong(f"has more than one * in a segment, or one before {_PLACEHOLDER}")
        literals = segment.replace(_PLACEHOLDER, "").replace("*", "")
        if segment in ("", ".", "..") or not _LITERAL.fullmatch(literals):
            raise wrong("has an empty segment, a dot segment, or a character that a path does not have")
