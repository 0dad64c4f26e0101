"""Which request paths the router reads bodies of: the operator's --include-path and --exclude-path.

Pure. The gateway and the servers may each read a path in another way (see `bbr.reading.path_readings`), so a body is
left unread only if the path is out of scope in each of these ways: no spelling of a path that is read makes it one that
is not.
"""

import re
from functools import lru_cache
from typing import Final

from bbr.reading import globs, path_readings

MAX_PATTERNS: Final = 64
MAX_PATTERN_CHARACTERS: Final = 256
# What is compared of one path, in each way to read it, with each pattern of which all literal segments stand in it: a
# byte takes an expression up to 18 ns. A path that would take more is read.
MAX_COMPARED_BYTES: Final = 64 << 10

_SEGMENT: Final = re.compile(r"[0-9A-Za-z._~!$&'()+=:@*-]++")

_SLASHES: Final = re.compile(rb"//++")

# Paths that are known again: 300 KB at most.
_CACHED: Final = 1024
_CACHED_BYTES: Final = 256


class PathPattern:
    """A pattern of paths: `*` stands for any characters within a segment, `**` for any number of whole segments.

    Attributes:
        text: as the operator wrote it.
    """

    __slots__ = ("_literals", "_match", "_match_any_case", "text")

    def __init__(self, text: str) -> None:
        """Compile a pattern.

        Raises:
            ValueError: the message is the rule, without its subject.
        """
        if len(text) > MAX_PATTERN_CHARACTERS:
            raise ValueError(f"must not be longer than {MAX_PATTERN_CHARACTERS} characters")
        if not text.startswith("/"):
            raise ValueError("must begin with a slash")
        segments = text.rstrip("/").split("/")[1:]
        for segment in segments:
            if segment == "**":
                continue
            if segment in ("", ".", ".."):
                raise ValueError("must not have an empty segment (as in //), . or ..")
            if "**" in segment:
                raise ValueError("may have ** only as a whole segment")
            if not _SEGMENT.fullmatch(segment):
                raise ValueError("has a character that a path pattern cannot have, such as % or ?")
        self.text = text
        self._literals = frozenset(segment.lower().encode() for segment in segments if "*" not in segment)
        expression = globs.path(segments).encode()
        self._match = re.compile(expression).fullmatch
        self._match_any_case = re.compile(expression, re.IGNORECASE).fullmatch

    def could_match(self, segments: frozenset[bytes]) -> bool:
        """Tell whether a path of such segments, in small letters, has the pattern's literal ones."""
        return self._literals <= segments

    def matches(self, path: bytes, *, any_case: bool = False) -> bool:
        """Tell whether a path, without a slash at its end, is one of the pattern's, if need be in other letters."""
        return (self._match_any_case if any_case else self._match)(path) is not None

    def __repr__(self) -> str:
        return f"PathPattern({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathPattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class PathFilter:
    """Tells which paths' bodies are read.

    Args:
        include: only these; without any, all.
        exclude: not these, even if they are included.
    """

    def __init__(self, include: tuple[PathPattern, ...] = (), exclude: tuple[PathPattern, ...] = ()) -> None:
        self._include = include
        self._exclude = exclude
        self._cached = lru_cache(_CACHED)(self._reads)

    def reads(self, path: bytes) -> bool:
        """Tell whether the body of a request for `path`, the :path pseudo-header, is read."""
        path = path.partition(b"?")[0]
        if len(path) > path_readings.MAX_PATH_BYTES:
            return True  # to look at it takes too long
        return self._reads(path) if len(path) > _CACHED_BYTES else self._cached(path)

    def _reads(self, path: bytes) -> bool:
        ways = path_readings.readings(path)
        if ways is None:
            return True
        readings = {reading for reading, _ in ways}
        if len(ways) > 1:
            readings |= {_SLASHES.sub(b"/", reading) for reading in readings}  # after the dots, as Envoy does it
        return self._in_scope({reading.rstrip(b"/") for reading in readings})

    def _in_scope(self, readings: set[bytes]) -> bool:
        """Tell whether one of the readings is included, in whatever letters, and not all are excluded as they stand."""
        included, excluded = not self._include, True
        compared = 0
        for reading in readings:
            segments = frozenset(reading.lower().split(b"/"))
            include = [] if included else [each for each in self._include if each.could_match(segments)]
            exclude = [each for each in self._exclude if each.could_match(segments)] if excluded else []
            compared += len(reading) * (len(include) + len(exclude))
            if compared > MAX_COMPARED_BYTES:
                return True  # to look at it takes too long
            included = included or any(pattern.matches(reading, any_case=True) for pattern in include)
            excluded = excluded and any(pattern.matches(reading) for pattern in exclude)
            if included and not excluded:
                return True
        return False
