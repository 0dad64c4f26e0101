"""How gateways and servers may read the path of a URL, each in its own way.

Pure. Envoy does not normalise paths unless told to (normalize_path, merge_slashes and path_with_escaped_slashes_action
are off or "keep" by default; Istio and Envoy Gateway turn some on), servers decode before or after they match, Tomcat
cuts path parameters off, and Express and IIS match without regard to letter case, which is up to who compares.

These are the spellings that are looked at. Servers have others, which an operator has to name: suffixes that they drop
(`.json`), characters that Windows folds, dots and blanks at an end, and what a gateway rewrites behind the router.
"""

import functools
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_to_bytes

# Longer paths are not looked at. gunicorn takes request lines of 4,094 bytes, nginx and Apache of 8 KiB.
MAX_PATH_BYTES: Final = 4 << 10
# A longer one is not read in every way, nor is one with more ways, or with more bytes in all of them together. Each way
# is compared with up to 128 patterns or 32 templates. A path of a client's has 2 to 8.
MAX_ODD_PATH_BYTES: Final = 1 << 10
MAX_READINGS: Final = 32
MAX_READ_BYTES: Final = 4 << 10

# Path filter and templates look at the same path one after the other.
_CACHED: Final = 4

# A gateway may decode, and a server behind it, and a framework there.
_DECODINGS: Final = 3

# A path in which there is none of these reads the same in every way: escapes, doubled slashes, dot segments, and so on.
_ODD: Final = re.compile(rb"[%\\;#]|//|/\.\.?(?:/|\Z)")

# A path in which there is none of these begins with a slash and has no dot segment.
_DOTS: Final = re.compile(rb"\A(?!/)|/(?:\.|%2[eE])")
_SAME_SEGMENTS: Final = frozenset({b".", b"%2e", b"%2E"})
_DOT_SEGMENTS: Final = _SAME_SEGMENTS | {one + other for one in _SAME_SEGMENTS for other in _SAME_SEGMENTS}


@functools.lru_cache(_CACHED)
def readings(path: bytes) -> frozenset[tuple[bytes, bool]] | None:
    """Return a path as gateways and servers may see it, each with whether escapes are decoded in it.

    Every choice of: escapes decoded, once or several times, what follows a # cut off, backslashes read as slashes, what
    stands between two slashes at the beginning and the next one taken for a host, path parameters cut off, slashes
    merged, dot segments resolved; in this order. Letter case is as it was.

    Returns:
        None if it can be read in several ways, and is beyond MAX_ODD_PATH_BYTES, MAX_READINGS or MAX_READ_BYTES.
    """
    if _ODD.search(path) is None:
        return frozenset(((path, False),))
    if len(path) > MAX_ODD_PATH_BYTES:
        return None
    found = {(path, False)}
    for _ in range(_DECODINGS):
        decoded = unquote_to_bytes(path) if b"%" in path else path
        if decoded == path and len(found) > 1:
            break
        path = decoded
        found.add((path, True))
    size = sum(len(reading) for reading, _ in found)
    for marks, normalise in _NORMALISERS:
        for reading, escapes_decoded in [*found]:
            if not reading.startswith(b"/") or any(mark in reading for mark in marks):
                other = (normalise(reading), escapes_decoded)
                if other not in found:
                    found.add(other)
                    size += len(other[0])
                    if len(found) > MAX_READINGS or size > MAX_READ_BYTES:
                        return None
    return frozenset(found) if size <= MAX_READ_BYTES else None


def _resolve_dots(path: bytes) -> bytes:
    """Remove dot segments, escaped ones too (RFC 3986, section 5.2.4)."""
    if _DOTS.search(path) is None:
        return path
    out: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments[1:]:
        if segment not in _DOT_SEGMENTS:
            out.append(segment)
        elif segment not in _SAME_SEGMENTS:
            del out[-1:]
    if segments[-1] in (b".", b".."):
        out.append(b"")
    return b"/" + b"/".join(out)


# What to look for first, since most readings stay as they are; and what is done to one that begins with no slash, or in
# which one of these stands.
_NORMALISERS: Final[tuple[tuple[tuple[bytes, ...], Callable[[bytes], bytes]], ...]] = (
    ((b"#",), lambda path: path.partition(b"#")[0]),
    ((b"\\",), lambda path: path.replace(b"\\", b"/")),
    # As in a relative reference (RFC 3986, section 4.2): Node's `new URL(request.url, base)` takes it for one.
    ((b"//",), functools.partial(re.compile(rb"\A//[^/]*+").sub, b"")),
    ((b";",), functools.partial(re.compile(rb";[^/]*+").sub, b"")),
    ((b"//",), functools.partial(re.compile(rb"//++").sub, b"/")),
    ((b"/.", b"/%2"), _resolve_dots),
)
