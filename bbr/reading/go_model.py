"""A request's model as the Go routers read it: of any type, blanks and all.

Pure. What they put into a header is the text that Go's fmt makes of the decoded value with %v. Go reads every number as
a float64, and prints an object's members in the order of their keys.
"""

import decimal
import json
import re
from typing import Final

from bbr import refusal
from bbr.reading.json_body import ABSENT, UNSETTLED, Fields, Unsettled, find_model
from bbr.refusal import Refusal

# Every number is a float64 in Go.
_DECODER: Final = json.JSONDecoder(parse_int=float)

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

# Of a value that is no plain name so much is looked at, beside six bytes (as in \u0041) for each of the longest name.
_MORE_BYTES: Final = 1 << 10

# Numbers from this power of ten on, and those below the other, are printed with an exponent.
_LARGE: Final = 6
_SMALL: Final = -4


def model_at_once(body: bytes, max_model_bytes: int, fields: Fields | None = None) -> str | Unsettled | None:
    """Return the text of the `model` field of a complete JSON body, if that takes less than a millisecond.

    Args:
        body: the body.
        max_model_bytes: a longer text is UNSETTLED.
        fields: are given the members of a JSON object.

    Returns:
        None if the body is empty, is no object, or has no `model`. UNSETTLED if it is to be read by a CoercedReading:
        it would take too long here, it is to be refused, or its `model` is an array, an object or 0.
    """
    value = find_model(body, fields) if body else ABSENT
    if value is ABSENT:
        return None
    # Keys are orjson's, which may be other ones than the body has; and its integers have no -0, as Go's numbers do.
    if value is UNSETTLED or type(value) in (dict, list) or (type(value) is int and not value):
        return UNSETTLED
    try:
        return header_text(value, max_model_bytes)
    except Refusal:
        return UNSETTLED


def text_at(octets: bytes, offset: int, max_model_bytes: int) -> str:
    """Return the text of the `model` that begins at an offset of what is a document, or the beginning of one.

    Raises:
        Refusal: as `header_text`, and if the value does not end.
    """
    text = octets[offset : offset + looked_at(max_model_bytes)]
    try:
        value, _ = _DECODER.raw_decode(text.decode(errors="ignore"))  # a character may be cut off at the end
    except RecursionError:
        raise refusal.model_illegal("it is nested too deep") from None
    except json.JSONDecodeError:
        raise refusal.model_too_long(None, max_model_bytes) from None
    return header_text(value, max_model_bytes)


def looked_at(max_model_bytes: int) -> int:
    """Return how many bytes of a value are looked at; a longer one is too long for a name, or has none of its own."""
    return 6 * max_model_bytes + _MORE_BYTES


def header_text(value: object, max_model_bytes: int) -> str:
    """Return the text of a `model` of any type.

    Raises:
        Refusal: 400; it has control characters, is longer than `max_model_bytes`, or nested too deep.
    """
    try:
        name = text_of(value)
    except RecursionError:
        raise refusal.model_illegal("it is nested too deep") from None
    length = len(name.encode())
    if length > max_model_bytes:
        raise refusal.model_too_long(length, max_model_bytes)
    if _CONTROL.search(name):
        raise refusal.model_illegal("it holds a control character")
    return name


def text_of(value: object) -> str:
    """Return a decoded JSON value as %v prints it.

    Raises:
        RecursionError: it is nested too deep.
    """
    match value:
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return _number(float(value))
        case list():
            return f"[{' '.join(map(text_of, value))}]"
        case dict():
            # Python orders strings by code points, Go by bytes of UTF-8, which comes to the same.
            return f"map[{' '.join(f'{key}:{text_of(value[key])}' for key in sorted(value))}]"
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _number(value: float) -> str:
    """Return a number in the fewest digits that mean it, as strconv's format g has them."""
    if not value:
        return "-0" if str(value).startswith("-") else "0"
    sign, digits, special = decimal.Decimal(repr(value)).normalize().as_tuple()
    exponent = int(special)  # a number: JSON has none that is not finite
    power = len(digits) + exponent - 1
    if _SMALL <= power < _LARGE:
        return format(decimal.Decimal((sign, digits, exponent)), "f")
    first, rest = digits[0], "".join(map(str, digits[1:]))
    mantissa = f"{first}.{rest}" if rest else str(first)
    return f"{'-' if sign else ''}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02}"
