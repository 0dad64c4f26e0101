"""Multipart whose fields hold, in an odd place, a word that some parser looks for anywhere: a boundary's, a name's."""

from typing import Final

from tests.differential.dice import Dice

MULTIPART: Final = b"multipart/form-data"
# Boundaries of outer parts, and of a multipart body within one of them.
BOUNDARIES: Final = (
    *((b"other", b"XyZ"),) * 6,
    *((b"otherboundary", b"XyZ"), (b"=?utf-8?q?XyZ?=", b"XyZ"), (b"other name=x", b"XyZ"), (b"other=XyZ", b'XyZ"')),
    *((b"other?XyZ", b"XyZ"), (b"other:XyZ", b"XyZ"), (b"XyZ:other", b"XyZ"), (b"XyZ=other", b'"XyZ')),
)

_AROUND: Final = (b"", b"", b"x", b"x-", b"x.", b"x*", b"-", b"'", b"!", b"x_")
_WORDS: Final = (b"name", b"name", b"name", b"filename", b"charset", b"boundary", b"x")
_FIELD_NAMES: Final = (
    *(
        b"X",
        b"X-Content-Disposition",
        b"Content-Disposition-X",
        b"XContent-Disposition",
        b"Content-Type",
        b"Content-ID",
    ),
    *(
        b"Content-Description",
        b"Content-Location",
        b"X-Content-Type",
        b"Content-Transfer-Encoding",
        b"Content",
        b"Name",
    ),
)
_EMBEDDED: Final = (
    *(b'Content-Disposition: form-data; name="%b"', b'Content-Disposition:form-data;name="%b"'),
    *(b'form-data; name="%b"', b'; name="%b"', b"; name=%b", b"name=%b", b"%b", b'"; name="%b"', b"Content-Type: %b"),
    *(b"Content-Type: text/plain; charset=utf-16", b"Content-ID: %b", b"Content-Transfer-Encoding: base64"),
)
# Lines that are cut there by who reads a buffer of so many bytes at once.
_LONG: Final = (0, 0, 0, 0, 1024, 2048, 4096, 5120, 8000)


def _word(dice: Dice, word: bytes) -> bytes:
    """Return the name of a parameter that has a word in it, alone as a rule."""
    before, behind = (dice.choice(_AROUND) if dice.often(0.5) else b"" for _ in range(2))
    made = before + word + behind[::-1]
    return made.title() if dice.often(0.1) else made


def _written(dice: Dice, value: bytes) -> bytes:
    if b"=" in value:
        return b'"%b"' % value
    return dice.choice((b"%b", b'"%b"', b'"%b"')) % value


def _parameters(dice: Dice, values: tuple[bytes, ...], most: int) -> list[bytes]:
    """Return parameters whose names and values have words that are looked for."""
    return [
        _word(dice, dice.choice(_WORDS)) + b"=" + _written(dice, dice.choice((*values, *_WORDS)))
        for _ in range(dice.randrange(most))
    ]


def _joined(dice: Dice, first: bytes, parameters: list[bytes]) -> bytes:
    return first + b"".join(dice.choice((b"; ", b"; ", b";", b" ;", b";\t")) + each for each in parameters)


def section(dice: Dice, name: bytes, hidden: bytes) -> bytes:
    """Return a part's header section, in which a part's second name may be hidden."""
    parameters = _parameters(dice, (hidden, b"y", b"utf-8", b"-name=" + hidden, b"x.name=" + hidden), 3)
    parameters.insert(dice.randrange(len(parameters) + 1), b'name="%b"' % name)
    lines = [_joined(dice, b"Content-Disposition: form-data", parameters)]
    for _ in range(dice.choice((0, 1, 1, 2))):
        embedded = dice.choice(_EMBEDDED)
        value = embedded % hidden if b"%b" in embedded else embedded
        long = dice.choice(_LONG)
        field = dice.choice(_FIELD_NAMES)
        if field == b"Content-Type":
            value = _joined(dice, b"text/plain", _parameters(dice, (hidden, b"utf-8"), 3))
        lines.append((field + b": ").ljust(long, b"a") + value)
    dice.shuffle(lines)
    return b"\r\n".join(lines)


def _part(dice: Dice, name: bytes, value: bytes) -> bytes:
    odd = dice.often(0.5)
    fields = section(dice, name, b"model") if odd else b'Content-Disposition: form-data; name="%b"' % name
    return fields + b"\r\n\r\n" + value + b"\r\n"


def _delimited(parts: list[bytes], boundary: bytes) -> bytes:
    return b"".join(b"--%b\r\n" % boundary + each for each in parts) + b"--%b--\r\n" % boundary


def in_odd_places(dice: Dice) -> tuple[bytes, bytes]:
    """Return a Content-Type and a body. Some parsers may find another boundary in the first than others, or a name."""
    outer, inner_boundary = dice.choice(BOUNDARIES)
    inner = _delimited([b'Content-Disposition: form-data; name="model"\r\n\r\nB\r\n'], inner_boundary).rstrip()
    name = b"x" if dice.often(0.8) else b"x" + dice.spelled().encode() + b";y"
    parts = [_part(dice, name, dice.choice((b"B", b"B", inner)))]
    if dice.often(0.6):
        parts.append(_part(dice, b"model", dice.choice((b"A", b"\xc3\xa9"))))
    dice.shuffle(parts)
    parameters = _parameters(dice, (b"XyZ", b"utf-8", b"iso-8859-1"), 3)
    written = b"%b" if outer.isalpha() and dice.often(0.5) else b'"%b"'
    name = dice.choice((b"boundary", b"boundary", b"boundary", b"Boundary", b"BOUNDARY"))
    parameters.insert(dice.randrange(len(parameters) + 1), name + b"=" + written % outer)
    return _joined(dice, MULTIPART, parameters), _delimited(parts, outer)
