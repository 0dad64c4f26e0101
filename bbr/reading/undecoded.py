"""Looks at encoded bytes: could a server that does not decode them read them as JSON that names a model? Pure.

gzip, zlib's format and zstd begin with bytes that no parser of JSON passes over. brotli and raw deflate have no such
mark: `0C 16 03` begins a stream of brotli with 13 bytes that a decoder skips, and cJSON and org.json pass over bytes up
to the blank and do not mind what follows a document. Honest streams of brotli may begin alike, since their second byte
is of their length: `1B 7B 00` for 124 bytes. So the key has to be there too.
"""

import re
from typing import Final

from bbr.reading.beginning import OBJECT, Beginning

# A letter as it stands, or as an escape of JSON's or of JSON5's.
_LETTERS: Final = (b"m4d6d", b"o4f6f", b"d4464", b"e4565", b"l4c6c")


def _letter(spelled: bytes) -> bytes:
    return rb"(?:\\?%b|\\(?:u00|x)(?:%b|%b))" % (spelled[:1], spelled[1:3], spelled[3:])


_KEY: Final = re.compile(b"".join(map(_letter, _LETTERS)), re.IGNORECASE)
# The longest spelling of it but for the last byte.
_TAIL_BYTES: Final = len(rb"\u006d") * len(_LETTERS) - 1
# What UTF-16 has between ASCII's characters, and line ends that JSON5 takes out of a string.
_BETWEEN: Final = re.compile(rb"\0|\\?[\r\n]|\\\xe2\x80[\xa8\xa9]")


class Undecoded:
    """The bytes of one body as they came."""

    __slots__ = ("_beginning", "_tail")

    def __init__(self) -> None:
        self._beginning = Beginning()
        self._tail = b""

    def names_model(self, octets: bytes) -> bool:
        """Take the next bytes, and tell whether all that came so far could be JSON that names a model."""
        if self._beginning.octet is None:
            self._beginning.feed(octets)
        if self._beginning.octet != OBJECT:
            return False
        text = _BETWEEN.sub(b"", self._tail + octets)
        self._tail = text[-_TAIL_BYTES:]
        return _KEY.search(text) is not None
