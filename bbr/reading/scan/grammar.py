"""RFC 8259 token by token, as regular expressions, and the limits that a document has beside it.

Pure. The octets are UTF-8 that has been checked. Quantifiers are possessive, so that a match takes time in proportion
to its text. W is what may stand between tokens.
"""

import re
from typing import Final, Protocol, cast


class Eager(Protocol):
    """A pattern that matches anywhere, if need be the empty string."""

    def match(self, string: bytes, pos: int = 0) -> re.Match[bytes]:
        """Return how much of it stands at `pos`."""


# The longest beginning of a key that tells whether it is `model`: a quote, every letter as \u006X, a NUL as \u0000.
LONGEST_MODEL_KEY: Final = 37

# Real requests have 10 levels; Python's own parser, in most model servers, ends at about 990.
MAX_DEPTH: Final = 900

# The smallest double, written out in full, has 1077.
MAX_NUMBER_BYTES: Final = 2048

# Blanks behind the document. They are held back until the body has ended.
MAX_TRAILING_BLANKS: Final = 64 << 10

_W: Final = r"[ \t\n\r]*+"
_HEX: Final = r"[0-9a-fA-F]"
# A positive set, with nothing else to look for, is the fastest that the engine has: 730 MB/s, [^"\\\x00-\x1f] 400.
_PLAIN: Final = r"[ !#-\[\]-\xff]*+"
_HIGH: Final = rf"[dD][89abAB]{_HEX}{{2}}"
_ESCAPE: Final = (
    rf'\\(?:["\\/bfnrt]|u(?:[0-9a-cefA-CEF]{_HEX}{{3}}|[dD][0-7]{_HEX}{{2}}|{_HIGH}\\u[dD][c-fC-F]{_HEX}{{2}}))'
)
_TEXT: Final = rf"{_PLAIN}(?:{_ESCAPE}{_PLAIN})*+"
_STRING: Final = rf'"{_TEXT}"'
# `model` in any letters, up to its end or to a NUL: see `spelling.is_folded`.
_LETTERS: Final = (
    r'"(?:[mM]|\\u00[46][dD])(?:[oO]|\\u00[46][fF])(?:[dD]|\\u00[46]4)(?:[eE]|\\u00[46]5)(?:[lL]|\\u00[46][cC])'
)
_MODEL: Final = rf'{_LETTERS}(?:"|\\u0000)'
_NUMBER: Final = r"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+"
_OTHER_KEY: Final = rf"(?!{_MODEL}){_STRING}"


def _compile(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode())


def _eager(pattern: str) -> Eager:
    return cast(Eager, _compile(pattern))


BLANKS: Final = _eager(_W)
TEXT: Final = _eager(_TEXT)
KEY_AND_COLON: Final = _compile(rf"{_W}{_STRING}{_W}:{_W}")
OTHER_KEY_AND_COLON: Final = _compile(rf"{_W}{_OTHER_KEY}{_W}:{_W}")
MODEL_KEY: Final = _compile(_MODEL)
MODEL_BEFORE_COLON: Final = _compile(rf'{_LETTERS}(?:\\u0000{_TEXT})?+"(?={_W}:)')
# Stands in every text that has such a key.
MODEL_END: Final = _compile(r'[lL]"|\\u00')
NUMBER: Final = _compile(_NUMBER)
# What could be a part of a number, as far as it goes.
NUMBER_OCTETS: Final = _eager(r"[-+.0-9eE]*+")

# An escape that may be whole, or be wrong in another way, when more octets have come.
LONGEST_ESCAPE: Final = 12
UNFINISHED_ESCAPE: Final = _compile(rf"\\(?:u(?:{_HIGH}(?:\\(?:u{_HEX}{{0,3}}+)?+)?+|{_HEX}{{0,3}}+))?+")
# Half of a pair without the other, except where the other has no four digits.
LONE_SURROGATE: Final = _compile(rf"\\u(?:[dD][c-fC-F]{_HEX}{{2}}|{_HIGH}(?!\\u(?!{_HEX}{{4}})))")
