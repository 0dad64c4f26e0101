"""The model outside the body: in a URL's query, and in its path by an operator's templates.

Pure. The gateway, the router and the server may each read a path in another way: Envoy does not normalise paths unless
told to (normalize_path, merge_slashes and path_with_escaped_slashes_action are off or "keep" by default; Istio and
Envoy Gateway turn some on), servers decode before or after they match, and Tomcat cuts path parameters off. So a path
is read in each of these ways, and taken only if it names the same model, or none, in all of them.
"""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from bbr import refusal
from bbr.reading import name as model
from bbr.reading.form import FormReader

MAX_TEMPLATES: Final = 32
MAX_TEMPLATE_CHARACTERS: Final = 512
# Longer paths are refused if there is more than one way to read them: reading one in every way takes a millisecond.
MAX_PATH_BYTES: Final = 1 << 10

_PLACEHOLDER: Final = "{model}"
_LITERAL: Final = re.compile(r"[0-9A-Za-z._~!$&'()+,=:@-]*")
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9a-fA-F]{2})")
# A path in which there is none of these reads the same in every way: escapes, doubled slashes, dot segments, and so on.
_ODD: Final = re.compile(rb"[%\\;#]|//|/\.\.?(?:/|$)")
_ESCAPED_SLASH: Final = re.compile(rb"%(?:2[fF]|5[cC])")


class Template(NamedTuple):
    """A pattern of paths that name a model.

    Attributes:
        text: as the operator wrote it.
        patterns: for the same paths, taking as much and as little as possible for the model.
    """

    text: str
    patterns: tuple[re.Pattern[bytes], re.Pattern[bytes]]


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
    return tuple(map(_template, texts))


def model_in_query(path: bytes, max_model_bytes: int = model.MAX_MODEL_BYTES) -> str | None:
    """Return the `model` of a request target's query, or None if it has none.

    Args:
        path: the :path pseudo-header, with its query.
        max_model_bytes: a longer name is refused.

    Raises:
        Refusal: 400; the model is not usable, or not all servers would read the same one.
    """
    _, mark, query = path.partition(b"?")
    if not mark:
        return None
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
        Refusal: 400; the model is not usable, or it depends on how the path is read.
    """
    if not templates:
        return None
    path = path.partition(b"?")[0]
    odd = is_odd(path)
    if odd and len(path) > MAX_PATH_BYTES:
        raise refusal.path_ambiguous(
            f"it is longer than {MAX_PATH_BYTES} bytes, with escapes, dots or slashes to resolve"
        )
    ways = readings(path) if odd else {(path, False)}
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
    return {name if decoded else unquote_to_bytes(name) for name in _models(path, templates)} or {None}


def _models(path: bytes, templates: Sequence[Template]) -> Iterator[bytes]:
    for template in templates:
        for pattern in template.patterns:
            match = pattern.fullmatch(path)
            if match:
                yield match[1]


def is_odd(path: bytes) -> bool:
    """Tell whether a path can be read in more ways than one."""
    return _ODD.search(path) is not None


def readings(path: bytes) -> set[tuple[bytes, bool]]:
    """Return a path as gateways and servers may see it, each with whether escapes are decoded in it.

    Every choice of: escapes decoded, what follows a # cut off, backslashes taken for slashes, path parameters cut off,
    slashes merged, dot segments resolved; in this order.
    """
    found = {(path, False), (unquote_to_bytes(path), True)}
    for normalise in _NORMALISERS:
        found |= {(normalise(reading), decoded) for reading, decoded in found}
    return found


def _resolve_dots(path: bytes) -> bytes:
    """Remove dot segments, escaped ones too (RFC 3986, section 5.2.4)."""
    out: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments[1:]:
        plain = segment.replace(b"%2e", b".").replace(b"%2E", b".")
        if plain == b"..":
            del out[-1:]
        elif plain != b".":
            out.append(segment)
    if segments[-1] in (b".", b".."):
        out.append(b"")
    return b"/" + b"/".join(out)


_NORMALISERS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda path: path.partition(b"#")[0],
    lambda path: path.replace(b"\\", b"/"),
    functools.partial(re.compile(rb";[^/]*").sub, b""),
    functools.partial(re.compile(rb"//+").sub, b"/"),
    _resolve_dots,
)


def _template(text: str) -> Template:
    def wrong(rule: str) -> ValueError:
        return ValueError(f"has the path template {text[:MAX_TEMPLATE_CHARACTERS]!r}, which {rule}")

    if len(text) > MAX_TEMPLATE_CHARACTERS:
        raise wrong(f"is longer than {MAX_TEMPLATE_CHARACTERS} characters")
    if not text.startswith("/"):
        raise wrong("does not begin with a slash")
    if text.count(_PLACEHOLDER) != 1:
        raise wrong(f"does not hold {_PLACEHOLDER} once")
    segments = text[1:].split("/")
    greedy = lazy = ""
    for index, segment in enumerate(segments):
        if segment == "**":
            if 0 < index < len(segments) - 1:
                raise wrong("has ** between other segments; it may stand first or last")
            greedy, lazy = greedy + "(?:/[^/]*)*", lazy + "(?:/[^/]*)*?"
            continue
        if segment.count("*") > 1 or ("*" in segment and segment.index("*") < segment.find(_PLACEHOLDER)):
            raise wrong(f"has more than one * in a segment, or one before {_PLACEHOLDER}")
        literals = segment.replace(_PLACEHOLDER, "").replace("*", "")
        if segment in ("", ".", "..") or not _LITERAL.fullmatch(literals):
            raise wrong("has an empty segment, a dot segment, or a character that a path does not have")
        pattern = "/" + re.escape(segment).replace(re.escape(_PLACEHOLDER), _PLACEHOLDER).replace(r"\*", "[^/]*")
        greedy += pattern.replace(_PLACEHOLDER, "([^/]+)")
        lazy += pattern.replace(_PLACEHOLDER, "([^/]+?)")
    return Template(text, (re.compile(greedy.encode()), re.compile(lazy.encode())))
