"""The one `model` of a JSON document that comes in pieces, and whether it is a document at all.

Sans-IO. The verdict is that of `model.read_model` on the whole, for every split into pieces; what is kept of the pieces
is a few kilobytes at most, whatever the document's size. tests/property/test_scanner.py compares the two.

Where they differ, on purpose:

- A scanner refuses at the first fault, before it has seen the rest. `read_model` tells of invalid UTF-8 first, wherever
  it stands, and of a string's missing end before a half of a pair right there. All are a 400 that means: no JSON.
- Nesting ends at MAX_DEPTH. `read_model` goes a little deeper; how far depends on Python's stack, or is 1024 levels if
  the body has no `model` key.
- A fault behind some hundred levels is called by its own name; `read_model` may say `too-deep`, as orjson does.
- A number may have MAX_NUMBER_BYTES; `read_model` has no limit but its value's.
- MAX_TRAILING_BLANKS may follow the document, for `read_model` any number. What stands behind the document is held back
  until the body has ended, so it must not be long.
- The message about a `model` that is far too long does not say how long it is.
- Byte offsets: of a comma before a closing bracket the bracket's is told, of nesting too deep that of the bracket, of a
  body that ends amid a pair of escapes its end. The wording of some `invalid-json` is ours.
"""

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Final

import orjson

from bbr import model, refusal
from bbr.refusal import Refusal
from bbr.scan import grammar

# Real requests have 10 levels; Python's own parser, in most model servers, ends at about 990.
MAX_DEPTH: Final = 900

# The smallest double, written out in full, has 1077.
MAX_NUMBER_BYTES: Final = 2048

MAX_TRAILING_BLANKS: Final = 64 << 10

# What one call may spend: nanoseconds, all costs being those of the worst octets. Together with the last step, which is
# counted when it is done, that is a millisecond (bench/micro/scanner.py).
BUDGET: Final = 600_000

# What a match may see at once. A match can't be interrupted; but what it has read of a value that goes on behind the
# slice must be read again. The inside of a string never is.
_SLICE: Final = 4 << 10
_TEXT_SLICE: Final = 32 << 10

_SLICE_COST: Final = 2_000
_STEP_COST: Final = 2_500
_OCTET_COST: Final = 80
_TEXT_OCTET_COST: Final = 3
_ESCAPE_COST: Final = 30

_ARRAY: Final = ord("[")
_OBJECT: Final = ord("{")
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_COMMA: Final = ord(",")
_COLON: Final = ord(":")
_OPENING: Final = {ord("]"): _ARRAY, ord("}"): _OBJECT}
_CLOSING: Final = {_ARRAY: b"]", _OBJECT: b"}"}
_DEEPER: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, _COMMA: 0, _COLON: 0}.__getitem__
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
            calls for. A second `model` key makes a refusal of a value, and a fault of the document, which `scan` and
            `finish` raise, goes before both.
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
        "_mixed_from",
        "_model_keys",
        "_model_text",
        "_offset",
        "_refused",
        "_stack",
        "_step",
        "_text_slice",
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
        self._text_slice = _SLICE
        self._model_keys = 0
        self._model_text: bytearray | None = None  # the inside of the model's string, as far as it has come
        self._value_offset = 0  # of the model's value
        self._mixed_from = 0  # the offset from which on it is worth while to try a MIXED again
        self._blanks = 0  # how many follow the document
        self._fault = ("", "")  # reason and sentence of what is wrong at `_offset`
        self._final = False
        self._refused: Refusal | None = None

    @property
    def scanned_bytes(self) -> int:
        """How much of the document is scanned, and no part of a token whose end has not come."""
        return self._offset

    @property
    def held_bytes(self) -> int:
        """How much the scanner keeps of what it was given."""
        return len(self._carry) + len(self._stack) + len(self._model_text or b"")

    def scan(self, octets: bytes, position: int = 0, budget: int = BUDGET) -> int:
        """Scan a piece of the document from `position` on, and return how far that went.

        The next call goes on from there, or with the next piece if that is the end of this one. A call scans one octet
        at least, and 32 KiB more than its budget is worth at most.

        Raises:
            Refusal: 400; this is no JSON document. Every later call raises it again.
        """
        if self._refused:
            raise self._refused
        size = len(octets)
        try:
            while position < size and budget > 0:
                in_text = self._step is Scanner._text
                self._text_slice = min(2 * self._text_slice, _TEXT_SLICE) if in_text else _SLICE
                stop = min(size, position + self._text_slice)
                held = len(self._carry)
                piece = self._carry + octets[position:stop]
                taken, stuck, cost = self._take(piece, held, budget, last=stop == size)
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
        self._take(self._carry, 0, len(self._carry) * _STEP_COST + BUDGET, last=True)
        if self._step is not Scanner._trailing and begun:
            # orjson's place for blanks alone
            blank = self._step is Scanner._value and not self._stack and self._offset == size
            raise refusal.invalid_json("invalid-json", "unexpected end of data", 0 if blank else size)
        if isinstance(self.model, Refusal):
            raise self.model

    def _take(self, piece: bytes, held: int, budget: int, *, last: bool) -> tuple[int, bool, int]:
        """Scan a piece, which begins with what was held; return how far, if more octets are needed, and what it cost.

        A piece that is not the last one there is now is left when half of it is done: what is cut off at its end would
        be read twice, and slowly.
        """
        whole = len(piece)
        size, invalid = (whole, False) if piece.isascii() else _utf8_bytes(piece)
        if size < whole:
            piece = piece[:size]
        enough = whole if last else whole // 2
        in_text = self._step is Scanner._text
        cost = _SLICE_COST
        position = 0
        stuck = True
        while position < size:
            step = self._step
            if position > enough or (cost >= budget and position > held):
                stuck = False
                break
            if in_text and step is not Scanner._text and step is not Scanner._faulty:
                stuck = False
                break
            end = step(self, piece, position)
            if end == position and self._step is step:
                break
            if step is Scanner._text:
                cost += _TEXT_OCTET_COST * (end - position) + _ESCAPE_COST * piece.count(b"\\", position, end)
            else:
                cost += _STEP_COST + _OCTET_COST * (end - position)
            position = end
        if stuck and (invalid or (self._final and size < whole)):
            if self._step is Scanner._faulty:
                raise self._judged(piece[position:], self._offset + position)
            raise refusal.invalid_json("invalid-utf8", "invalid UTF-8", self._offset + size)
        self._offset += position
        return position, stuck, cost

    # The steps: each scans what it can of a piece from a position on, and leaves the next step in `_step`. A step that
    # returns its own position and stays needs more octets.

    def _value(self, piece: bytes, position: int) -> int:
        """Scan a run, or a MIXED, or a part of one value."""
        stack = self._stack
        if not stack or (piece[position] == _QUOTE and piece.find(b'"', position + 1) < 0):
            return self._part_of_value(piece, position)
        closing = _CLOSING.get(piece[position])
        if not closing or piece.find(closing, position) >= 0:  # else the value is cut off, and would be read in vain
            end = self._run(piece, position)
            if end > position:
                return end
        if self._offset >= self._mixed_from:
            end = self._mixed(piece, position, grammar.MIXED.match(piece, position).end())
            if end > position:
                return end
        return self._part_of_value(piece, position)

    def _run(self, piece: bytes, position: int) -> int:
        room = min(grammar.NESTED, MAX_DEPTH - len(self._stack))
        if self._stack[-1] == _ARRAY:
            run = grammar.ITEMS[room]
        else:
            run = grammar.MEMBERS[room] if len(self._stack) > 1 else grammar.ROOT_MEMBERS
        found = run.match(piece, position)
        return self._behind_run(piece, found.end()) if found and found.end() > position else position

    def _mixed(self, piece: bytes, position: int, end: int) -> int:
        """Take the text of a MIXED, if the containers that are open are of the types that it takes them for.

        If not, that is tried no more in this piece: there is a fault in it, or the end of the document, or the key
        `model` of the root.
        """
        stack = self._stack[:]
        bones = grammar.skeleton(piece[position:end])
        left = grammar.reduced(bones)
        deepest = len(stack)
        at = 0
        while at < len(left):
            found = grammar.SEGMENT.match(left, at)
            at = found.end()
            if not self._fits(stack, *found.groups(), last=at == len(left)):
                deepest = MAX_DEPTH + 1
                break
            deepest = max(deepest, len(stack))
        if deepest + grammar.REDUCTIONS > MAX_DEPTH and (
            deepest > MAX_DEPTH or max(accumulate(map(_DEEPER, bones), initial=len(self._stack))) > MAX_DEPTH
        ):
            self._mixed_from = self._offset + len(piece)
            return position
        self._stack = stack
        last = bones[-1:]
        if last in (b"]", b"}"):
            self._step = Scanner._after_value
        else:
            self._step = Scanner._key if last == b"," and stack[-1] == _OBJECT else Scanner._value
        return end

    def _fits(self, stack: bytearray, closed: bytes, run: bytes, opened: bytes, *, last: bool) -> bool:
        """Take a segment from and to a stack, and tell whether it fits."""
        closings = grammar.closings(closed)
        if len(closings) >= len(stack) or not stack.endswith(closings):
            return False
        del stack[len(stack) - len(closings) :]
        if stack[-1] == _ARRAY:
            fits = b":" not in run
        else:
            at_value = opened or not last
            fits = grammar.MEMBERS_LEFT.fullmatch(run) is not None and not (at_value and run.endswith(b","))
            if len(stack) == 1 and self._model_keys < 2:
                fits = fits and b"::" not in run
        stack += grammar.openings(opened)
        return fits and (last or opened != b"")

    def _part_of_value(self, piece: bytes, position: int) -> int:
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
                self._count_model_key(start)
                return model_key.end()
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
            if self._offset >= self._mixed_from and (found := grammar.CLOSE_AND_MIXED.match(piece, start)):
                end = self._mixed(piece, start, found.end())
                if end > start:
                    return end
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
        if self._stack:
            end = self._numbers(piece, start)
            if end > start or self._step is Scanner._faulty:
                return end
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

    def _numbers(self, piece: bytes, start: int) -> int:
        """Scan a run of numbers that are not small, so that many of them do not cost a step each."""
        in_object = self._stack[-1] == _OBJECT
        end = (grammar.NUMBER_MEMBERS if in_object else grammar.NUMBER_ITEMS).match(piece, start).end()
        bare = grammar.unquoted(piece[start:end]).translate(None, b": \t\n\r").rstrip(b",")
        numbers = bare.split(b",") if bare else []
        if not numbers or max(map(len, numbers)) > MAX_NUMBER_BYTES:
            return start
        finite = list(map(math.isfinite, map(float, numbers)))
        if not all(finite):
            tokens = grammar.STRING_OR_NUMBER.finditer(piece, start, end)
            places = [token.start() for token in tokens if piece[token.start()] != _QUOTE]
            return self._wrong(places[finite.index(False)], *_INFINITE)
        return self._behind_run(piece, end)

    def _behind_run(self, piece: bytes, end: int) -> int:
        """Go on at the next value's place or at the closing bracket, whichever a run has come to."""
        closing = b"}" if self._stack[-1] == _OBJECT else b"]"
        self._step = Scanner._after_value if piece[end : end + 1] == closing else Scanner._value
        return end

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
        end = grammar.TEXT.match(piece, position).end()
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

    def _escape(self, piece: bytes, start: int) -> int:
        """Judge an escape that is not whole or not right."""
        escape = piece[start : start + grammar.LONGEST_ESCAPE]
        if grammar.UNFINISHED_ESCAPE.fullmatch(escape):
            return start
        if grammar.LONE_SURROGATE.match(escape):
            return self._wrong(start, "half of a surrogate pair", "lone-surrogate")
        return self._wrong(start, "invalid escaped sequence in string")

    # The model.

    def _count_model_key(self, start: int) -> None:
        self._model_keys += 1
        if self._model_keys == 2:
            self.model = refusal.model_duplicate().at(self._offset + start)
        self._step = Scanner._model_colon if self._model_keys == 1 else Scanner._colon

    def _model_value(self, piece: bytes, position: int) -> int:
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        first = piece[start]
        self._value_offset = self._offset + start
        if first == _QUOTE:
            self._model_text = bytearray()
            return self._open_string(start, Scanner._after_value)
        end = self._part_of_value(piece, start)
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


def _utf8_bytes(piece: bytes) -> tuple[int, bool]:
    """Return how much of a piece is UTF-8, and whether what follows can't be."""
    try:
        piece.decode()
    except UnicodeDecodeError as error:
        return error.start, error.reason != "unexpected end of data"
    return len(piece), False
