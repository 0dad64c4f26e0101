"""Texts and JSON that can be shown, whatever stands in them: names of files may be any bytes, and peers say anything.

Python holds bytes that are no UTF-8 as lone surrogates, which can't be encoded; here they become escapes.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import orjson

# What str.isprintable takes for printable although nothing is to be seen: letters and marks that are
# Default_Ignorable_Code_Point (Unicode's DerivedCoreProperties.txt), and the blank pattern of Braille.
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

# As html.escape has them. That module's table of 2,231 entities takes 0.5 MB, and nothing here reads HTML.
_MARKUP: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})

_NOT_ASCII: Final = re.compile("[^ -~]")


# Of a text that an error quotes; an argument may have 128 KiB.
MAX_QUOTED_CHARACTERS: Final = 256

# Of a name or a value that a gateway or a server has told.
MAX_BRIEF_CHARACTERS: Final = 300


def quoted(text: str, most: int = MAX_QUOTED_CHARACTERS) -> str:
    """Return a text as an error has it: in quotes, and no more than its first characters."""
    return repr(text if len(text) <= most else f"{text[:most]}...")


def encodable(text: str) -> str:
    """Return a text with what is no UTF-8 in it spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def escape(text: str) -> str:
    """Return a text as HTML has it, between tags or in quotes."""
    return text.translate(_MARKUP)


def is_visible(text: str) -> bool:
    """Return whether each character of a text is one that people can see, or an ASCII blank."""
    return text.isprintable() and (text.isascii() or not _UNSEEN.search(text))


def printable(text: str) -> str:
    """Return a text for a terminal: what that would obey, or nobody could see, is spelled out as Python does it."""
    return text if is_visible(text) else _NOT_ASCII.sub(lambda found: _python_escape(found[0]), text)


def printable_lines(text: str) -> str:
    """Return lines for a terminal: what stands in them is printable, and only a line feed begins another one."""
    return "\n".join(map(printable, text.split("\n")))


def brief(text: str, most: int = MAX_BRIEF_CHARACTERS) -> str:
    """Return somebody else's text for a sentence of ours: printable, on one line, and no more than its beginning."""
    return printable(text[:most]) + ("..." if len(text) > most else "")


def printable_json(text: str) -> str:
    """Return JSON on one line for a terminal: what nobody could see becomes an escape of JSON's."""
    return text if is_visible(text) else _NOT_ASCII.sub(lambda found: _json_escape(found[0]), text)


def _python_escape(character: str) -> str:
    return character if is_visible(character) else ascii(character)[1:-1]


def _json_escape(character: str) -> str:
    if is_visible(character):
        return character
    encoded = character.encode("utf-16-be", "surrogatepass")  # of two for a character beyond U+FFFF
    return "".join(f"\\u{encoded[i : i + 2].hex()}" for i in range(0, len(encoded), 2))


def dumps(value: Any, *, option: int = 0, default: Callable[[Any], Any] | None = None) -> bytes:
    """Return a value as JSON, as orjson.dumps does; of what strict JSON can't hold, texts are spelled out.

    What nobody could see, or a terminal would obey, is an escape: people look at these answers with curl.

    Raises:
        TypeError: it holds something else than JSON has, and there is no `default` for that.
    """
    try:
        data = orjson.dumps(value, default=default, option=option)
    except TypeError:
        data = orjson.dumps(_mended(value), default=default, option=option | orjson.OPT_NON_STR_KEYS)
    if data.isascii() and b"\x7f" not in data:
        return data
    return "\n".join(map(printable_json, data.decode().split("\n"))).encode()


def _mended(value: Any) -> Any:
    """Return a value that strict JSON can hold: lone surrogates become escapes, long numbers texts."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {_mended(name): _mended(each) for name, each in value.items()}
    if isinstance(value, int) and value.bit_length() > 63:
        return str(value)
    return [_mended(each) for each in value] if isinstance(value, list | tuple) else value
