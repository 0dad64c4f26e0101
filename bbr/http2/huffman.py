"""Decoding HPACK's Huffman code (RFC 7541, section 5.2 and appendix B), an octet at a time.

A state is the part of a code that is still open at an octet's end; a step takes it and an octet to the symbols that
this completes and the next state. Steps are worked out when first met and kept. The hpack library takes three times as
long for a traceparent (bench/micro/fields.py).
"""

from typing import Final

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

_EOS: Final = 256
_SYMBOLS: Final[dict[tuple[int, int], int]] = {
    (length, code): symbol
    for symbol, (code, length) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True))
}


class HuffmanError(Exception):
    """The octets are no Huffman-coded string: EOS inside, or padding that is too long or not of ones."""


class _State(dict[int, tuple[bytes, "_State"]]):
    """An open code, and the steps from it that are known: octet -> (symbols, next state). 256 states, 256 octets."""

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
            if symbol == _EOS:
                raise HuffmanError
            if symbol is not None:
                symbols.append(symbol)
                bits = value = 0
        state = _states.setdefault((bits, value), _State(bits, value))
        step = self[octet] = (bytes(symbols), state)
        return step


_START: Final = _State(0, 0)
_states: Final[dict[tuple[int, int], _State]] = {(0, 0): _START}


def decode(coded: bytes) -> bytes:
    """Return the octets that `coded` stands for.

    Raises:
        HuffmanError: see there.
    """
    state = _START
    out = []
    for octet in coded:
        symbols, state = state[octet]
        out.append(symbols)
    # Padding is the most significant bits of EOS, all ones, and shorter than an octet.
    if state.bits > 7 or state.value != (1 << state.bits) - 1:
        raise HuffmanError
    return b"".join(out)
