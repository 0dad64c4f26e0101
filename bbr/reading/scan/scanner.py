"""The one `model` of a JSON document that comes in pieces, and whether it is a document at all.

Sans-IO. Every split into pieces gives the same verdict; what is kept of the pieces is a few kilobytes at most, whatever
the document's size. It reads long documents, and those short ones that the parsers do not settle at once (`find_model`
in bbr.reading.json_body). So every refusal is its own. tests/property/test_scanner.py compares it with a judge made of
orjson and msgspec (tests/support/whole.py).

Pieces are looked at in slices. What can be is taken by `fragment.read`, many tokens at once; the tokens at the edges of
a slice, the root's own brackets, its `model`, and whatever is wrong, go through the steps here, one by one.

Where they differ, on purpose:

- A scanner refuses at the first fault, before it has seen the rest. The judge tells of invalid UTF-8 first, wherever it
  stands, and of a string's missing end before a half of a pair right there. All are a 400 that means: no JSON.
- Nesting ends at MAX_DEPTH. The judge goes a little deeper; how far depends on Python's stack, or is 1024 levels if the
  body has no `model` key.
- A fault behind some hundred levels is called by its own name; the judge may say `too-deep`, as orjson does.
- A number may have MAX_NUMBER_BYTES; for the judge any number.
- MAX_TRAILING_BLANKS may follow the document, for the judge any number. What stands behind the document is held back
  until the body has ended, so it must not be long.
- The message about a `model` that is far too long does not say how long it is.
- Byte offsets: of a comma before a closing bracket the bracket's is told, of nesting too deep that of the bracket, of a
  body that ends amid a pair of escapes its end. The wording of some `invalid-json` is ours.
"""

import math
import re
from collections.abc import Callable
from typing import Final

import orjson

from bbr import refusal
from bbr.reading import name as model
from bbr.reading.scan import fragment, grammar
from bbr.reading.scan.fragment import Fragment
from bbr.reading.scan.grammar import MAX_DEPTH, MAX_NUMBER_BYTES, MAX_TRAILING_BLANKS
from bbr.refusal import Refusal

# What one call may spend, in ns, all costs being those of the worst octets. Together with the last fragment, which is
# counted when it is done, that is less than a millisecond (bench/micro/scanner_worst.py).
BUDGET: Final = 300_000

# What is looked at at once; a fragment can't be interrupted.
_SLICE: Final = 8 << 10

# Fewer octets are not worth the while of a fragment; nor are few of a string that of its other reader.
_FRAGMENT_BYTES: Final = 24
_TEXT_BYTES: Final = 400

_SLICE_COST: Final = 3_000
_STEP_COST: Final = 2_500
_OCTET_COST: Final = 3
_ESCAPE_COST: Final = 15

_ARRAY: Final = ord("[")
_OBJECT: Final = ord("{")
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_COMMA: Final = ord(",")
_COLON: Final = ord(":")
_OPENING: Final = {ord("]"): _ARRAY, ord("}"): _OBJECT}
_LITERALS: Final = {word[0]: word for word in (b"true", b"false", b"null")}
_TYPES: Final = {
    _ARRAY: "an array",
    _OBJECT: "an object",
    ord("t"): "a boolean",
    ord("f"): "a boolean",
    ord("n"): "null",
}
_CLOSING_ARRAY: Final = ord("]")
_CLOSING_OBJECT: Final = ord("}")
_BOM: Final = b"\xef\xbb\xbf"
_NOT_FINITE: Final = (b"NaN", b"-NaN", b"Infinity", b"-Infinity")
_INFINITE: Final = ("a number that is not finite", "non-finite-number")


class Scanner:
    """One document.

    Attributes:
        model: what is known of the top-level `model`: None if there was none so far, its value, or the refusal that it
            calls for, as does a key that is `model` for some parsers only. A second `model` key makes a refusal of a
            value, and a fault of the document, which `scan` and `finish` raise, goes before both.
        closing: the offset of the document's last octet, its closing brace, once that has been scanned.
        unspent: what the last call of `scan` has left of its budget; none if less than nothing.
    """

    __slots__ = (
        "_after_text",
        "_blanks",
        "_carry",
        "_fault",
        "_final",
        "_max_model_bytes",
        "_model_keys",
        "_model_text",
        "_most",
        "_offset",
        "_plain",
        "_refused",
        "_stack",
        "_step",
        "_value_offset",
        "closing",
        "model",
        "unspent",
    )

    def __init__(self, max_model_bytes: int = model.MAX_MODEL_BYTES) -> None:
        self.model: str | Refusal | None = None
        self.closing: int | None = None
        self.unspent = 0
        self._max_model_bytes = max_model_bytes
        self._step: _Step = Scanner._value  # what must come next
        self._after_text: _Step = Scanner._after_value  # the step behind the string that is being scanned
        self._stack = bytearray()  # the brackets that are open
        self._carry = b""  # the beginning of a token whose end has not come
        self._offset = 0  # of the first octet that has not been scanned; the carry's, if there is one
        self._most = _SLICE  # how long a fragment may be: shorter where it is steep
        self._plain = b""  # the slice that is being scanned, `unescaped`
        self._model_keys = 0
        self._model_text: bytearray | None = None  # the inside of the model's string, as far as it has come
        self._value_offset = 0  # of the model's value
        self._blanks = 0  # how many follow the document
        self._fault = ("", "")  # reason and sentence of what is wrong at `_offset`
        self._final = False
        self._refused: Refusal | None = None

    @property
    def scanned_bytes(self) -> int:
        """How much of the document is scanned, and no part of a token whose end has not come."""
        return self._offset

    @property
    def value_offset(self) -> int:
        """Where the value of `model` begins in the document, once it has begun."""
        return self._value_offset

    @property
    def held_bytes(self) -> int:
        """How much the scanner keeps of what it was given."""
        return len(self._carry) + len(self._stack) + len(self._model_text or b"")

    def scan(self, octets: bytes, position: int = 0, budget: int = BUDGET) -> int:
        """Scan a piece of the document from `position` on, and return how far that went.

        The next call goes on from there, or with the next piece if that is the end of this one. A call scans one octet
        at least, and 8 KiB more than its budget is worth at most.

        Raises:
            Refusal: 400; this is no JSON document. Every later call raises it again.
        """
        if self._refused:
            raise self._refused
        size = len(octets)
        try:
            while position < size and budget > 0:
                stop = min(size, position + _SLICE)
                held = len(self._carry)
                piece = self._carry + octets[position:stop]
                taken, stuck, cost = self._take(piece, held, budget)
                budget -= cost
                if stuck and stop == size:
                    self._carry = piece[taken:]
                    position = size
                else:
                    self._carry = self._carry[taken:]
                    position += max(taken - held, 0)
        except Refusal as refused:
            self._refused = refused
            raise
        self.unspent = budget
        return position

    def finish(self) -> str | None:
        """End the document, and return its `model`; None if it has none, or is empty.

        Raises:
            Refusal: 400; the document is not complete, or its `model` is none to use.
        """
        if self._refused:
            raise self._refused
        self._final = True
        try:
            self._end()
        except Refusal as refused:
            self._refused = refused
            raise
        return self.model if isinstance(self.model, str) else None

    def _end(self) -> None:
        begun = self._offset or self._carry
        size = self._offset + len(self._carry)
        self._take(self._carry, 0, len(self._carry) * _STEP_COST + BUDGET)
        if self._step is not Scanner._trailing and begun:
            # orjson's place for blanks alone
            blank = self._step is Scanner._value and not self._stack and self._offset == size
            raise refusal.invalid_json("invalid-json", "unexpected end of data", 0 if blank else size)
        if isinstance(self.model, Refusal):
            raise self.model

    def _take(self, piece: bytes, held: int, budget: int) -> tuple[int, bool, int]:
        """Scan a slice, which begins with what was held; return how far, if more octets are needed, and the cost."""
        whole = len(piece)
        size, invalid = (whole, False) if piece.isascii() else _utf8_bytes(piece)
        if size < whole:
            piece = piece[:size]
        self._plain = fragment.unescaped(piece)
        cost = _SLICE_COST + _OCTET_COST * size
        if self._plain is not piece:
            cost += _ESCAPE_COST * piece.count(b"\\")
        position = 0
        more = self._most = min(2 * self._most, _SLICE)  # how many octets to try a fragment of
        stuck = True
        while position < size:
            if cost >= budget and position > held:
                stuck = False
                break
            worth = more and position >= held and size - position >= _FRAGMENT_BYTES
            if worth and (taken := self._fragment(piece, position, more)):
                more = taken.more
                self._most = more or self._most
                cost += taken.cost
                position += taken.size
                if taken.size:
                    continue
            step = self._step
            end = step(self, piece, position)
            if end == position and self._step is step:
                break
            cost += _STEP_COST + _OCTET_COST * (end - position)
            position = end
        self._plain = b""
        if stuck and (invalid or (self._final and size < whole)):
            if self._step is Scanner._faulty:
                raise self._judged(piece[position:], self._offset + position)
            raise refusal.invalid_json("invalid-utf8", "invalid UTF-8", self._offset + size)
        self._offset += position
        return position, stuck, cost

    def _fragment(self, piece: bytes, position: int, most: int) -> Fragment | None:
        """Take a fragment, if one can begin here, of so many octets at most."""
        stack = self._stack
        begun = _BEGUN.get((self._step, stack[-1])) if stack else None
        if begun is None:
            return None
        in_root = self._step is Scanner._key and len(stack) == 1
        if in_root and grammar.MODEL_KEY.match(piece, grammar.BLANKS.match(piece, position).end()):
            return None
        until_model = stack[0] == _OBJECT and self._model_keys < 2
        text, plain = piece[position:], self._plain[position:]
        taken = fragment.read(text, plain, most, stack, begun, until_model=until_model)
        if taken.size:
            self._stack = stack = taken.stack
            if taken.last == _COMMA:
                self._step = Scanner._key if stack[-1] == _OBJECT else Scanner._value
            else:
                self._step = _BEHIND.get(taken.last, Scanner._after_value)
        return taken

    # The steps: each scans what it can of a piece from a position on, and leaves the next step in `_step`. A step that
    # returns its own position and stays needs more octets.

    def _value(self, piece: bytes, position: int) -> int:
        """Scan a scalar, a container's bracket or a string's quote."""
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        first = piece[start]
        if first == _QUOTE:
            return self._open_string(start, Scanner._after_value)
        if first in (_ARRAY, _OBJECT):
            if len(self._stack) == MAX_DEPTH:
                return self._too_deep(start)
            self._stack.append(first)
            self._step = Scanner._first_item if first == _ARRAY else Scanner._first_key
            return start + 1
        if first in b"-0123456789":
            return self._number(piece, start)
        if first in _LITERALS:
            return self._literal(piece, start)
        if first == _CLOSING_ARRAY and self._stack and self._stack[-1] == _ARRAY:
            return self._wrong(start, "trailing comma is not allowed")
        return self._wrong(start, "unexpected character, expected a JSON value")

    def _first_item(self, piece: bytes, position: int) -> int:
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        if piece[start] == _CLOSING_ARRAY:
            return self._close(start)
        self._step = Scanner._value
        return start

    def _first_key(self, piece: bytes, position: int) -> int:
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        if piece[start] == _CLOSING_OBJECT:
            return self._close(start)
        self._step = Scanner._key
        return start

    def _key(self, piece: bytes, position: int) -> int:
        """Scan a key with its colon, or a part of it."""
        in_root = len(self._stack) == 1
        found = (grammar.OTHER_KEY_AND_COLON if in_root else grammar.KEY_AND_COLON).match(piece, position)
        if found:
            self._step = Scanner._value
            return found.end()
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        if piece[start] != _QUOTE:
            if piece[start] == _CLOSING_OBJECT:
                return self._wrong(start, "trailing comma is not allowed")
            return self._wrong(start, "unexpected character, expected a string key")
        if in_root:
            model_key = grammar.MODEL_KEY.match(piece, start)
            if model_key:
                return self._model_key(model_key)
            if len(piece) - start < grammar.LONGEST_MODEL_KEY and piece.find(b'"', start + 1) < 0 and not self._final:
                return start
        return self._open_string(start, Scanner._colon)

    def _colon(self, piece: bytes, position: int) -> int:
        return self._colon_before(Scanner._value, piece, position)

    def _model_colon(self, piece: bytes, position: int) -> int:
        return self._colon_before(Scanner._model_value, piece, position)

    def _colon_before(self, step: "_Step", piece: bytes, position: int) -> int:
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        if piece[start] != _COLON:
            return self._wrong(start, "unexpected character, expected ':' after key")
        self._step = step
        return start + 1

    def _after_value(self, piece: bytes, position: int) -> int:
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        octet = piece[start]
        container = self._stack[-1]
        if octet == _COMMA:
            self._step = Scanner._key if container == _OBJECT else Scanner._value
            return start + 1
        if _OPENING.get(octet) == container:
            return self._close(start)
        bracket = "}" if container == _OBJECT else "]"
        return self._wrong(start, f"unexpected character, expected ',' or '{bracket}'")

    def _trailing(self, piece: bytes, position: int) -> int:
        """Scan blanks after the document."""
        end = grammar.BLANKS.match(piece, position).end()
        self._blanks += end - position
        if self._blanks > MAX_TRAILING_BLANKS:
            raise refusal.trailing_blanks(MAX_TRAILING_BLANKS)
        if end == len(piece):
            return end
        return self._wrong(end, "something follows the document", "trailing-bytes")

    # Scalars.

    def _number(self, piece: bytes, start: int) -> int:
        end = grammar.NUMBER_OCTETS.match(piece, start).end()
        if end - start > MAX_NUMBER_BYTES:
            return self._wrong(start, f"a number of more than {MAX_NUMBER_BYTES} bytes")
        if end == len(piece) and not self._final:
            return start
        found = grammar.NUMBER.match(piece, start)
        if not found:
            return self._cut_number(piece, start, start + 1, "no digit after sign")
        number, end = found[0], found.end()
        behind = piece[end : end + 1]
        if number in (b"0", b"-0") and behind.isdigit():
            return self._wrong(end - 1, "number with leading zero is not allowed")
        has_exponent = b"e" in number or b"E" in number
        if behind == b"." and b"." not in number and not has_exponent:
            return self._cut_number(piece, start, end + 1, "no digit after decimal point")
        if behind in (b"e", b"E") and not has_exponent:
            signed = piece[end + 1 : end + 2] in (b"+", b"-")
            return self._cut_number(piece, start, end + 1 + signed, "no digit after exponent sign")
        if not math.isfinite(float(number)):
            return self._wrong(start, *_INFINITE)
        return self._scalar(end)

    def _cut_number(self, piece: bytes, start: int, place: int, why: str) -> int:
        return start if place == len(piece) else self._wrong(place, why)

    def _literal(self, piece: bytes, start: int) -> int:
        word = _LITERALS[piece[start]]
        rest = piece[start : start + len(word)]
        if rest == word:
            return self._scalar(start + len(word))
        if word.startswith(rest):
            return start
        return self._wrong(start, f"invalid literal, expected '{word.decode()}'")

    def _scalar(self, end: int) -> int:
        if not self._stack:
            return self._complete(end - 1)
        self._step = Scanner._after_value
        return end

    def _open_string(self, quote: int, after: "_Step") -> int:
        self._step = Scanner._text
        self._after_text = after
        return quote + 1

    def _text(self, piece: bytes, position: int) -> int:
        """Scan the inside of a string."""
        end = self._plain_text(piece, position)
        end = grammar.TEXT.match(piece, end).end()
        if self._model_text is not None:
            self._keep_model(self._model_text, piece[position:end])
        if end == len(piece):
            return end
        octet = piece[end]
        if octet == _QUOTE:
            if self._model_text is not None:
                self._end_model(self._model_text)
            if not self._stack:
                return self._complete(end)
            self._step = self._after_text
            return end + 1
        if octet == _BACKSLASH:
            return self._escape(piece, end)
        return self._wrong(end, "unexpected control character in string")

    def _plain_text(self, piece: bytes, position: int) -> int:
        """Pass over the inside of a string, if that is worth the while, up to an escape that may not be whole."""
        plain = self._plain
        end = plain.find(b'"', position)
        if end < 0:
            end = len(plain)
            escape = plain.find(b"\\", max(position, end - grammar.LONGEST_ESCAPE))
            if escape >= 0:
                half = escape - grammar.LONGEST_ESCAPE // 2  # of a pair, perhaps
                end = half if half >= position and plain.startswith(b"\\u", half) else escape
        if end - position < _TEXT_BYTES or not fragment.is_text(piece[position:end]):
            return position
        return end

    def _escape(self, piece: bytes, start: int) -> int:
        """Judge an escape that is not whole or not right."""
        escape = piece[start : start + grammar.LONGEST_ESCAPE]
        if grammar.UNFINISHED_ESCAPE.fullmatch(escape):
            return start
        if grammar.LONE_SURROGATE.match(escape):
            return self._wrong(start, "half of a surrogate pair", "lone-surrogate")
        return self._wrong(start, "invalid escaped sequence in string")

    # The model.

    def _model_key(self, key: re.Match[bytes]) -> int:
        """Take note of a key that is `model` at least for some parsers."""
        self._model_keys += 1
        whole = key[0].endswith(b'"')
        exact = whole and orjson.loads(key[0]) == "model"
        if self._model_keys == 2:
            self.model = refusal.model_duplicate().at(self._offset + key.start())
        elif self._model_keys == 1 and not exact:
            self.model = refusal.model_spelling().at(self._offset + key.start())
        if not whole:  # up to a NUL
            return self._open_string(key.end() - 1, Scanner._colon)
        self._step = Scanner._model_colon if exact and self._model_keys == 1 else Scanner._colon
        return key.end()

    def _model_value(self, piece: bytes, position: int) -> int:
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        first = piece[start]
        self._value_offset = self._offset + start
        if first == _QUOTE:
            self._model_text = bytearray()
            return self._open_string(start, Scanner._after_value)
        end = self._value(piece, start)
        if end > start and self._step is not Scanner._faulty:
            self.model = refusal.model_not_string(_TYPES.get(first, "a number")).at(self._value_offset)
        return end

    def _keep_model(self, kept: bytearray, text: bytes) -> None:
        """Keep a part of the model's string, unless that is too long even if it is all escapes, six octets for one."""
        kept += text
        if len(kept) > 6 * self._max_model_bytes:
            self.model = refusal.model_too_long(None, self._max_model_bytes).at(self._value_offset)
            self._model_text = None

    def _end_model(self, kept: bytearray) -> None:
        self._model_text = None
        try:
            self.model = model.check_model(orjson.loads(b'"%b"' % bytes(kept)), self._max_model_bytes)
        except Refusal as refused:
            self.model = refused.at(self._value_offset)

    # Brackets and faults.

    def _close(self, bracket: int) -> int:
        self._stack.pop()
        if not self._stack:
            return self._complete(bracket)
        self._step = Scanner._after_value
        return bracket + 1

    def _complete(self, last: int) -> int:
        self.closing = self._offset + last
        self._step = Scanner._trailing
        return last + 1

    def _too_deep(self, bracket: int) -> int:
        return self._wrong(bracket, "nested too deep", "too-deep")

    def _wrong(self, place: int, why: str, reason: str = "invalid-json") -> int:
        self._fault = (reason, why)
        self._step = Scanner._faulty
        return place

    def _faulty(self, piece: bytes, position: int) -> int:
        """Refuse what is wrong at a position, once there are enough octets to say what it is."""
        rest = piece[position : position + max(map(len, _NOT_FINITE))]
        if not self._final and any(len(rest) < len(word) and word.startswith(rest) for word in _NOT_FINITE):
            return position
        raise self._judged(rest, self._offset + position)

    def _judged(self, rest: bytes, offset: int) -> Refusal:
        reason, why = self._fault
        if not offset and rest.startswith(_BOM):
            reason, why = "byte-order-mark", "it begins with a byte order mark"
        elif rest.startswith(_NOT_FINITE):
            reason, why = _INFINITE[::-1]
        return refusal.invalid_json(reason, why, offset)


_Step = Callable[[Scanner, bytes, int], int]

# Where a fragment can begin, by the step and the innermost container, and a beginning of that container which leads
# there; and what comes behind a fragment, by its last octet.
_BEGUN: Final[dict[tuple[_Step, int], bytes]] = {
    (Scanner._value, _ARRAY): b"[1,",
    (Scanner._value, _OBJECT): b'{"":',
    (Scanner._key, _OBJECT): b'{"":1,',
    (Scanner._after_value, _ARRAY): b"[[]",  # no number, lest a digit continues it
    (Scanner._after_value, _OBJECT): b'{"":[]',
}
_BEHIND: Final[dict[int, _Step]] = {_ARRAY: Scanner._first_item, _OBJECT: Scanner._first_key}


def _utf8_bytes(piece: bytes) -> tuple[int, bool]:
    """Return how much of a piece is UTF-8, and whether what follows can't be."""
    try:
        piece.decode()
    except UnicodeDecodeError as error:
        return error.start, error.reason != "unexpected end of data"
    return len(piece), False
