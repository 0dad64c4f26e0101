"""The one `model` of a JSON document that comes in pieces, and whether it is a document at all.

Sans-IO. Every split into pieces gives the same verdict; what is kept of the pieces is a few kilobytes at most, whatever
the document's size. It reads long documents, and those short ones that the parsers do not settle at once (`find_model`
in bbr.reading.json_body). So every refusal is its own. tests/property/test_scanner.py compares it with a judge made of
orjson and msgspec (tests/support/whole.py).

Pieces are looked at in slices. What can be is taken by `fragment.read`, many tokens at once. The tokens at the edges of
a slice, the root's own brackets, its `model`, and whatever is wrong, go through the steps of `Tokens`, one by one. Of a
long string, such as an image, `plain.size` takes what is plain text, 32 KiB at once. `Tokens.leap` takes as much of a
long conversation, if it guesses right where that can be cut.

Where they differ, on purpose:

- A scanner refuses at the first fault, before it has seen the rest. The judge reports invalid UTF-8 first, wherever it
  stands, and of a string's missing end before a half of a pair right there. All are a 400 that means: no JSON.
- Nesting ends at MAX_DEPTH. The judge goes a little deeper; how far depends on Python's stack, or is 1024 levels if the
  body has no `model` key.
- A fault behind some hundred levels is called by its own name; the judge may say `too-deep`, as orjson does.
- A number may have MAX_NUMBER_BYTES; for the judge any number.
- MAX_TRAILING_BLANKS may follow the document, for the judge any number. What stands behind the document is held back
  until the body has ended, so it must not be long.
- The message about a `model` that is far too long does not say how long it is.
- Byte offsets: for a comma before a closing bracket the bracket's is given, for nesting too deep that of the bracket,
  for a body that ends amid a pair of escapes its end. The wording of some `invalid-json` is ours.
"""

from typing import Final

from bbr import refusal
from bbr.reading import name as model
from bbr.reading import one_pass, plain
from bbr.reading.scan import fragment, leap
from bbr.reading.scan.fault import Fault
from bbr.reading.scan.field_members import FieldMembers, Values
from bbr.reading.scan.member import ModelMember
from bbr.reading.scan.tokens import Tokens
from bbr.refusal import Refusal

# What one call may spend, in ns, all costs being those of the worst bytes. Together with the last fragment, which is
# counted when it is done, that is less than a millisecond (bench/micro/scanner_worst.py).
BUDGET: Final = 300_000

# What is looked at at once; a fragment can't be interrupted.
_SLICE: Final = 8 << 10

# Fewer bytes are not worth the while of a fragment.
_FRAGMENT_BYTES: Final = 24

# And those that are looked at one by one if there is a fault among them.
_FEW_BYTES: Final = 64

_SLICE_COST: Final = 3_000
_STEP_COST: Final = 2_500
_OCTET_COST: Final = 3
_ESCAPE_COST: Final = 15

# Plain text that is passed over at once, and what that costs: at all, and for so many bytes a nanosecond.
_PLAIN_BYTES: Final = 32 << 10
_PLAIN_COST: Final = 2_000
_PLAIN_SHIFT: Final = 2


class Scanner:
    """One document.

    Args:
        max_model_bytes: a longer name is refused.
        fields: take other members; None: they do not matter.
        leap_from: before this offset all is looked at token by token, or fragment by fragment.

    Attributes:
        unspent: what the last call of `scan` has left of its budget; none if less than nothing.
    """

    __slots__ = ("_carry", "_fields", "_leap_from", "_member", "_most", "_refused", "_tokens", "unspent")

    def __init__(
        self, max_model_bytes: int = model.MAX_MODEL_BYTES, fields: Values | None = None, leap_from: int = 0
    ) -> None:
        self.unspent = 0
        self._member = ModelMember(max_model_bytes)
        self._fields = fields
        self._tokens = Tokens(self._member, FieldMembers(fields) if fields is not None else None)
        self._carry = b""  # the beginning of a token whose end has not come
        self._leap_from = leap_from  # moves on if no leap could be made
        self._most = _SLICE  # how long a fragment may be: shorter where it is steep
        self._refused: Refusal | None = None

    @property
    def model(self) -> str | Refusal | None:
        """What is known of the top-level `model`.

        None if there was none so far, its value, or the refusal that it calls for, as does a key that is `model` for
        some parsers only. A second `model` key makes a refusal of a value, and a fault of the document, which `scan`
        and `finish` raise, goes before both. So does a refusal that another member calls for, unless `model` does.
        """
        known = self._member.known
        if self._fields is None or (isinstance(known, Refusal) and not known.unnamed):
            return known
        return self._fields.refusal or known

    @property
    def closing(self) -> int | None:
        """The offset of the document's last byte, its closing brace, once that has been scanned."""
        return self._tokens.closing

    @property
    def scanned_bytes(self) -> int:
        """How much of the document is scanned, and no part of a token whose end has not come."""
        return self._tokens.offset

    @property
    def value_offset(self) -> int:
        """Where the value of `model` begins in the document, once it has begun."""
        return self._member.value_offset

    @property
    def held_bytes(self) -> int:
        """How much the scanner keeps of what it was given."""
        return len(self._carry) + len(self._tokens.stack) + len(self._member.text or b"")

    def scan(self, octets: bytes | memoryview, position: int = 0, budget: int = BUDGET) -> int:
        """Scan a piece of the document from `position` on, and return how far that went.

        The next call goes on from there, or with the next piece if that is the end of this one. A call scans one byte
        at least, and 8 KiB more than its budget is worth at most, or 32 KiB that are passed over at once.

        Raises:
            Refusal: 400; this is no JSON document. Every later call raises it again.
        """
        if self._refused:
            raise self._refused
        size = len(octets)
        try:
            while position < size and budget > 0:
                passed, cost = self._pass_over(octets, position) if not self._carry else (0, 0)
                budget -= cost
                if passed:
                    position += passed
                    self._tokens.offset += passed
                    continue
                stop = position + _SLICE
                if stop > size:
                    stop = size
                held = len(self._carry)
                piece = self._carry + octets[position:stop]
                try:
                    taken, stuck, cost = self._take(piece, held, budget)
                except Fault as fault:
                    taken, stuck, cost = self._refuse(fault, piece), True, _SLICE_COST
                budget -= cost
                if stuck and stop == size:
                    self._carry = piece[taken:]
                    position = size
                else:
                    self._carry = self._carry[taken:]
                    position += taken - held  # what was held is no longer than any token, and all of it is taken
        except Refusal as refused:
            self._refused = refused
            raise
        self.unspent = budget
        return position

    def _pass_over(self, octets: bytes | memoryview, position: int) -> tuple[int, int]:
        """Take much of a piece at once, if that can be done, and return how much, and the cost."""
        tokens = self._tokens
        left = len(octets) - position
        cost = 0
        if left >= plain.LEAST_BYTES and tokens.in_text:
            passed = plain.size(octets[position : position + _PLAIN_BYTES])
            cost = _PLAIN_COST + (passed >> _PLAIN_SHIFT)
            if passed:
                return passed, cost
        if left < leap.LEAST_BYTES or tokens.offset < self._leap_from or not one_pass.AVAILABLE:
            return 0, cost
        text = bytes(octets[position : position + leap.MOST_BYTES])
        passed = tokens.leap(text)
        if passed < 0:
            return 0, cost
        if not passed:
            self._leap_from = tokens.offset + len(text)
        return passed, cost + leap.COST + leap.OCTET_COST * len(text)

    def finish(self) -> str | None:
        """End the document, and return its `model`; None if it has none, or is empty.

        Raises:
            Refusal: 400; the document is not complete, or its `model` is none to use.
        """
        if self._refused:
            raise self._refused
        self._tokens.final = True
        try:
            self._end()
        except Refusal as refused:
            self._refused = refused
            raise
        model = self.model
        return model if isinstance(model, str) else None

    def _end(self) -> None:
        tokens = self._tokens
        size = tokens.offset + len(self._carry)
        try:
            self._take(self._carry, 0, len(self._carry) * _STEP_COST + BUDGET)
        except Fault as fault:
            self._refuse(fault, self._carry)
        if size and not tokens.complete:
            # orjson's place for blanks alone
            blank = not tokens.begun and tokens.offset == size
            raise refusal.invalid_json("invalid-json", "unexpected end of data", 0 if blank else size)
        model = self.model
        if isinstance(model, Refusal):
            raise model

    def _take(self, piece: bytes, held: int, budget: int) -> tuple[int, bool, int]:
        """Scan a slice, which begins with what was held; return how far, if more bytes are needed, and the cost.

        Raises:
            Fault: at what no document has at its place.
            Refusal: 400; the rest is no UTF-8.
        """
        tokens = self._tokens
        whole = len(piece)
        size, invalid = (whole, False) if piece.isascii() else _utf8_bytes(piece)
        if size < whole:
            piece = piece[:size]
        tokens.plain = fragment.unescaped(piece)
        cost = _SLICE_COST + _OCTET_COST * size
        if tokens.plain is not piece:
            cost += _ESCAPE_COST * piece.count(b"\\")
        position = 0
        more = self._most  # how many bytes to try a fragment of
        if more < _SLICE:
            more = self._most = min(2 * more, _SLICE)
        stuck = True
        while position < size:
            if cost >= budget and position > held:
                stuck = False
                break
            worth = more and position >= held and size - position >= _FRAGMENT_BYTES
            if worth and (taken := tokens.take_fragment(piece, position, more)):
                cost += taken.cost
                position += taken.size
                # What can't be taken has a fault, or is too deep; half of it perhaps not. To look at each token before
                # the fault took 24 ms for 4 KB.
                more = taken.more if taken.size else min(more, size - position) >> 1
                if more or not taken.size:
                    self._most = max(more, _FEW_BYTES)
                if taken.size or more >= _FEW_BYTES:
                    continue
                more = 0
            step = tokens.step
            end = step(tokens, piece, position)
            if end == position and tokens.step is step:
                break
            cost += _STEP_COST + _OCTET_COST * (end - position)
            position = end
        tokens.plain = b""
        if size < whole and stuck and (invalid or tokens.final):
            raise refusal.invalid_json("invalid-utf8", "invalid UTF-8", tokens.offset + size)
        tokens.offset += position
        return position, stuck, cost

    def _refuse(self, fault: Fault, piece: bytes) -> int:
        """Refuse the document, or return where the fault is if more bytes may make it another."""
        tokens = self._tokens
        rest = piece[fault.place :]
        if tokens.final or not fault.may_change(rest):
            raise fault.refusal(rest, tokens.offset + fault.place)
        tokens.plain = b""
        tokens.fail(fault)
        tokens.offset += fault.place
        return fault.place


def _utf8_bytes(piece: bytes) -> tuple[int, bool]:
    """Return how much of a piece is UTF-8, and whether what follows can't be."""
    try:
        piece.decode()
    except UnicodeDecodeError as error:
        return error.start, error.reason != "unexpected end of data"
    return len(piece), False
