"""Templates of URL paths that name a model, as the vendors' APIs have them.

Pure. A template's two ends are compared with a path's, and what is left between them is the name. So each segment of a
path is looked at a few times at most, whatever stands in it.
"""

import re
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from bbr.reading import globs

MAX_TEMPLATES: Final = 32
MAX_TEMPLATE_CHARACTERS: Final = 512

_PLACEHOLDER: Final = "{model}"
_LITERAL: Final = re.compile(r"[0-9A-Za-z._~!$&'()+,=:@-]*+")

# The paths of vendors' own clients, by a word that stands for all of them.
VENDORS: Final = {
    # The operations that an Azure OpenAI deployment has; the clients of openai for Python and Node know the same.
    "azure-openai": tuple(
        f"/openai/deployments/{_PLACEHOLDER}/{operation}"
        for operation in (
            "chat/completions",
            "completions",
            "embeddings",
            "audio/transcriptions",
            "audio/translations",
            "audio/speech",
            "images/generations",
            "images/edits",
        )
    ),
    # google.api.http has a verb behind the last colon: `v1beta/models/NAME:generateContent`, and Vertex AI's longer
    # paths. Names with a slash are `org/NAME` in it.
    "gemini": (f"/**/models/{_PLACEHOLDER}:*",),
    # The operations of botocore's service model bedrock-runtime that name a model.
    "bedrock": tuple(
        f"/model/{_PLACEHOLDER}/{operation}"
        for operation in (
            "invoke",
            "invoke-with-response-stream",
            "invoke-with-bidirectional-stream",
            "converse",
            "converse-stream",
            "count-tokens",
        )
    ),
}


class _Shape:
    """The segments of a template, as they stand or in small letters, and how they are compared with a path's."""

    def __init__(self, text: str) -> None:
        segments = text[1:].split("/")
        self._anywhere = segments[0] == "**"
        self._open_end = segments[-1] == "**"
        segments = [segment for segment in segments if segment != "**"]
        index = next(index for index, segment in enumerate(segments) if _PLACEHOLDER in segment)
        before, _, behind = segments[index].partition(_PLACEHOLDER)
        behind, star, end = behind.partition("*")
        self._before = before.encode()
        self._behind, self._star, self._end = behind.encode(), bool(star), end.encode()
        self._head = _Segments(segments[:index])
        self._tail = _Segments(segments[index + 1 :])

    def models(self, segments: list[bytes], originals: list[bytes]) -> set[bytes]:
        """Return the names that a path's segments give, cut out of `originals`: none, one, or several.

        A name may be empty. If a path gives more than two, two of them are told.
        """
        # With an open end nothing tells where a name of several segments would stop, so it has one.
        return self._of_one_segment(segments, originals) if self._open_end else self._between(segments, originals)

    def _between(self, segments: list[bytes], originals: list[bytes]) -> set[bytes]:
        last = len(segments) - len(self._tail) - 1  # the segment in which the name ends
        if last < 0 or not self._tail.fit(segments, last + 1):
            return set()
        end = self._name_end(segments[last])
        if end < 0:
            return set()
        head, before = len(self._head), len(self._before)
        starts = [
            start
            for start in self._starts(segments, last - head + 1)
            if segments[start + head].startswith(self._before) and (start + head < last or before <= end)
        ]
        # From one place to begin at on, another one gives another name. So the first and the last tell all.
        found = set()
        for start in {*starts[:1], *starts[-1:]}:
            first = start + head
            whole = b"/".join([*originals[first:last], originals[last][:end]])
            found.add(whole[before:])
        return found

    def _of_one_segment(self, segments: list[bytes], originals: list[bytes]) -> set[bytes]:
        found = set()
        head, before = len(self._head), len(self._before)
        for start in self._starts(segments, len(segments) - head - len(self._tail)):
            index = start + head
            end = self._name_end(segments[index])
            if segments[index].startswith(self._before) and before <= end and self._tail.fit(segments, index + 1):
                found.add(originals[index][before:end])
        return found

    def _starts(self, segments: list[bytes], room: int) -> Sequence[int]:
        """Return the places where the segments before the name's stand, with `room` places to begin at."""
        return self._head.places(segments, room if self._anywhere else min(room, 1))

    def _name_end(self, segment: bytes) -> int:
        """Return where the name ends in its last segment, or -1 if that does not end as the template's does."""
        end = len(segment) - len(self._end)
        if not segment.endswith(self._end):
            return -1
        if self._star:
            # The last one: a name may have colons, and a verb has none. Nor has it escapes.
            place = segment.rfind(self._behind, 0, end)
            return place if b"%" not in segment[place:] else -1
        return end - len(self._behind) if segment.endswith(self._behind + self._end) else -1


class _Segments:
    """Segments that have no placeholder."""

    def __init__(self, segments: Sequence[str]) -> None:
        self._literals = [None if "*" in segment else segment.encode() for segment in segments]
        self._patterns = [re.compile(globs.segment(segment).encode()) for segment in segments]

    def __len__(self) -> int:
        return len(self._literals)

    def fit(self, segments: list[bytes], start: int) -> bool:
        """Tell whether a path's segments from `start` on are these; there may be more behind them."""
        return all(map(self._fits, range(len(self._literals)), segments[start : start + len(self._literals)]))

    def places(self, segments: list[bytes], room: int) -> Sequence[int]:
        """Return where among the first `room` places of a path these stand."""
        index, literal = next(filter(itemgetter(1), enumerate(self._literals)), (0, None))
        return [
            start for start in range(room) if literal in (None, segments[start + index]) and self.fit(segments, start)
        ]

    def _fits(self, index: int, segment: bytes) -> bool:
        literal = self._literals[index]
        return segment == literal if literal is not None else self._patterns[index].fullmatch(segment) is not None


class Template:
    """A pattern of paths that name a model.

    Attributes:
        text: as the operator wrote it.
        head: what stands before the name, in small letters.
        prefixes: what a vendor's clients may write before the name in a body: the segments before it, each with its
            slash; `models/` of `/**/models/{model}:*`.
    """

    __slots__ = ("_any_case", "_exact", "head", "prefixes", "text")

    def __init__(self, text: str) -> None:
        """Read a template.

        Raises:
            ValueError: the message names the template and the rule.
        """
        _check(text)
        self.text = text
        self.head = text.partition(_PLACEHOLDER)[0].lower()
        self.prefixes = _prefixes(text)
        self._exact = _Shape(text)
        self._any_case = _Shape(text.lower())

    def models(self, path: bytes, *, any_case: bool = False) -> set[bytes]:
        """Return the names that a path gives by this template, as they stand in it: none, one, or several.

        A name may be empty. A slash at the path's end does not count. If a path gives more than two names, two of them
        are told.

        Args:
            path: in one of the ways to read it.
            any_case: compare letters without regard to case; the names keep theirs.
        """
        first, *segments = path.rstrip(b"/").split(b"/")
        if first or not segments:
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

    A template is a path. `{model}` stands once, for one or more characters, slashes among them, with a literal before
    and behind it if need be; `*` for any characters within a segment; `**`, as the first or last segment, for any
    number of segments. With `**` at the end `{model}` has no slash, since nothing tells where the name ends. `:*`
    behind it is a verb, which begins at the last colon. Examples: `/openai/deployments/{model}/chat/completions` (Azure
    OpenAI), `/**/models/{model}:*` (Gemini, Vertex AI), `/model/{model}/invoke` (Bedrock). A vendor's name (VENDORS)
    stands for all paths of its clients.

    Raises:
        ValueError: the message names the template and the rule.
    """
    texts = [each for word in text.replace(",", " ").split() for each in VENDORS.get(word, (word,))]
    if len(texts) > MAX_TEMPLATES:
        raise ValueError(f"has {len(texts)} path templates; at most {MAX_TEMPLATES} are allowed")
    return tuple(map(Template, texts))


def _prefixes(text: str) -> frozenset[str]:
    before, _, _ = text.partition(_PLACEHOLDER)
    *segments, literal = before[1:].split("/")
    found: list[str] = []
    while not literal and segments and "*" not in segments[-1]:
        found.append(f"{segments.pop()}/{found[-1] if found else ''}")
    return frozenset(found)


def _check(text: str) -> None:
    """Raise a ValueError about a text that is no template."""

    def wrong(rule: str) -> ValueError:
        return ValueError(f"has the path template {text[:MAX_TEMPLATE_CHARACTERS]!r}, which {rule}")

    if len(text) > MAX_TEMPLATE_CHARACTERS:
        raise wrong(f"is longer than {MAX_TEMPLATE_CHARACTERS} characters")
    if not text.startswith("/"):
        raise wrong(f"does not begin with a slash, and is none of the vendors {', '.join(VENDORS)}")
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
