"""The tokens of a document, one by one or many at once, and what may follow each.

Sans-IO. `Tokens.step` is a method that scans what it can of a piece from a position on, and returns how far it has
come. It leaves the next step in `step`. A step that returns its own position and stays needs more bytes. A step that
meets what no document has there raises a Fault.
"""

from collections.abc import Callable
from typing import Final

from bbr import refusal
from bbr.reading.scan import fragment, grammar, leap, scalars
from bbr.reading.scan.fault import Fault
from bbr.reading.scan.field_members import FIELD, MODEL, FieldMembers
from bbr.reading.scan.fragment import Fragment
from bbr.reading.scan.grammar import MAX_DEPTH, MAX_TRAILING_BLANKS, Keys
from bbr.reading.scan.member import ModelMember

_ARRAY: Final = ord("[")
_OBJECT: Final = ord("{")
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_COMMA: Final = ord(",")
_COLON: Final = ord(":")
_CLOSING_ARRAY: Final = ord("]")
_CLOSING_OBJECT: Final = ord("}")
_OPENING: Final = {_CLOSING_ARRAY: _ARRAY, _CLOSING_OBJECT: _OBJECT}


class Tokens:
    """Where a document stands between two tokens.

    Args:
        member: takes the root's `model`.
        fields: take other members of the root; None: they do not matter.

    Attributes:
        step: what must come next.
        offset: of the piece that is being scanned, in the document.
        plain: that piece, `fragment.unescaped`.
        final: whether the document ends with the piece.
        stack: the brackets that are open.
        closing: the offset of the document's last byte, once that has been scanned.
    """

    __slots__ = (
        "_after_text",
        "_around_texts",
        "_blanks",
        "_fault",
        "_fields",
        "_inner",
        "_keys",
        "_member",
        "closing",
        "final",
        "offset",
        "plain",
        "stack",
        "step",
    )

    def __init__(self, member: ModelMember, fields: FieldMembers | None = None) -> None:
        self.step: Step = Tokens._value
        self.offset = 0
        self.plain = b""
        self.final = False
        self.stack = bytearray()
        self.closing: int | None = None
        self._member = member
        self._fields = fields
        self._keys: Keys | None = grammar.MODEL if fields is None else fields.keys  # that are looked for in the root
        self._inner: Step = Tokens._value  # the step inside of the value that is kept
        self._after_text: Step = Tokens._after_value  # the step behind the string that is being scanned
        self._around_texts: list[bytes] = []  # the brackets around the last long strings
        self._blanks = 0  # how many follow the document
        self._fault = ("", "")  # sentence and reason

    @property
    def complete(self) -> bool:
        """Whether all of the document has been scanned."""
        return self.step is Tokens._trailing

    @property
    def in_text(self) -> bool:
        """Whether it stands inside of a string of which nothing is kept, and in no escape."""
        return self.step is Tokens._text and self._member.text is None

    @property
    def begun(self) -> bool:
        """Whether there was anything but blanks."""
        return self.step is not Tokens._value or bool(self.stack)

    def take_fragment(self, piece: bytes, position: int, most: int) -> Fragment | None:
        """Take many tokens at once, if a fragment can begin here, of so many bytes at most."""
        stack = self.stack
        begun = _BEGUN.get((self.step, stack[-1])) if stack else None
        if begun is None:
            return None
        in_root = self.step is Tokens._key and len(stack) == 1
        keys = self._keys
        if in_root and keys is not None and keys.key.match(piece, grammar.BLANKS.match(piece, position).end()):
            return None
        looking = stack[0] == _OBJECT and self._member.keys < 2
        text, plain = piece[position:], self.plain[position:]
        taken = fragment.read(text, plain, most, stack, begun, keys if looking else None)
        if taken.size:
            self.stack = stack = taken.stack
            if taken.last == _COMMA:
                self.step = Tokens._key if stack[-1] == _OBJECT else Tokens._value
            else:
                self.step = _BEHIND.get(taken.last, Tokens._after_value)
        return taken

    def leap(self, octets: bytes) -> int:
        """Take many tokens of a long text at once, or much of a string; return how many bytes.

        0 if that can't be done with this text; -1 if it was not tried, since nothing can begin here.
        """
        stack = bytes(self.stack)
        in_text = self.in_text and self._after_text is _AFTER_VALUE
        begun = _BEGUN.get((self.step, stack[-1])) if stack else None
        if in_text and stack:
            begun = _IN_TEXT[stack[-1]]
            self._around_texts = [stack, *(other for other in self._around_texts if other != stack)][:_AROUND]
        in_member = begun is not None and len(stack) > 1 and stack[0] == _OBJECT
        if not (in_text or in_member):
            return -1
        if leap.is_dense(octets):
            return 0
        if in_text and (taken := leap.text_bytes(octets)):
            return taken
        return self._leap_in_member(octets, stack, begun) if in_member and begun is not None else 0

    def _leap_in_member(self, octets: bytes, stack: bytes, begun: bytes) -> int:
        begun = leap.beginning(stack, begun)
        # Most bytes of a chat stand in strings, and most of these at few places.
        for around in self._around_texts:
            if taken := leap.into_text(octets, begun, around):
                self.stack = bytearray(around)
                self._open_string(0, Tokens._after_value)
                return taken
        first, last = stack.find(b"[") + 1, stack.rfind(b"[") + 1
        for levels in (first, last) if first < last else (first,):
            if levels > 1 and (taken := leap.behind_object(octets, begun, stack[:levels])):
                self.stack = bytearray(stack[:levels])
                self.step = Tokens._after_value
                return taken
        return 0

    def fail(self, fault: Fault) -> None:
        """Let a fault come again with the bytes that follow, which begin at its place."""
        self._fault = fault.why, fault.reason
        self.step = Tokens._faulty

    def _faulty(self, piece: bytes, position: int) -> int:
        raise Fault(position, *self._fault)

    # Values.

    def _value(self, piece: bytes, position: int) -> int:
        """Scan a scalar, a container's bracket or a string's quote."""
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        first = piece[start]
        if first == _QUOTE:
            return self._open_string(start, Tokens._after_value)
        if first in (_ARRAY, _OBJECT):
            if len(self.stack) == MAX_DEPTH:
                raise Fault(start, "nested too deep", "too-deep")
            self.stack.append(first)
            self.step = Tokens._first_item if first == _ARRAY else Tokens._first_key
            return start + 1
        if first in b"-0123456789":
            end = scalars.number_end(piece, start, self.final)
        elif first in scalars.LITERALS:
            end = scalars.literal_end(piece, start)
        elif first == _CLOSING_ARRAY and self.stack and self.stack[-1] == _ARRAY:
            raise Fault(start, "trailing comma is not allowed")
        else:
            raise Fault(start, "unexpected character, expected a JSON value")
        return self._end_value(end) if end > start else start

    def _end_value(self, end: int) -> int:
        """Go on behind a value, and behind the whole document if no bracket is open."""
        if self.stack:
            self.step = Tokens._after_value
        else:
            self.closing = self.offset + end - 1
            self.step = Tokens._trailing
        return end

    def _after_value(self, piece: bytes, position: int) -> int:
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        octet = piece[start]
        container = self.stack[-1]
        if octet == _COMMA:
            self.step = Tokens._key if container == _OBJECT else Tokens._value
            return start + 1
        if _OPENING.get(octet) == container:
            return self._close(start)
        bracket = "}" if container == _OBJECT else "]"
        raise Fault(start, f"unexpected character, expected ',' or '{bracket}'")

    def _close(self, bracket: int) -> int:
        self.stack.pop()
        return self._end_value(bracket + 1)

    def _trailing(self, piece: bytes, position: int) -> int:
        """Scan blanks after the document."""
        end = grammar.BLANKS.match(piece, position).end()
        self._blanks += end - position
        if self._blanks > MAX_TRAILING_BLANKS:
            raise refusal.trailing_blanks(MAX_TRAILING_BLANKS)
        if end == len(piece):
            return end
        raise Fault(end, "something follows the document", "trailing-bytes")

    # Items and keys.

    def _first_item(self, piece: bytes, position: int) -> int:
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        if piece[start] == _CLOSING_ARRAY:
            return self._close(start)
        self.step = Tokens._value
        return start

    def _first_key(self, piece: bytes, position: int) -> int:
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        if piece[start] == _CLOSING_OBJECT:
            return self._close(start)
        self.step = Tokens._key
        return start

    def _key(self, piece: bytes, position: int) -> int:
        """Scan a key with its colon, or a part of it."""
        keys = self._keys if len(self.stack) == 1 else None
        found = (grammar.KEY_AND_COLON if keys is None else keys.other_and_colon).match(piece, position)
        if found:
            self.step = Tokens._value
            return found.end()
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        if piece[start] == _CLOSING_OBJECT:
            raise Fault(start, "trailing comma is not allowed")
        if piece[start] != _QUOTE:
            raise Fault(start, "unexpected character, expected a string key")
        if keys is not None:
            wanted = keys.key.match(piece, start)
            if wanted:
                return self._wanted_key(wanted[0], start)
            if len(piece) - start < keys.longest and piece.find(b'"', start + 1) < 0 and not self.final:
                return start
        return self._open_string(start, Tokens._colon)

    def _colon(self, piece: bytes, position: int) -> int:
        return self._colon_before(Tokens._value, piece, position)

    def _colon_before(self, step: "Step", piece: bytes, position: int) -> int:
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        if piece[start] != _COLON:
            raise Fault(start, "unexpected character, expected ':' after key")
        self.step = step
        return start + 1

    # Strings.

    def _open_string(self, quote: int, after: "Step") -> int:
        self.step = Tokens._text
        self._after_text = after
        return quote + 1

    def _text(self, piece: bytes, position: int) -> int:
        """Scan the inside of a string."""
        end = scalars.text_end(piece, self.plain, position)
        member = self._member
        if member.text is not None:
            member.keep(member.text, piece[position:end])
        if end == len(piece):
            return end
        octet = piece[end]
        if octet == _BACKSLASH:
            scalars.judge_escape(piece, end)
            return end
        if octet != _QUOTE:
            raise Fault(end, "unexpected control character in string")
        if member.text is not None:
            member.close_text(member.text)
        if not self.stack:
            return self._end_value(end + 1)
        self.step = self._after_text
        return end + 1

    # The root's model, and its other members that matter.

    def _wanted_key(self, key: bytes, start: int) -> int:
        """Scan a key that is `model`, or another one that matters, at least for some parsers."""
        offset = self.offset + start
        whose = MODEL if self._fields is None else self._fields.add_key(key, offset)
        has_value = whose == FIELD
        if whose == MODEL:
            has_value = self._member.add_key(key, offset)
        self._stop_if_refused()
        if not key.endswith(b'"'):  # up to a NUL
            return self._open_string(start + len(key) - 1, Tokens._colon)
        self.step = (Tokens._field_colon if whose == FIELD else Tokens._model_colon) if has_value else Tokens._colon
        return start + len(key)

    def _model_colon(self, piece: bytes, position: int) -> int:
        return self._colon_before(Tokens._model_value, piece, position)

    def _model_value(self, piece: bytes, position: int) -> int:
        start = grammar.BLANKS.match(piece, position).end()
        if start == len(piece):
            return start
        first = piece[start]
        member = self._member
        member.value_offset = self.offset + start
        if first == _QUOTE:
            member.open_text()
            return self._open_string(start, Tokens._after_value)
        end = self._value(piece, start)
        if end > start:
            member.refuse_type(first)
        return end

    def _field_colon(self, piece: bytes, position: int) -> int:
        return self._colon_before(Tokens._field_value, piece, position)

    def _field_value(self, piece: bytes, position: int) -> int:
        """Find where the value of a member that matters begins."""
        start = grammar.BLANKS.match(piece, position).end()
        fields = self._fields
        if start < len(piece) and fields is not None:
            self._inner = Tokens._value
            self.step = Tokens._kept if fields.open(piece[start], self.offset + start) else Tokens._value
            self._stop_if_refused()
        return start

    def _kept(self, piece: bytes, position: int) -> int:
        """Scan on in a value that is kept, token by token."""
        while True:
            step = self.step = self._inner
            end = step(self, piece, position)
            if end > position or self.step is step:
                break
            self._inner = self.step
        self._inner, self.step = self.step, Tokens._kept
        fields = self._fields
        ended = len(self.stack) == 1 and self._inner is Tokens._after_value
        kept = fields is not None and fields.keep(piece[position:end])
        if ended and fields is not None:
            fields.close(self.offset + end)
        if ended or not kept:
            self.step = self._inner
            self._stop_if_refused()
        return end

    def _stop_if_refused(self) -> None:
        """Look for the fields no longer if the document is refused for one, or for a second model.

        It would take long: a fragment ends before each key that is looked for.
        """
        fields = self._fields
        if fields is not None and (fields.refused or self._member.keys > 1):
            self._keys = fields.other_keys
            self._fields = None


Step = Callable[[Tokens, bytes, int], int]

# Where a fragment can begin, by the step and the innermost container, and a beginning of that container which leads
# there; and what comes behind a fragment, by its last byte.
_BEGUN: Final[dict[tuple[Step, int], bytes]] = {
    (Tokens._value, _ARRAY): b"[1,",
    (Tokens._value, _OBJECT): b'{"":',
    (Tokens._key, _OBJECT): b'{"":1,',
    (Tokens._after_value, _ARRAY): b"[[]",  # no number, lest a digit continues it
    (Tokens._after_value, _OBJECT): b'{"":[]',
}
_AFTER_VALUE: Final[Step] = Tokens._after_value
# The same inside of a string that is a value.
_IN_TEXT: Final = {_ARRAY: b'["', _OBJECT: b'{"":"'}
# How many places of long strings are kept in mind.
_AROUND: Final = 3
_BEHIND: Final[dict[int, Step]] = {_ARRAY: Tokens._first_item, _OBJECT: Tokens._first_key}
