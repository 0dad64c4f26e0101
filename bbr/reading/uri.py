"""The model outside the body: in a URL's query, and in its path by an operator's templates.

Pure. The gateway, the router and the server may each read a path in another way (see `bbr.reading.path_readings`). So a
path is read in each of these ways, and taken only if it names the same model, or none, in all of them.
"""

import re
from collections.abc import Sequence
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


class Template:
    """A pattern of paths that name a model.

    It is compared segment by segment: a place where it could begin is tried once, and of the model's segment only the
    longest and the shortest name that fit. So the time is in proportion to the path's.

    Attributes:
        text: as the operator wrote it.
    """

    __slots__ = ("_anywhere", "_literals", "_model_index", "_model_parts", "_open_end", "_patterns", "text")

    def __init__(self, text: str) -> None:
        """Read a template.

        Raises:
            ValueError: the message names the template and the rule.
        """
        segments = _checked_segments(text)
        self.text = text
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

    def models(self, path: bytes) -> set[bytes]:
        """Return the names that a path gives by this template, as they stand in it: none, one, or several."""
        first, *segments = path.split(b"/")
        if first:
            return set()
        found = set()
        for start in self._starts(segments):
            if all(map(self._fits, range(len(self._literals)), segments[start:])):
                found |= self._names(segments[start + self._model_index])
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

    def _names(self, segment: bytes) -> set[bytes]:
        """Return the longest and the shortest name that a segment gives."""
        before, behind, star, end = self._model_parts
        first = len(before)
        last = len(segment) - len(end)  # behind what a star stands for
        if not (segment.startswith(before) and segment.endswith(end) and first < last):
            return set()
        if not star:
            name = segment[first:last].removesuffix(behind)
            return {name} if name and segment.endswith(behind + end) else set()
        ends = (segment.find(behind, first + 1, last), segment.rfind(behind, first + 1, last))
        return {segment[first:place] for place in ends if place >= 0}

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
    """Return the models that the templates find in one reading of a path; only None if there is none."""
    names = {name for template in templates for name in template.models(path)}
    return {name if decoded else unquote_to_bytes(name) for name in names} or {None}


def _checked_segments(text: str) -> list[str]:
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
    return segments
