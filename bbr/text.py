"""Makes texts and JSON safe to show. File names may have any bytes, and peers may send anything.

Python keeps bytes that are not UTF-8 as lone surrogates, which cannot be encoded. Here they become escapes.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import orjson

# Characters that str.isprintable accepts although people cannot see them: letters and marks with the property
# Default_Ignorable_Code_Point (Unicode's DerivedCoreProperties.txt), and the blank Braille pattern.
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

# The same as html.escape. The module html is not imported: its table of 2,231 entities takes 0.5 MB.
_MARKUP: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})

_NOT_ASCII: Final = re.compile("[^ -~]")


# How much of a text an error quotes. An argument of a command line may have 128 KiB.
MAX_QUOTED_CHARACTERS: Final = 256

# Of a name or a value that a gateway or a server has told.
MAX_BRIEF_CHARACTERS: Final = 300


def quoted(text: str, most: int = MAX_QUOTED_CHARACTERS) -> str:
    """Return a text in quotes, for an error. Of a long text only the first `most` characters are shown."""
    return repr(text if len(text) <= most else f"{text[:most]}...")


def encodable(text: str) -> str:
    """Return a text in which escapes replace everything that cannot be encoded as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def escape(text: str) -> str:
    """Return a text escaped for HTML, for use between tags or in quotes."""
    return text.translate(_MARKUP)


def is_visible(text: str) -> bool:
    """Return whether people can see each character of a text, or it is an ASCII blank."""
    return text.isprintable() and (text.isascii() or not _UNSEEN.search(text))


def printable(text: str) -> str:
    """Return a text for a terminal. Python's escapes replace control characters and invisible ones."""
    return text if is_visible(text) else _NOT_ASCII.sub(lambda found: _python_escape(found[0]), text)


def printable_lines(text: str) -> str:
    """Return lines for a terminal: what stands in them is printable, and only a line feed begins another one."""
    return "\n".join(map(printable, text.split("\n")))


def brief(text: str, most: int = MAX_BRIEF_CHARACTERS) -> str:
    """Return somebody else's text for a sentence of ours: printable, on one line, and no more than its beginning."""
    return printable(text[:most]) + ("..." if len(text) > most else "")


def printable_json(text: str) -> str:
    """Return JSON on one line for a terminal. JSON's escapes replace control characters and invisible ones."""
    return text if is_visible(text) else _NOT_ASCII.sub(lambda found: _json_escape(found[0]), text)


def printable_json_lines(text: str) -> str:
    """Return JSON over several lines for a terminal, each as `printable_json` returns it."""
    return "\n".join(map(printable_json, text.split("\n")))


def _python_escape(character: str) -> str:
    return character if is_visible(character) else ascii(character)[1:-1]


def _json_escape(character: str) -> str:
    if is_visible(character):
        return character
    encoded = character.encode("utf-16-be", "surrogatepass")  # two escapes for a character beyond U+FFFF
    return "".join(f"\\u{encoded[i : i + 2].hex()}" for i in range(0, len(encoded), 2))


def dumps(value: Any, *, option: int = 0, default: Callable[[Any], Any] | None = None) -> bytes:
    """Return a value as JSON, as orjson.dumps does, but also with lone surrogates and integers of over 64 bits.

    Lone surrogates become escapes, and such integers become strings.

    What nobody could see, or a terminal would obey, is an escape: people look at these answers with curl.

    Raises:
        TypeError: the value has a type that JSON does not have, and `default` does not convert it.
    """
    try:
        data = orjson.dumps(value, default=default, option=option)
    except TypeError:
        data = orjson.dumps(_mended(value), default=default, option=option | orjson.OPT_NON_STR_KEYS)
    if data.isascii() and b"\x7f" not in data:
        return data
    return printable_json_lines(data.decode()).encode()


def _mended(value: Any) -> Any:
    """Return a value that orjson accepts: escapes for lone surrogates, strings for integers of over 63 bits."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {_mended(name): _mended(each) for name, each in value.items()}
    if isinstance(value, int) and value.bit_length() > 63:
        return str(value)
    return [_mended(each) for each in value] if isinstance(value, list | tuple) else value
