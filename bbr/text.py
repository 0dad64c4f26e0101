"""Texts and JSON that can be shown, whatever stands in them: names of files may be any octets, and peers say anything.

Python holds octets that are no UTF-8 as lone surrogates, which can't be encoded; here they become escapes.
"""

from collections.abc import Callable
from typing import Any

import orjson


def encodable(text: str) -> str:
    """Return a text with what is no UTF-8 in it spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """Return a text for a terminal: what that would obey, or could not show, is spelled out."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def dumps(value: Any, *, option: int = 0, default: Callable[[Any], Any] | None = None) -> bytes:
    """Return a value as JSON, as orjson.dumps does; of what strict JSON can't hold, texts are spelled out.

    Raises:
        TypeError: it holds something else than JSON has, and there is no `default` for that.
    """
    try:
        return orjson.dumps(value, default=default, option=option)
    except TypeError:
        return orjson.dumps(_mended(value), default=default, option=option | orjson.OPT_NON_STR_KEYS)


def _mended(value: Any) -> Any:
    """Return a value that strict JSON can hold: lone surrogates become escapes, long numbers texts."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {_mended(name): _mended(each) for name, each in value.items()}
    if isinstance(value, int) and value.bit_length() > 63:
        return str(value)
    return [_mended(each) for each in value] if isinstance(value, list | tuple) else value
