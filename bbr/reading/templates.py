"""Templates of URL paths that name a model, as in the APIs of Azure OpenAI, Gemini and Bedrock.

Pure. A template's beginning and end are compared with those of a path, and the name is what is left between them. So
each segment of a path is compared a few times at most, for any path. A template is compared with a path only if the
path has its longest literal segments. Templates with the same beginning search for it once.
"""

import re
from collections.abc import Sequence
from typing import Final

from bbr import refusal
from bbr.reading import globs

MAX_TEMPLATES: Final = 32
MAX_TEMPLATE_CHARACTERS: Final = 512
# How many segments of one path may be compared, over all ways to read it. Each takes two microseconds.
MAX_COMPARED: Final = 500

# Skipping this many segments counts as comparing one.
_PASSED_OVER: Final = 64

_PLACEHOLDER: Final = "{model}"
_LITERAL: Final = re.compile(r"[0-9A-Za-z._~!$&'()+,=:@-]*+")

# A vendor's word -> the paths of the vendor's own clients.
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
    # OpenAI's API until 2022, which LiteLLM serves beside that of today.
    "openai-engines": tuple(
        f"/**/engines/{_PLACEHOLDER}/{operation}" for operation in ("chat/completions", "completions", "embeddings")
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


class Allowance:
    """How many more segments of one path may be compared, over all ways to read it."""

    __slots__ = ("_left",)

    def __init__(self, left: int = MAX_COMPARED) -> None:
        self._left = left

    def spend(self, segments: int) -> None:
        """Count segments that are compared.

        Raises:
            Refusal: 400; the path has too many.
        """
        self._left -= segments
        if self._left < 0:
            raise refusal.path_ambiguous("too many of its segments could stand before a model's name")


class PathSegments:
    """The segments of a path in one of the ways to read it. All templates share this object.

    Attributes:
        any_case: letter case is ignored.
        compared: the segments, in small letters if letter case is ignored.
        originals: the segments as the path has them.
        allowance: shared by all ways to read the path.
    """

    __slots__ = ("_places", "_present", "allowance", "any_case", "compared", "originals")

    def __init__(self, path: bytes, allowance: Allowance, *, any_case: bool = False) -> None:
        """Split a path. Slashes at its end do not count. Without a slash at its beginning it has no segments."""
        path = path.rstrip(b"/")
        self.allowance = allowance
        self.any_case = any_case
        self.originals = path[1:].split(b"/") if path.startswith(b"/") else []
        self.compared = path[1:].lower().split(b"/") if any_case and self.originals else self.originals
        self._present = frozenset(self.compared)
        self._places: dict[tuple[str, ...], Sequence[int]] = {}

    def has(self, literal: bytes | None) -> bool:
        """Tell whether a literal is one of the segments; True if the literal is None."""
        return literal is None or literal in self._present

    def places(self, head: "_Segments") -> Sequence[int]:
        """Return the places where a template's head begins, in ascending order. Templates with this head share them."""
        found = self._places.get(head.texts)
        if found is None:
            found = self._places[head.texts] = head.places(self)
        return found


class _Segments:
    """A row of a template's segments without the placeholder.

    Attributes:
        texts: the segments as the template has them.
        rarest: the longest segment without a star; None if all have one.
    """

    def __init__(self, segments: Sequence[str]) -> None:
        self.texts = tuple(segments)
        self._literals = [None if "*" in segment else segment.encode() for segment in segments]
        self._patterns = [re.compile(globs.segment(segment).encode()) for segment in segments]
        self.rarest = max(filter(None, self._literals), key=len, default=None)

    def __len__(self) -> int:
        return len(self.texts)

    def fit(self, path: PathSegments, start: int) -> bool:
        """Tell whether the path's segments from `start` on fit these. The path may have more segments, or fewer."""
        if not self.texts:
            return True
        path.allowance.spend(len(self.texts))
        return all(map(self._fits, range(len(self.texts)), path.compared[start : start + len(self.texts)]))

    def places(self, path: PathSegments) -> Sequence[int]:
        """Return the places of a path where these segments begin, in ascending order."""
        segments = path.compared
        last = len(segments) - len(self)
        if not self.texts:
            return range(last + 1)
        if self.rarest is None:
            return [start for start in range(last + 1) if self.fit(path, start)]
        found = []
        alone = len(self.texts) == 1
        path.allowance.spend(len(segments) // _PASSED_OVER)
        before = self._literals.index(self.rarest)
        start = _index(segments, self.rarest, before) - before
        while 0 <= start <= last:
            if alone or self.fit(path, start):
                found.append(start)
            start = _index(segments, self.rarest, start + before + 1) - before
        return found

    def _fits(self, index: int, segment: bytes) -> bool:
        literal = self._literals[index]
        return segment == literal if literal is not None else self._patterns[index].fullmatch(segment) is not None


def _index(segments: list[bytes], literal: bytes, start: int) -> int:
    """Return the next place of a literal from `start` on, or a place far behind the last segment."""
    try:
        return segments.index(literal, start)
    except ValueError:
        return 2 * len(segments) + MAX_TEMPLATE_CHARACTERS


class _Shape:
    """A template's segments, compiled to compare them with a path. There is one with and one without letter case."""

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

    def models(self, path: PathSegments) -> set[bytes]:
        """Return the names that a path gives, in its own letters: none, one, or several.

        A name may be empty. If a path gives more than two, two of them are returned.
        """
        if not (path.originals and path.has(self._head.rarest) and path.has(self._tail.rarest)):
            return set()
        # With ** at the end nothing shows where a name with slashes would end, so the name has one segment.
        return self._of_one_segment(path) if self._open_end else self._between(path)

    def _between(self, path: PathSegments) -> set[bytes]:
        segments, originals = path.compared, path.originals
        last = len(segments) - len(self._tail) - 1  # the segment in which the name ends
        if last < 0 or not self._tail.fit(path, last + 1):
            return set()
        end = self._name_end(segments[last])
        if end < 0:
            return set()
        head, before = len(self._head), len(self._before)
        # Each possible beginning gives another name, and two names are enough to refuse. So the first and the last do.
        starts = self._starts(path)
        found = set()
        for ordered in (starts, starts[::-1]):
            for start in ordered:
                path.allowance.spend(1)
                first = start + head
                if first <= last and segments[first].startswith(self._before) and (first < last or before <= end):
                    whole = b"/".join([*originals[first:last], originals[last][:end]])
                    found.add(whole[before:])
                    break
        return found

    def _of_one_segment(self, path: PathSegments) -> set[bytes]:
        segments = path.compared
        found = set[bytes]()
        head, before = len(self._head), len(self._before)
        for start in self._starts(path):
            index = start + head
            if index >= len(segments) - len(self._tail) or len(found) > 1:
                break
            path.allowance.spend(1)
            end = self._name_end(segments[index])
            if segments[index].startswith(self._before) and before <= end and self._tail.fit(path, index + 1):
                found.add(path.originals[index][before:end])
        return found

    def _starts(self, path: PathSegments) -> Sequence[int]:
        """Return the places where the segments before the name begin, in order. The name may not fit behind some."""
        if self._anywhere:
            return path.places(self._head)
        return (0,) if self._head.fit(path, 0) else ()

    def _name_end(self, segment: bytes) -> int:
        """Return where the name ends in its last segment; -1 if that segment does not end as the template's does."""
        end = len(segment) - len(self._end)
        if not segment.endswith(self._end):
            return -1
        if self._star:
            # At the last colon: a name may have colons, a verb has neither colons nor escapes.
            place = segment.rfind(self._behind, 0, end)
            return place if b"%" not in segment[place:] else -1
        return end - len(self._behind) if segment.endswith(self._behind + self._end) else -1


class Template:
    """A pattern of paths that name a model.

    Attributes:
        text: as the operator wrote it.
        head: the text before the placeholder, in small letters.
        prefixes: what a vendor's clients may write before the name in a body: the segments before it, each with its
            slash; `models/` of `/**/models/{model}:*`.
    """

    __slots__ = ("_any_case", "_exact", "head", "prefixes", "text")

    def __init__(self, text: str) -> None:
        """Read a template.

        Raises:
            ValueError: the message is the rule, without its subject.
        """
        _check(text)
        self.text = text
        self.head = text.partition(_PLACEHOLDER)[0].lower()
        self.prefixes = _prefixes(text)
        self._exact = _Shape(text)
        self._any_case = _Shape(text.lower())

    def models(self, path: PathSegments) -> set[bytes]:
        """Return the names that this template finds in a path, as the path has them: none, one, or two.

        A name may be empty. If the template finds more than two names, two of them are returned.

        Raises:
            Refusal: 400; the path's allowance is spent.
        """
        return (self._any_case if path.any_case else self._exact).models(path)

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
    number of segments. With `**` at the end `{model}` has no slash, since nothing shows where the name ends. `:*`
    behind it is a verb, which begins at the last colon. Examples: `/openai/deployments/{model}/chat/completions` (Azure
    OpenAI), `/**/models/{model}:*` (Gemini, Vertex AI), `/model/{model}/invoke` (Bedrock). A vendor's name (VENDORS)
    stands for all paths of its clients.

    Raises:
        ValueError: the message names the template and the rule.
    """
    texts = [each for word in text.replace(",", " ").split() for each in VENDORS.get(word, (word,))]
    if len(texts) > MAX_TEMPLATES:
        raise ValueError(f"has {len(texts)} path templates; at most {MAX_TEMPLATES} are allowed")
    return globs.read_each(texts, Template)


def _prefixes(text: str) -> frozenset[str]:
    before, _, _ = text.partition(_PLACEHOLDER)
    *segments, literal = before[1:].split("/")
    found: list[str] = []
    while not literal and segments and "*" not in segments[-1]:
        found.append(f"{segments.pop()}/{found[-1] if found else ''}")
    return frozenset(found)


def _check(text: str) -> None:
    """Raise a ValueError about a text that is no template; its sentence lacks the subject."""
    if len(text) > MAX_TEMPLATE_CHARACTERS:
        raise ValueError(f"must not be longer than {MAX_TEMPLATE_CHARACTERS} characters")
    if not text.startswith("/"):
        raise ValueError(f"must begin with a slash, or be the name of a vendor ({', '.join(VENDORS)})")
    if text.count(_PLACEHOLDER) != 1:
        raise ValueError(f"must have {_PLACEHOLDER} exactly once")
    segments = text[1:].split("/")
    for index, segment in enumerate(segments):
        if segment == "**":
            if 0 < index < len(segments) - 1:
                raise ValueError("may have ** only as the first or the last segment")
            continue
        if segment.count("*") > 1 or ("*" in segment and segment.index("*") < segment.find(_PLACEHOLDER)):
            raise ValueError(f"may have only one * in a segment, and none before {_PLACEHOLDER}")
        if segment in ("", ".", ".."):
            raise ValueError("must not have an empty segment (as in //), . or ..")
        if not _LITERAL.fullmatch(segment.replace(_PLACEHOLDER, "").replace("*", "")):
            raise ValueError("has a character that a path pattern cannot have, such as %, ? or another {placeholder}")
