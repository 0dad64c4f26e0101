"""RFC 8259 token by token, as regular expressions, and the limits that a document has beside it.

Pure. The bytes are UTF-8 that has been checked. Quantifiers are possessive, so that a match takes time in proportion
to its text. W is what may stand between tokens.
"""

import re
from typing import Final, Protocol, cast


class Eager(Protocol):
    """A pattern that matches anywhere, if need be the empty string."""

    def match(self, string: bytes, pos: int = 0) -> re.Match[bytes]:
        """Return how much of it stands at `pos`."""


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
_NUMBER: Final = r"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+"
# Letters of other alphabets that some parsers take for one of ASCII (Go's encoding/json), as bytes and as an escape.
_FOLDED: Final = {"k": r"|\xe2\x84\xaa|\\u212[aA]", "s": r"|\xc5\xbf|\\u017[fF]"}
_FOLDED_ENDS: Final = {"k": r"\xaa", "s": r"\xbf"}


def _compile(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode())


def _eager(pattern: str) -> Eager:
    return cast(Eager, _compile(pattern))


class Keys:
    """Patterns of the keys that are looked for in a root, each in any letters, up to its end or to a NUL.

    See `spelling.is_folded`.

    Args:
        names: of letters, digits, dashes and underscores.

    Attributes:
        key: one of the keys, up to its end or to a NUL.
        before_colon: all of such a key, before a colon.
        other_and_colon: a key that is none of them.
        end: stands in every text that has such a key before a colon.
        longest: the longest beginning of a key that tells whether it is one of them: a quote, every letter as \\u006X,
            a NUL as \\u0000.
        count: how many they are.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        key = '"(?:' + "|".join("".join(map(_any_letter, name)) for name in names) + ")"
        ended = rf'{key}(?:"|\\u0000)'
        ends = "".join(sorted({name[-1].lower() + name[-1].upper() for name in names}))
        folded = "".join(_FOLDED_ENDS.get(name[-1].lower(), "") for name in names)
        self.key = _compile(ended)
        self.before_colon = _compile(rf'{key}(?:\\u0000{_TEXT})?+"(?={_W}:)')
        self.other_and_colon = _compile(rf"{_W}(?!{ended}){_STRING}{_W}:{_W}")
        # For one name a quote will do. Values of other members, as in "role":"user", may end as a name does.
        colon = rf"{_W}:" if len(names) > 1 else ""
        self.end = _compile(rf'[{ends.replace("-", "")}{folded}-]"{colon}|\\u(?:00|017|212)')
        self.longest = 1 + 6 * max(map(len, names)) + 6
        self.count = len(names)


def _any_letter(letter: str) -> str:
    """Return a pattern of a letter in either case, as it is or as an escape."""
    spellings = {letter.lower(), letter.upper()}
    digits = (f"{ord(each):02x}" for each in sorted(spellings))
    escapes = "|".join("".join(f"[{digit}{digit.upper()}]" for digit in each) for each in digits)
    return rf"(?:[{''.join(sorted(spellings))}]|\\u00(?:{escapes}){_FOLDED.get(letter.lower(), '')})"


MODEL: Final = Keys(("model",))

BLANKS: Final = _eager(_W)
TEXT: Final = _eager(_TEXT)
KEY_AND_COLON: Final = _compile(rf"{_W}{_STRING}{_W}:{_W}")
NUMBER: Final = _compile(_NUMBER)
# What could be a part of a number, as far as it goes.
NUMBER_OCTETS: Final = _eager(r"[-+.0-9eE]*+")

# An escape that may be whole, or be wrong in another way, when more bytes have come.
LONGEST_ESCAPE: Final = 12
UNFINISHED_ESCAPE: Final = _compile(rf"\\(?:u(?:{_HIGH}(?:\\(?:u{_HEX}{{0,3}}+)?+)?+|{_HEX}{{0,3}}+))?+")
# Half of a pair without the other, except where the other has no four digits.
LONE_SURROGATE: Final = _compile(rf"\\u(?:[dD][c-fC-F]{_HEX}{{2}}|{_HIGH}(?!\\u(?!{_HEX}{{4}})))")
