"""Decoding HPACK's Huffman code (RFC 7541, section 5.2 and appendix B), a byte at a time.

A state is the part of a code that is still open at a byte's end; a step takes it and a byte to the symbols that
this completes and the next state. Steps are worked out when first met and kept. The hpack library takes three times as
long for a traceparent (bench/micro/fields.py).

A value that nobody reads, as a gateway's traceparent is, need not be decoded: `is_field_value` goes along the code and
says what there is to know of it, in a fifth of the time.
"""

import enum
from typing import Final

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

_EOS: Final = 256
_SYMBOLS: Final[dict[tuple[int, int], int]] = {
    (length, code): symbol
    for symbol, (code, length) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True))
}


class HuffmanError(Exception):
    """The bytes are no Huffman-coded string: EOS inside, or padding that is too long or not of ones."""


class _State(dict[int, tuple[bytes, "_State"]]):
    """An open code, and the steps from it that are known: byte -> (symbols, next state). 256 states, 256 bytes."""

    __slots__ = ("bits", "value")

    def __init__(self, bits: int, value: int) -> None:
        super().__init__()
        self.bits = bits
        self.value = value

    def __missing__(self, octet: int) -> "tuple[bytes, _State]":
        bits, value = self.bits, self.value
        symbols = bytearray()
        for shift in range(7, -1, -1):
            bits, value = bits + 1, value << 1 | octet >> shift & 1
            symbol = _SYMBOLS.get((bits, value))
            # A string that holds EOS itself is a decoding error (RFC 7541, section 5.2).
            if symbol == _EOS:
                raise HuffmanError
            if symbol is not None:
                symbols.append(symbol)
                bits = value = 0
        # One object for equal states: the tables stay at 256 states, whatever a peer sends.
        state = _states.setdefault((bits, value), _State(bits, value))
        step = self[octet] = (bytes(symbols), state)
        return step

    @property
    def ends(self) -> bool:
        """Whether a string may end here: padding is the first bits of EOS, all ones, and shorter than a byte."""
        return self.bits <= 7 and self.value == (1 << self.bits) - 1


_START: Final = _State(0, 0)
_states: Final[dict[tuple[int, int], _State]] = {(0, 0): _START}


class _Text(enum.IntEnum):
    """What is known of a field value before its end (RFC 9113, section 8.2.1)."""

    NONE = 0  # no symbol yet
    GOOD = 1
    BLANK = 2  # good, unless it ends here: the last symbol is a blank
    BAD = 3


class _Check(dict[int, "_Check"]):
    """A state and what is known of the value so far, and the steps that are known: four times as many at most."""

    __slots__ = ("legal", "state", "text")

    def __init__(self, state: _State, text: _Text) -> None:
        super().__init__()
        self.state = state
        self.text = text
        self.legal = text < _Text.BLANK if state.ends else None  # a value that ends here; None: no string ends here

    def __missing__(self, octet: int) -> "_Check":
        symbols, state = self.state[octet]
        text = self.text
        for symbol in symbols:
            # CR, LF and NUL split fields in a protocol of lines: response splitting, request smuggling (section 10.3).
            if text == _Text.BAD or symbol in b"\x00\r\n" or (text == _Text.NONE and symbol in b" \t"):
                text = _Text.BAD
            else:
                text = _Text.BLANK if symbol in b" \t" else _Text.GOOD
        step = self[octet] = _checks.setdefault((state.bits, state.value, text), _Check(state, text))
        return step


_CHECK: Final = _Check(_START, _Text.NONE)
_checks: Final[dict[tuple[int, int, int], _Check]] = {(0, 0, _Text.NONE): _CHECK}


def is_field_value(coded: bytes) -> bool:
    """Return whether the bytes that `coded` stands for make a field value: no NUL, CR, LF, no blanks at an end.

    Raises:
        HuffmanError: see there.
    """
    check = _CHECK
    for octet in coded:
        check = check[octet]
    legal = check.legal
    if legal is None:
        raise HuffmanError
    return legal


def decode(coded: bytes) -> bytes:
    """Return the bytes that `coded` stands for.

    Raises:
        HuffmanError: see there.
    """
    state = _START
    out = []
    for octet in coded:
        symbols, state = state[octet]
        out.append(symbols)
    # Padding of eight bits or more, or of other bits, would give one string many codings (RFC 7541, section 5.2).
    if not state.ends:
        raise HuffmanError
    return b"".join(out)
