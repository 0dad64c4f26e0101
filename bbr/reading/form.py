"""The `model` of an application/x-www-form-urlencoded body, or of a URL's query, read as it comes.

Pure. A key may be spelled with percent escapes. What servers read in different ways is refused: several `model` fields,
a semicolon that separates for some, keys such as `model[]` that some take for `model`.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from bbr import refusal
from bbr.reading import name as model
from bbr.refusal import Refusal

# What one call of `feed` reads: 0.2 ms of text, 0.9 ms of nothing but separators.
BYTES_PER_CALL: Final = 16 << 10

# `model` behind a separator, however it is spelled, and what follows. Some servers drop blanks before a key, those in
# JavaScript a byte order mark (TextDecoder) and a question mark (URLSearchParams) before the first.
_BLANK: Final = rb"(?:\+|%20|%09|%0[aAdD]|[ \t\r\n])"
_KEY: Final = re.compile(
    rb"([&;])((?:\?|\xef\xbb\xbf|" + _BLANK + rb"){0,8}+)(?:m|%6[dD])(?:o|%6[fF])(?:d|%64)(?:e|%65)(?:l|%6[cC])(=|[&;]|"
    rb"\[|%5[bB]|%00|" + _BLANK + rb")"
)
_LONGEST_KEY: Final = 1 + 8 * 3 + 5 * 3 + 3
_END: Final = re.compile(rb"[&;]")
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9a-fA-F]{2})")


class FormReader:
    """The `model` of one form.

    Feed it the octets, in pieces of any size, then call `end`. Every split gives the same result. It keeps at most
    three times the longest model name, and passes over everything else.

    Args:
        max_model_bytes: a longer name is refused.
        where: what is read, for the client.

    Attributes:
        model: the model's name once it is known. Another one may follow, which `feed` or `end` then refuses.
    """

    __slots__ = ("_carry", "_fed", "_in_value", "_max_model_bytes", "_where", "model")

    def __init__(self, max_model_bytes: int = model.MAX_MODEL_BYTES, where: str = "form") -> None:
        self._max_model_bytes = max_model_bytes
        self._where = where
        self._carry = b"&"
        self._fed = 0
        self._in_value = False
        self.model: str | None = None

    @property
    def passable_bytes(self) -> int:
        """How many octets, from the body's start, a server may get before the end is known.

        A form has no end of its own: any part of it could be all of it.
        """
        return max(0, self._fed - 1)

    def feed(self, octets: bytes, start: int = 0) -> int:
        """Add octets from `start` on, and return up to where they are read: at most BYTES_PER_CALL, so call again.

        Raises:
            Refusal: 400; the model is not usable, or not all servers would read the same one.
        """
        piece = octets[start : start + BYTES_PER_CALL]
        self._fed += len(piece)
        self._read(self._carry + piece, _LONGEST_KEY)
        return start + len(piece)

    def end(self) -> str | None:
        """Return the model, or None if the form has none, when no more octets will come.

        Raises:
            Refusal: as `feed`.
        """
        self._read(self._carry + b"&", 0)
        return self.model

    def _read(self, text: bytes, ahead: int) -> None:
        """Read what can be read for sure: keys whose last octet may be `ahead` octets before the end."""
        at = 0
        while True:
            if self._in_value:
                end = _END.search(text, at, at + 3 * self._max_model_bytes + 1)
                if not end:
                    if len(text) - at > 3 * self._max_model_bytes:
                        raise refusal.model_too_long(None, self._max_model_bytes)
                    self._carry = text[at:]
                    return
                self._take(text[at : end.start()], end[0])
                self._in_value = False
                at = end.start()
            key = _KEY.search(text, at)
            last = len(text) - ahead
            if not key or key.start() > last:
                self._carry = text[max(at, last) :]
                return
            self._check_key(key)
            self._in_value = True
            at = key.start(3) + (key[3] == b"=")

    def _check_key(self, key: re.Match[bytes]) -> None:
        if key[2] or key[3] not in b"=&;":
            raise self._ambiguous("some take keys such as `model[]`, `?model`, or with blanks around it for `model`")
        if key[1] == b";":
            raise self._ambiguous("`model` stands behind a semicolon, which separates fields for some")
        if self.model is not None:
            raise refusal.model_duplicate(self._where)

    def _take(self, value: bytes, separator: bytes) -> None:
        if separator == b";":
            raise self._ambiguous("a semicolon follows `model`, which separates fields for some; write it as %3B")
        if _BROKEN_ESCAPE.search(value):
            raise self._ambiguous("it has a % without two hexadecimal digits")
        try:
            name = unquote_to_bytes(value.replace(b"+", b" ")).decode()
        except UnicodeDecodeError:
            raise self._ambiguous("it is not UTF-8") from None
        self.model = model.check_model(name, self._max_model_bytes)

    def _ambiguous(self, why: str) -> Refusal:
        return refusal.form_model(self._where, why)
