"""Requests that try to be read in two ways: bodies that name A where one parser looks, and B where another does.

Seeded: one seed gives the same requests on every machine. Each is whole and harmless but for some changes: a body that
nobody takes finds nothing.
"""

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple


class Request(NamedTuple):
    """A POST request.

    Attributes:
        content_types: its Content-Type fields; none, one or several.
        content_encoding: its Content-Encoding, or None.
        path: of its URL.
        body: its octets.
    """

    content_types: tuple[bytes, ...]
    content_encoding: bytes | None
    path: bytes
    body: bytes


PLAIN_PATH: Final = b"/v1/chat/completions"
# Names a model by a template of the router's.
NAMING_PATH: Final = b"/model/A/invoke"

JSON: Final = b"application/json"
FORM: Final = b"application/x-www-form-urlencoded"
MULTIPART: Final = b"multipart/form-data"
BOUNDARY: Final = b"XyZ"

# Names of the field, as some parser might take them for `model`.
LETTERS: Final = {
    "m": ("m", "M", "\\u006d", "\\u004D", "\uff4d", "%6d", "%4D", "%256d", "\\m"),
    "o": ("o", "O", "\\u006f", "%6f", "%6F", "0", "\u043e"),
    "d": ("d", "D", "\\u0064", "%64", "%2564", "\\d"),
    "e": ("e", "E", "\\u0065", "%65", "\u0435", "\u00e9"),
    "l": ("l", "L", "\\u006c", "%6c", "%256C", "\u0131", "1"),
}
AROUND: Final = (
    *(
        " ",
        "\t",
        "\\t",
        "\\u0000",
        "\\u0000x",
        "\x00",
        "%00",
        "%20",
        "+",
        "\u00a0",
        "\ufeff",
        "\u200b",
        "\u2060",
        "\u202e",
        "\ufe0f",
    ),
    *(
        "[",
        "]",
        "[]",
        "[0]",
        "[x]",
        ".",
        ".x",
        "%5B",
        "%5D",
        "%5b%5d",
        "?",
        "!",
        "_",
        "-",
        "'",
        '"',
        "\\",
        "\\\\",
        "/",
        "\\/",
    ),
    *(
        "%EF%BB%BF",
        "%E2%80%8B",
        "%C2%A0",
        "%0A",
        "%0d",
        "&",
        ";",
        "=",
        "%3D",
        "%26",
        "#",
        "*",
        "$",
        "@",
        "(",
        "{",
        "__proto__",
    ),
)
VALUES: Final = (
    *(
        "B",
        "B",
        "B",
        "B",
        "A",
        "C",
        "",
        " B",
        "B ",
        "\ufeffB",
        "B\u200b",
        "%42",
        "B%00",
        "B\\u0000",
        "\\u0042",
        "b",
        "\u00c2",
    ),
    *("B&model=C", "B;model=C", "B+", "+B", "B%20", "caf\u00e9", "caf%C3%A9", "B\r\n", "B\x00", "[B]", '"B"', "B,C"),
)
PROMPTS: Final = (
    *("hello", "Gr\u00f6\u00dfe", "\u4f60\u597d\u4e26\u6a21\u578b\u4f8b\u5982", "a & b; c = d", "&model=B", ";model=B"),
    *(
        "&model=B&y=",
        "&[model]=B&y=",
        "\u4e26model=B",
        "--XyZ",
        "\\r\\n--XyZ\\r\\n",
        "%26model%3DB",
        'name=\\"model\\"',
    ),
    *('name=\\"model\\"', "x" * 300, "{}", "[1,2]"),
)


class Dice(random.Random):
    """A source of choices."""

    def often(self, share: float) -> bool:
        """Return True in so many cases."""
        return self.random() < share

    def spelled(self) -> str:
        """Return a name that might be taken for `model`."""
        name = "model"
        if self.often(0.5):
            changed = self.randrange(5) if self.often(0.7) else None
            name = "".join(
                self.choice(LETTERS[letter]) if changed in (None, at) and self.often(0.8) else letter
                for at, letter in enumerate("model")
            )
        if self.often(0.5):
            name = self.choice(AROUND) + name
        if self.often(0.5):
            name += self.choice(AROUND)
        if self.often(0.05):
            at = self.randrange(len(name) + 1)
            name = name[:at] + self.choice(AROUND) + name[at:]
        return name

    def garbled(self, body: bytes, pieces: tuple[bytes, ...]) -> bytes:
        """Return a body with a few octets taken out, doubled, put in or replaced."""
        for _ in range(self.choice((0, 0, 0, 1, 1, 2, 3))):
            at = self.randrange(len(body) + 1)
            end = at + self.choice((0, 0, 1, 2, 5))
            put = self.choice(
                (b"", self.choice(pieces), self.choice(pieces), body[at : at + 8], bytes((self.randrange(256),)))
            )
            body = body[:at] + put + body[end:]
        return body


# JSON


def json_body(dice: Dice) -> bytes:
    """Return a JSON object, or nearly one."""
    members = []
    if dice.often(0.9):
        members.append('"model":' + dice.choice(('"A"', ' "A"', '"A" ', '"\\u0041"')))
    for _ in range(dice.choice((0, 1, 1, 1, 2))):
        value = dice.choice((f'"{dice.choice(VALUES)}"', '"B"', '"B"', "null", "7", '["B"]', '{"model":"B"}', "true"))
        members.append(f'"{dice.spelled()}"{dice.choice(("", "", " "))}:{value}')
    for _ in range(dice.choice((0, 1, 2))):
        members.append(dice.choice(EXTRAS)(dice))
    dice.shuffle(members)
    comma = dice.choice((",", ",", ", ", "\n,", ",\r\n"))
    body = ("{" + comma.join(members) + "}").encode("utf-8", "surrogatepass")
    if dice.often(0.1):
        body = dice.choice(WRAPPED)(body)
    return dice.garbled(body, JSON_PIECES) if dice.often(0.25) else body


EXTRAS: Final[tuple[Callable[[Dice], str], ...]] = (
    lambda dice: f'"messages":[{{"role":"user","content":"{dice.choice(PROMPTS)}"}}]',
    lambda dice: f'"x":"{dice.choice(PROMPTS)}"',
    lambda dice: f'"x":{{"{dice.spelled()}":"B"}}',
    lambda dice: '"__proto__":{"model":"B"}',
    lambda dice: f'"x":[{",".join(["1"] * dice.randrange(4))}]',
    lambda dice: '"n":' + dice.choice(("1", "-0.5e3", "NaN", "1e999", "01", "9" * 40)),
)
WRAPPED: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda body: b"\xef\xbb\xbf" + body,
    lambda body: b" \r\n" + body + b"\n ",
    lambda body: body + b'{"model":"B"}',
    lambda body: body + b"\x00",
    lambda body: body.decode("utf-8", "replace").encode("utf-16"),
    lambda body: body.decode("utf-8", "replace").encode("utf-16-le"),
    lambda body: body.decode("utf-8", "replace").encode("utf-32-be"),
    lambda body: b"[" + body + b"]",
    lambda body: b'["B",' + body + b"]",
    lambda body: body[:1] + b'/*,"model":"B"*/' + body[1:],
    lambda body: body.replace(b'"', b"'"),
)
JSON_PIECES: Final = (
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b" ", b"\x00", b"\xff", b"\\u0000", b"\\ud800", b"//", b"/*"),
    *(b'"model":"B"', b',"model":"B"', b'"Model"', b'\\"', b"&model=B", b"+AG0-", b"\x1b$B", b"\xe2\x80\xa8"),
)


# Forms


def form_body(dice: Dice) -> bytes:
    """Return a form, or JSON that `curl -d` sends as one."""
    if dice.often(0.3):
        return json_body(dice)
    pairs = [dice.choice((b"model=A", b"model=A", b"m%6fdel=A"))] if dice.often(0.85) else []
    for _ in range(dice.choice((0, 1, 1, 2))):
        pairs.append(f"{dice.spelled()}{dice.choice(('=', '=', '=', '', '%3D'))}{dice.choice(VALUES)}".encode())
    for _ in range(dice.choice((0, 1, 1))):
        pairs.append(f"prompt={dice.choice(PROMPTS)}".encode())
    dice.shuffle(pairs)
    body = dice.choice((b"&", b"&", b"&", b"&", b";", b"&&", b"\r\n", b"\n", b"&amp;", b"%26")).join(pairs)
    if dice.often(0.3):  # octets that are other ones for who clears the eighth bit
        body = bytes(octet | 0x80 if dice.often(0.1) else octet for octet in body)
    return dice.garbled(body, FORM_PIECES) if dice.often(0.3) else body


FORM_PIECES: Final = (
    *(
        b"&",
        b";",
        b"=",
        b"%",
        b"+",
        b"[",
        b"]",
        b".",
        b"?",
        b"#",
        b"\x00",
        b"\xff",
        b"\xa6",
        b"\xbd",
        b"\xed",
        b"\xef\xbb\xbf",
    ),
    *(
        b"&model=B",
        b";model=B",
        b"\xa6model=B",
        b"&[model]=B",
        b"&model[]=B",
        b"%26model=B",
        b"&MODEL=B",
        b"\r\nmodel=B",
        b" ",
    ),
)


# multipart


def part(dice: Dice, name: bytes, value: bytes) -> bytes:
    """Return a part of a multipart body."""
    disposition = dice.choice(
        (
            *(b'Content-Disposition: form-data; name="%b"',) * 6,
            b"content-disposition: form-data; name=%b",
            b'Content-Disposition: form-data;name="%b"',
            b'Content-Disposition: form-data; NAME="%b"',
            b"Content-Disposition: form-data; name*=utf-8''%b",
            b"Content-Disposition: form-data; name*0=%b",
            b'Content-Disposition: form-data; filename="x"; name="%b"',
            b'Content-Disposition: form-data; name="%b"; filename="x.txt"',
            b'Content-Disposition: form-data; name="%b"; filename=""',
            b'Content-Disposition: form-data; name="x"; name="%b"',
            b'Content-Disposition: form-data; x="; name="%b"',
            b'Content-Disposition : form-data; name="%b"',
            b'Content-Disposition: form-data; name="%b";',
            b'Content-Disposition:\r\n form-data; name="%b"',
            b'Content-Disposition: attachment; name="%b"',
            b'Content-Disposition: form-data; name="%b"\r\nContent-Disposition: form-data; name="x"',
        )
    )
    more = dice.choice(
        (
            *(b"",) * 8,
            b"\r\nContent-Type: text/plain",
            b"\r\nContent-Type: text/plain; charset=utf-16",
            b"\r\nContent-Type: text/plain; charset=utf-7",
            b"\r\nContent-Type: application/json",
            b"\r\nContent-Transfer-Encoding: base64",
            b"\r\nContent-Transfer-Encoding: quoted-printable",
            b"\r\nX: y",
            b"\r\nContent-Type: multipart/mixed; boundary=XyZz",
        )
    )
    return b"--XyZ\r\n" + disposition % name + more + b"\r\n\r\n" + value + b"\r\n"


RECORDING: Final = (
    b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\nRIFF\x00\r\n"
)


def multipart_body(dice: Dice) -> bytes:
    """Return a multipart body."""
    parts = [b'--XyZ\r\nContent-Disposition: form-data; name="model"\r\n\r\nA\r\n'] if dice.often(0.8) else []
    for _ in range(dice.choice((0, 1, 1, 1, 2))):
        parts.append(part(dice, dice.spelled().encode(), dice.choice(VALUES).encode()))
    if dice.often(0.4):
        parts.append(RECORDING)
    dice.shuffle(parts)
    body = b"".join(parts) + dice.choice((b"--XyZ--\r\n", b"--XyZ--\r\n", b"--XyZ--", b"--XyZ", b""))
    if dice.often(0.1):
        body = dice.choice((b"preamble\r\n", b"\r\n", b"\n", b" ", b'{"model":"B"}\r\n', b"model=B&\r\n")) + body
    if dice.often(0.05):
        body = body.replace(b"\r\n", dice.choice((b"\n", b"\r", b"\r\r\n")), dice.choice((1, 3, -1)))
    return dice.garbled(body, MULTIPART_PIECES) if dice.often(0.4) else body


MULTIPART_PIECES: Final = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"--XyZ",
        b"--XyZ--",
        b"\r\n--XyZ\r\n",
        b"\n--XyZ\n",
        b"--XyZ \r\n",
        b"--XyZz\r\n",
        b"\r\n\r\n",
        b";",
    ),
    *(
        b'"',
        b"\\",
        b"'",
        b":",
        b"=",
        b" ",
        b"\t",
        b"\x00",
        b"\xef\xbb\xbf",
        b'name="model"',
        b"; name=model",
        b"filename=",
        b"*",
    ),
    b'\r\n--XyZ\r\nContent-Disposition: form-data; name="model"\r\n\r\nB\r\n--XyZ--',
)


# Content types and what stands around them

RIGHT_TYPES: Final = {
    "json": JSON, "form": FORM, "multipart": MULTIPART + b"; boundary=XyZ"
}  # fmt: skip
# A boundary that some parsers may take for XyZ, or find elsewhere in the field; and what the parts then begin with.
BOUNDARIES: Final = (
    *((b'" XyZ"', b" XyZ"), (b'"XyZ "', b"XyZ "), (b'"X\\yZ"', b"X\\yZ"), (b"'XyZ'", b"'XyZ'"), (b"XyZ--", b"XyZ--")),
    *((b'"XyZ;"', b"XyZ;"), (b'"XyZ,"', b"XyZ,"), (b"=XyZ", b"=XyZ"), (b"-XyZ", b"-XyZ"), (b'"Xy Z"', b"Xy Z")),
    *((b"other; x=boundary=XyZ", b"other"), (b"XyZ; boundary=other", b"other"), (b"XyZ*", b"XyZ*")),
)
BEFORE_BOUNDARY: Final = (
    b"",
    b"",
    b'x="; boundary=XyZ"; ',
    b"xboundary=XyZ; ",
    b"x=boundary=XyZ; ",
    b"boundary*=utf-8''XyZ; ",
)
PARAMETERS: Final = (
    *(
        b"; charset=utf-8",
        b";charset=UTF8",
        b'; charset="utf-8"',
        b"; charset=us-ascii",
        b"; charset=utf-7",
        b"; charset=utf-16le",
    ),
    *(
        b"; charset=iso-8859-1",
        b"; charset=iso-2022-jp",
        b"; charset=utf-7; charset=utf-8",
        b"; charset*=utf-8''utf-7",
        b";charset",
    ),
    *(
        b";",
        b";;",
        b"; x=y",
        b'; x=", application/json"',
        b"; x=a,application/json",
        b"; x=a,application/x-www-form-urlencoded",
    ),
    *(
        b", application/json",
        b",application/x-www-form-urlencoded",
        b", multipart/form-data; boundary=XyZ",
        b"; x=multipart",
    ),
    *(
        b"; boundary=other",
        b'; boundary="XyZ"',
        b"; boundary*=utf-8''XyZ",
        b"; BOUNDARY=XyZ",
        b'; x="; boundary=other"',
        b"; xboundary=other",
        b"; x=json",
        b"; x=urlencoded",
        b" x",
    ),
    *(
        b"\t",
        b'; x="',
        b"; encoding=utf-7",
        b"; q=1",
        b"+json",
        b"-json",
        b"/json",
        b"; x='; charset=utf-7",
        b"; version=1.0",
    ),
)
OTHER_TYPES: Final = (
    *(
        b"text/plain",
        b"text/plain; charset=utf-16",
        b"application/octet-stream",
        b"",
        b"*/*",
        b"text/json",
        b"application/jsonp",
    ),
    *(
        b"application/x-ndjson",
        b"application/vnd.api+json",
        b"application/json-patch+json",
        b"multipart/mixed; boundary=XyZ",
    ),
    *(
        b"multipart/related; boundary=XyZ",
        b"multipart/form-data",
        b"application/x-www-form-urlencodedx",
        b"form-data",
        b"json",
    ),
    *(
        b"application/grpc+json",
        b"text/html",
        b"APPLICATION/JSON",
        b"Application/X-WWW-Form-Urlencoded",
        b" application/json",
    ),
)
BODIES: Final[dict[str, Callable[[Dice], bytes]]] = {"json": json_body, "form": form_body, "multipart": multipart_body}


def content_types(dice: Dice, kind: str) -> tuple[bytes, ...]:
    """Return the Content-Type fields of a body of a kind: right as a rule."""
    if dice.often(0.6):
        return (RIGHT_TYPES[kind],)
    if dice.often(0.05):
        return ()
    value = dice.choice(OTHER_TYPES) if dice.often(0.25) else RIGHT_TYPES[dice.choice((kind, kind, kind, *RIGHT_TYPES))]
    for _ in range(dice.choice((0, 1, 1, 2))):
        value += dice.choice(PARAMETERS)
    if dice.often(0.05):
        return (value, RIGHT_TYPES[dice.choice([*RIGHT_TYPES])])
    return (value,)


def encoded(dice: Dice, body: bytes) -> tuple[bytes | None, bytes]:
    """Return a Content-Encoding and a body; none as a rule."""
    if not dice.often(0.06):
        return None, body
    match dice.randrange(6):
        case 0:
            return b"gzip", gzip.compress(body, mtime=0)
        case 1:
            return b"gzip", gzip.compress(body, 0, mtime=0)
        case 2:
            half = len(body) // 2
            return b"gzip", gzip.compress(body[:half], mtime=0) + gzip.compress(body[half:], mtime=0)
        case 3:
            return b"deflate", zlib.compress(body)
        case 4:
            return b"identity", body
        case _:
            return dice.choice((b"gzip", b"deflate", b"br", b"x")), body


def in_another_boundary(dice: Dice) -> tuple[bytes, bytes]:
    """Return a Content-Type and a body, of which a part that holds a multipart body is what some parsers begin with."""
    written, real = dice.choice(BOUNDARIES)
    kept, hidden = (dice.choice((b"A", b"B")) for _ in range(2))
    inner = b'--XyZ\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n--XyZ--' % hidden
    parts = [part(dice, b"x", inner), part(dice, b"model", kept)]
    dice.shuffle(parts)
    outer = b"".join(each.replace(b"--XyZ\r\n", b"--%b\r\n" % real, 1) for each in parts) + b"--%b--\r\n" % real
    return MULTIPART + b"; " + dice.choice(BEFORE_BOUNDARY) + b"boundary=" + written, outer


def requests(seed: int, count: int) -> Iterator[Request]:
    """Give so many requests."""
    dice = Dice(seed)
    for _ in range(count):
        kind = dice.choice(("json", "json", "form", "form", "multipart", "multipart"))
        if kind == "multipart" and dice.often(0.1):
            content_type, body = in_another_boundary(dice)
            yield Request((content_type,), None, PLAIN_PATH, body)
            continue
        coding, body = encoded(dice, BODIES[kind](dice))
        path = NAMING_PATH if dice.often(0.1) else PLAIN_PATH
        yield Request(content_types(dice, kind), coding, path, body)


def shown(request: Request) -> str:
    """Return a request as one line of JSON, for people."""
    return json.dumps([[each.decode("latin-1") for each in request.content_types], *map(repr, request[1:])])
