"""Other spellings of the name `model`, which some parsers take for it, and characters that nobody sees.

Pure. A field that is `model` for one parser and another field, or none, for the next would let a request be routed as
one model and served as another. So every name in a form, a query or a part of a multipart body is compared with all
that a common parser makes of it:

| spelling | who reads it as `model` |
|---|---|
| `Model`, `MODEL` | Go's encoding/json, gin, ASP.NET, Jackson if told to |
| `[model]`, `model[]`, `model[0]`, `model.x`, `.model` | qs, PHP, Rack, Spring |
| ` model`, `model `, `?model`, `!model` | PHP and who else trims, URLSearchParams, Spring |
| `'model'` | PHP, in a part that has no double quotes around it |
| `%256dodel`, `%u006dodel`, `mo\\del` | who decodes twice, IIS, who takes backslashes for escapes |
| `model%00x` | whose strings end there |
| U+FEFF, U+200B and other invisible characters in it | TextDecoder, trim() |
| bytes from 0x80 on in it | formidable clears the eighth bit, others drop what is no UTF-8 |
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

# Default_Ignorable_Code_Point of Unicode 16 (variation selectors, joiners, marks of direction, U+FEFF, tags), controls,
# separators of lines and paragraphs, blanks but the ASCII one, Braille's among them, marks around annotations, joiners
# of hieroglyphs, and noncharacters.
INVISIBLE_CLASS: Final = (
    "\x00-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u2800\u3000\u3164\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
INVISIBLE: Final = re.compile(f"[{INVISIBLE_CLASS}]")

# Names are judged by so many bytes of theirs.
MAX_BYTES: Final = 128

# How often escapes are undone: once by every server, again by some.
_ROUNDS: Final = 3

_BEFORE: Final = rb"[\x00-\x20\x7f\[\].?!+/']*+"
_BEHIND: Final = rb"[\x00-\x20\x7f\[\].+']"
_ALIKE: Final = re.compile(_BEFORE + rb"[mM][oO][dD][eE][lL](?:" + _BEHIND + rb"|\Z)")
# Of a name that is cut, perhaps amid an escape.
_BLANK: Final = re.compile(_BEFORE + rb"(?:%[0-9a-fA-F]?+)?+")
_UNICODE_ESCAPE: Final = re.compile(rb"%[uU]00(?=[0-9a-fA-F]{2})")
_SEVEN_BITS: Final = bytes(octet & 0x7F for octet in range(256))
_HIGH: Final = bytes(range(0x80, 0x100))


def is_alike(name: bytes) -> bool:
    """Tell whether a name, of which MAX_BYTES are looked at, is `model` for some parser; `model` itself is.

    So is one that begins with MAX_BYTES of blanks and brackets: anything may stand behind them.
    """
    cut = name[:MAX_BYTES]
    for _ in range(_ROUNDS + 1):
        if _spells(cut):
            return True
        if b"%" not in cut:
            break
        undone = unquote_to_bytes(_UNICODE_ESCAPE.sub(b"%", cut))
        if undone == cut:  # as the next round's would be
            break
        cut = undone
    return len(name) > MAX_BYTES and _BLANK.fullmatch(cut) is not None


def is_folded(name: str) -> bool:
    """Tell whether a key of JSON is `model` for some parser: without regard to letter case, or up to a NUL.

    Letters of other alphabets that fold to ASCII's are k and s alone (U+212A, U+017F), which `model` does not have.
    """
    return name.partition("\0")[0].lower() == "model"


def _spells(name: bytes) -> bool:
    name = name.replace(b"\\", b"")
    if name.isascii():
        return _ALIKE.match(name) is not None
    try:
        seen = INVISIBLE.sub("", name.decode()).encode()
    except UnicodeDecodeError:
        seen = name.translate(None, _HIGH)
    return (_ALIKE.match(seen) or _ALIKE.match(name.translate(_SEVEN_BITS))) is not None
