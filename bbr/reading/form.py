"""The `model` of an application/x-www-form-urlencoded body, or of a URL's query, read as it comes.

Pure. A key may be spelled with percent escapes. What servers read in different ways is refused: several `model` fields,
a semicolon that separates for some, keys such as `model[]` that some take for `model` (see `bbr.reading.spelling`).

Bytes from 0x80 on should be escaped in a form, but people send texts in UTF-8 as they are. Some servers clear the
eighth bit (formidable: 0xA6 is `&`), some read Latin-1 (Starlette), some drop what is no UTF-8. So a form that has such
bytes is read without the eighth bit as well, and has to have the same `model` then; the model itself may have none.
"""

import copy
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from bbr import refusal
from bbr.reading import name as model
from bbr.reading import spelling
from bbr.reading.base import named
from bbr.refusal import Refusal

# What one call of `feed` reads: half a millisecond of nothing but keys that must be looked at, in two readings.
BYTES_PER_CALL: Final = 256

# What may stand before a name that some servers take for `model`, and the beginning of such a name, or of one that has
# escapes: all else is passed over. What follows may come later, so the end of what is there is a match as well.
#
# A name with escapes is `model` for nobody unless it has the letters in their order: as they stand, with the eighth
# bit, or as the last digits of their numbers, which may be written by numbers in turn (`d` is 64, `4` is 34). No other
# need be judged, which takes ten times as long. What is longer than all that is judged may be anything.
_BLANKS: Final = rb"[\x00-\x20\x7f\[\].?!+]*+"
_LETTERS: Final = (rb"mM\xed\xcddD4", rb"oO\xef\xcffF6", rb"dD\xe4\xc44", rb"eE\xe5\xc55", rb"lL\xec\xcccC3")


def _odd(taken: int) -> bytes:
    """Return an expression for what is odd in a name of which so many letters have been taken as they should be."""
    letters = b"".join(b"[^=&;%b]*+[%b]" % (letter, letter) for letter in _LETTERS[taken:])
    long = spelling.MAX_BYTES + 1 - taken
    return rb"(?=[%%\\\x80-\xff])(?=[^=&;]{%d}+|[^=&;]*+\Z|%b)|\Z" % (long, letters)


_NAME: Final = b"%b|[mM](?:%b|[oO](?:%b|[dD](?:%b|[eE](?:%b|[lL](?![0-9A-Za-z_-])))))" % tuple(map(_odd, range(5)))
_CANDIDATE: Final = re.compile(b"[&;](%b)(?:%b)" % (_BLANKS, _NAME))
_KEY_END: Final = re.compile(rb"[=&;]")
_VALUE_END: Final = re.compile(rb"[&;]")
# What browsers write for a character that a form's charset does not have; qs undoes it if told to.
_NUMERIC_ENTITY: Final = re.compile("&#[0-9]++;")
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9a-fA-F]{2})")
# Without the eighth bit: what could be a key, its escapes and its brackets; all else is an underscore. Those who clear
# the bit do not trim.
_SEVEN_BITS: Final = bytes(
    octet & 0x7F if octet & 0x7F in b"&=%[]" or chr(octet & 0x7F).isalnum() else ord("_") for octet in range(256)
)


class Keys:
    """The keys of a form that are `model`, in one way to read it.

    Attributes:
        carry: bytes that can't be judged before more have come.
        count: the number so far.
        judged: how many keys had to be looked at, which is what takes time.
    """

    __slots__ = ("carry", "count", "judged")

    def __init__(self) -> None:
        self.carry = b"&"
        self.count = 0
        self.judged = 0

    def find(self, text: bytes, at: int, *, final: bool) -> int:
        """Return the place behind the next key that is `model`, or -1: then `carry` has what to read again.

        Raises:
            ValueError: a key is `model` for some servers only; the message says so, for a client to read.
        """
        while True:
            candidate = _CANDIDATE.search(text, at)
            if not candidate:
                self.carry = b""
                return -1
            start = candidate.end(1)
            end = _KEY_END.search(text, start, start + spelling.MAX_BYTES + 1)
            if not end and len(text) - start <= spelling.MAX_BYTES and not final:
                # Blanks are many in texts; that there were some is all that matters.
                self.carry = candidate[0][:1] + candidate[1][:1] + text[start:]
                return -1
            at = end.start() if end else min(start + spelling.MAX_BYTES + 1, len(text))
            if self._is_model(candidate, text[start:at]):
                self.count += 1
                return at

    def _is_model(self, candidate: re.Match[bytes], key: bytes) -> bool:
        self.judged += 1
        if not spelling.is_alike(key):
            return False
        if candidate[1] or unquote_to_bytes(key) != b"model":
            raise ValueError(
                "some servers read keys such as `Model`, `model[]`, `[model]`, or `model` between blanks as `model`"
            )
        if candidate[0].startswith(b";"):
            raise ValueError("`model` follows a semicolon, at which some servers separate fields")
        return True


class FormReader:
    """The `model` of one form.

    Feed it the bytes, in pieces of any size, then call `end`. Every split gives the same result. It keeps at most
    three times the longest model name, and passes over everything else.

    Args:
        max_model_bytes: a longer name is refused.
        where: what is read, for the client.

    Attributes:
        model: the model's name once it is known; the refusal of an empty one. Another one may follow, which `feed` or
            `finish` then refuses.
    """

    __slots__ = ("_fed", "_in_value", "_keys", "_max_model_bytes", "_seven_bits", "_where", "model")

    def __init__(self, max_model_bytes: int = model.MAX_MODEL_BYTES, where: str = "form") -> None:
        self._max_model_bytes = max_model_bytes
        self._where = where
        self._keys = Keys()
        self._seven_bits: Keys | None = None  # while no byte has the eighth bit, both ways are one
        self._fed = 0
        self._in_value = False
        self.model: str | Refusal | None = None

    @property
    def passable_bytes(self) -> int:
        """How many bytes, from the body's start, a server may get before the end is known.

        A form has no end of its own: any part of it could be all of it.
        """
        return max(0, self._fed - 1)

    @property
    def names_model(self) -> bool:
        """Whether a key `model` has come, perhaps not its value."""
        return self._keys.count > 0

    @property
    def judged(self) -> int:
        """How many keys had to be looked at so far."""
        return self._keys.judged + (self._seven_bits.judged if self._seven_bits is not None else 0)

    def feed(self, octets: bytes, start: int = 0) -> int:
        """Add bytes from `start` on, and return up to where they are read: at most BYTES_PER_CALL, so call again.

        Raises:
            Refusal: 400; the model is not usable, or not all servers would read the same one.
        """
        piece = octets[start : start + BYTES_PER_CALL]
        self._fed += len(piece)
        self._read_all(piece, final=False)
        return start + len(piece)

    def end(self) -> str | None:
        """Return the model, or None if the form has none, when no more bytes will come.

        Raises:
            Refusal: as `feed`, and if the model is empty.
        """
        self.finish()
        return named(self.model)

    def finish(self) -> None:
        """Take note that no more bytes will come: `model` is all that is to be known.

        Raises:
            Refusal: as `feed`.
        """
        self._read_all(b"&", final=True)

    def _read_all(self, piece: bytes, *, final: bool) -> None:
        try:
            if self._seven_bits is None and not piece.isascii():
                self._seven_bits = copy.copy(self._keys)
                self._seven_bits.judged = 0
                if self._in_value:
                    self._seven_bits.carry = b""
            self._read(self._keys.carry + piece, final=final)
            if self._seven_bits is not None:
                self._read_seven_bits(self._seven_bits, piece, final=final)
        except ValueError as why:
            raise self._ambiguous(str(why)) from None

    def _read_seven_bits(self, keys: Keys, piece: bytes, *, final: bool) -> None:
        text = keys.carry + piece.translate(_SEVEN_BITS)
        at = 0
        while at >= 0:
            at = keys.find(text, at, final=final)
        if keys.count > self._keys.count:
            raise self._ambiguous(
                "some servers clear the eighth bit of each byte; write characters beyond ASCII as %XX"
            )

    def _read(self, text: bytes, *, final: bool) -> None:
        at = 0
        while True:
            if self._in_value:
                end = _VALUE_END.search(text, at, at + 3 * self._max_model_bytes + 1)
                if not end:
                    if len(text) - at > 3 * self._max_model_bytes:
                        raise refusal.model_too_long(None, self._max_model_bytes)
                    self._keys.carry = text[at:]
                    return
                self._take(text[at : end.start()], end[0])
                self._in_value = False
                at = end.start()
            at = self._keys.find(text, at, final=final)
            if at < 0:
                return
            if self._keys.count > 1:
                raise refusal.model_duplicate(self._where)
            self._in_value = True
            at += text.startswith(b"=", at)

    def _take(self, value: bytes, separator: bytes) -> None:
        if separator == b";":
            raise self._ambiguous(
                "a semicolon follows `model`, and some servers separate fields there; write it as %3B"
            )
        if _BROKEN_ESCAPE.search(value):
            raise self._ambiguous("it has a % without two hexadecimal digits")
        if not value.isascii():
            raise self._ambiguous("its value has bytes from 0x80 on, which servers read differently; write them as %XX")
        try:
            name = unquote_to_bytes(value.replace(b"+", b" ")).decode()
        except UnicodeDecodeError:
            raise self._ambiguous("it is not UTF-8") from None
        if _NUMERIC_ENTITY.search(name):
            raise self._ambiguous("it has a numeric character reference, such as &#65;, which some servers undo")
        self.model = model.check_model(name, self._max_model_bytes) if name else refusal.model_empty()

    def _ambiguous(self, why: str) -> Refusal:
        return refusal.form_model(self._where, why)
