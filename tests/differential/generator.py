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

import brotli

from bbr.reading.zstd import zstd
from tests.differential.other_types import PASSED_OVER, in_another_type


class Request(NamedTuple):
    """A request.

    Attributes:
        content_types: its Content-Type fields; none, one or several.
        content_encodings: its Content-Encoding fields; none, one or several.
        path: of its URL, with its query.
        body: its octets.
        method: of it.
    """

    content_types: tuple[bytes, ...]
    content_encodings: tuple[bytes, ...]
    path: bytes
    body: bytes
    method: bytes = b"POST"


# Some servers read a form by its method: Django of a POST alone, Go of a PUT and a PATCH too, axum the query of a GET.
METHODS: Final = (*(b"POST",) * 12, b"PUT", b"PATCH", b"DELETE", b"GET", b"QUERY", b"OPTIONS", b"post", b"PURGE")

PLAIN_PATH: Final = b"/v1/chat/completions"
# Names a model by a template of the router's.
NAMING_PATH: Final = b"/model/A/invoke"

JSON: Final = b"application/json"
FORM: Final = b"application/x-www-form-urlencoded"
MULTIPART: Final = b"multipart/form-data"
BOUNDARY: Final = b"XyZ"

# Names of the field, as some parser might take them for `model`.
LETTERS: Final = {
    "m": ("m", "M", "\\u006d", "\\u004D", "\uff4d", "%6d", "%4D", "%256d", "%u006d", "%c1%ad", "%e0%81%ad", "\\m"),
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
        ":",
        ",",
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
    *(
        "B&model=C",
        "B;model=C",
        "B+",
        "+B",
        "B%20",
        "%26%2366%3B",
        "caf\u00e9",
        "caf%C3%A9",
        "B\r\n",
        "B\x00",
        "[B]",
        '"B"',
        "B,C",
    ),
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


def _nested(dice: Dice) -> str:
    """Return a value of so many levels: some parsers have a limit, and what they do then differs."""
    levels = dice.choice((3, 90, 150, 260, 600))
    begin, end = dice.choice((("[", "]"), ('{"model":', "}")))
    return begin * levels + dice.choice(('"B"', "1")) + end * levels


EXTRAS: Final[tuple[Callable[[Dice], str], ...]] = (
    lambda dice: f'"messages":[{{"role":"user","content":"{dice.choice(PROMPTS)}"}}]',
    lambda dice: f'"x":"{dice.choice(PROMPTS)}"',
    lambda dice: f'"x":{{"{dice.spelled()}":"B"}}',
    lambda dice: '"__proto__":{"model":"B"}',
    lambda dice: f'"x":[{",".join(["1"] * dice.randrange(4))}]',
    lambda dice: '"n":' + dice.choice(("1", "-0.5e3", "NaN", "1e999", "01", "9" * 40, "9" * 400, "1" * 400 + "e-400")),
    lambda dice: '"n":' + dice.choice(("0x10", "+1", ".5", "5.", "-Infinity", "1_0", "'B'", "undefined", "-0", "1E+2")),
    lambda dice: f'"deep":{_nested(dice)}',
    lambda dice: (
        dice.choice(("// \n", "/* */", "# \n", "")) + dice.choice(('model:"B"', "'model':'B'", '"model":"B",'))
    ),
)
WRAPPED: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda body: b"\xef\xbb\xbf" + body,
    lambda body: b" \r\n" + body + b"\n ",
    lambda body: body + b'{"model":"B"}',
    lambda body: body + b'\n{"model":"B"}\n',
    lambda body: b'{"model":"B"}\n' + body,
    lambda body: b"\x1e" + body + b'\n\x1e{"model":"B"}',
    lambda body: body[:-1] + b",}",
    lambda body: body[:-1] + b',,"model":"B"}',
    lambda body: b'{"model":"B"}' + b" " * 64 + body,
    lambda body: b"data: " + body,
    lambda body: b")]}',\n" + body,
    lambda body: b")]}'\n" + body,
    lambda body: b"\xc2\xa0" + body,
    lambda body: b"\xe2\x80\xa8" + body,
    lambda body: b"\xc2\x85\xe3\x80\x80" + body,
    lambda body: b"\x85" + body,
    lambda body: b"\xef\xbb\xbf\xef\xbb\xbf" + body,
    lambda body: b'{"model":"B","x":"&model=A&"}',
    lambda body: body.decode("utf-8", "replace").encode("utf-16-be"),
    lambda body: body.decode("utf-8", "replace").encode("utf-32"),
    lambda body: body.decode("utf-8", "replace").encode("utf-7"),
    lambda body: body[:-1] + b',"+AG0-odel":"B"}',
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
    if dice.often(0.05):  # JSON for who passes over what stands before it, and a form for all others
        return dice.choice(PASSED_OVER) + b'{"model":"B","x":"&model=A&y="}'
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


# What names a part, and what may follow that.
_DISPOSITIONS = (
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
    b'Content-Disposition: form-data; name=""; filename="%b"',
    b'Content-Disposition: form-data; name=""\r\nContent-Type: %b',
    b"Content-Disposition: form-data\r\nContent-ID: %b",
    b'Content-Disposition: form-data; x="; name="%b"',
    b'Content-Disposition : form-data; name="%b"',
    b'Content-Disposition: form-data; name="%b";',
    b'Content-Disposition:\r\n form-data; name="%b"',
    b'Content-Disposition: attachment; name="%b"',
    b'Content-Disposition: form-data; name="%b"\r\nContent-Disposition: form-data; name="x"',
    b"Content-Disposition: form-data; name=\"%b\"; filename*=utf-8''x",
    b'Content-Disposition: FORM-DATA; name="%b"',
    b"Content-Disposition: form-data; name='%b'",
    b'Content-Disposition: form-data; name = "%b"',
    b'Content-Disposition: form-data; (x) name="%b"',
    b'Content-Disposition: form-data; name="%b" (x)',
    b'Content-Disposition: form-data; name="x\\"; name=\\"%b"',
    b'Content-Disposition: form-data; name="x\\\\"; name="%b"',
    b'Content-Disposition: form-data; name="=?utf-8?q?%b?="',
    b"Content-Disposition: form-data; name*0*=utf-8''mo; name*1=%b",
    b'Content-Disposition: form-data; name="x"; x="\r\n name="%b"',
    b'Content-Disposition: form-data; filename="x\ty"; name="%b"',
    *(
        b'Content-Disposition: form-data; name="x"' + end + b'Content-Disposition: form-data; name="%b"'
        for end in (
            b"\xc2\x85",
            b"\xe2\x80\xa8",
            b"\x0b",
            b"\x0c",
            b"\x1c",
            b"\x85",
            b"\r",
            b"\n",
            b"\r\r\n",
            b"\0",
        )
    ),
    b'X: y\r\nContent-Disposition: form-data; name="%b"',
    b'\r\nContent-Disposition: form-data; name="%b"',
    b'Content-Disposition: inline; form-data; name="%b"',
    b'Content-Disposition:form-data;name="x";y="\\\\";name="%b"',
    b'Content-Disposition: form-data; name="x", form-data; name="%b"',
)
_OTHER_FIELDS = (
    *(b"",) * 8,
    b"\r\nContent-Type: text/plain",
    b"\r\nContent-Type: text/plain; charset=utf-16",
    b"\r\nContent-Type: text/plain; charset=utf-7",
    b"\r\nContent-Type: application/json",
    b"\r\nContent-Transfer-Encoding: base64",
    b"\r\nContent-Transfer-Encoding: quoted-printable",
    b"\r\nX: y",
    b"\r\nContent-Type: multipart/mixed; boundary=XyZz",
    b"\r\nContent-Type: multipart/mixed",
    b"\r\nContent-Type: message/rfc822",
    b"\r\nContent-Type: text/plain; charset=iso-8859-1",
    b"\r\nContent-Type: text/plain; charset=windows-1252",
    b"\r\nContent-Type: text/plain; charset=shift_jis",
    b'\r\nContent-Type: text/plain; x=";charset=utf-7;y="',
    b"\r\nContent-Type: text/plain; charset*0=iso-8859; charset*1=-1",
    b'\r\nContent-Type: text/plain; charset="utf-8"; charset=utf-16',
    b"\r\nContent-Type: application/octet-stream",
    b"\r\nContent-Transfer-Encoding: 8bit",
    b"\r\nContent-Transfer-Encoding : base64",
    b"\r\nContent-Transfer-Encoding: BASE64 ; x",
    b"\r\nContent-Encoding: gzip",
    b"\r\nContent-Length: 1",
)


def part(dice: Dice, name: bytes, value: bytes) -> bytes:
    """Return a part of a multipart body."""
    disposition, more = dice.choice(_DISPOSITIONS), dice.choice(_OTHER_FIELDS)
    return b"--XyZ\r\n" + disposition % name + more + b"\r\n\r\n" + value + b"\r\n"


# Values that mean something else once they are decoded, or hold parts themselves; and names that change how others are.
PART_VALUES: Final = (
    *(b"QQ==", b"Qg==", b"=42", b"B=\r\n", b"\xff\xfeB\0", b"B\0", b"\x82\xa0", b"\xe9", b"+AEI-"),
    b'--XyZz\r\nContent-Disposition: form-data; name="model"\r\n\r\nB\r\n--XyZz--',
    b'--XyZz\r\nContent-Disposition: attachment; name="model"\r\n\r\nB\r\n--XyZz--',
    b'Content-Disposition: form-data; name="model"\r\n\r\nB',
)
OTHER_NAMES: Final = (
    b"_charset_",
    b"",
    b"model\r\n",
    b'model"; x="',
    b"mode",
    b"models",
    b"x[model]",
    b"__proto__[model]",
)

RECORDING: Final = (
    b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\nRIFF\x00\r\n"
)


def multipart_body(dice: Dice) -> bytes:
    """Return a multipart body."""
    parts = [b'--XyZ\r\nContent-Disposition: form-data; name="model"\r\n\r\nA\r\n'] if dice.often(0.8) else []
    for _ in range(dice.choice((0, 1, 1, 1, 2))):
        value = dice.choice(VALUES).encode() if dice.often(0.8) else dice.choice(PART_VALUES)
        parts.append(part(dice, dice.spelled().encode() if dice.often(0.9) else dice.choice(OTHER_NAMES), value))
    if dice.often(0.4):
        parts.append(RECORDING)
    dice.shuffle(parts)
    body = b"".join(parts) + dice.choice((b"--XyZ--\r\n", b"--XyZ--\r\n", b"--XyZ--", b"--XyZ", b""))
    if dice.often(0.1):
        body = dice.choice(PREAMBLES) + body
    if dice.often(0.1):
        body += dice.choice(PREAMBLES)
    if dice.often(0.05):
        body = body.replace(b"\r\n", dice.choice((b"\n", b"\r", b"\r\r\n")), dice.choice((1, 3, -1)))
    return dice.garbled(body, MULTIPART_PIECES) if dice.often(0.4) else body


PREAMBLES: Final = (
    *(
        b"preamble\r\n",
        b"\r\n",
        b"\n",
        b" ",
        b'{"model":"B"}\r\n',
        b'\xc2\xa0{"model":"B"}\r\n',
        b')]}\'\n{"model":"B"}\r\n',
        b"model=B&\r\n",
        b"--XyZ",
        b"--XyZ\n",
        b"--XyZ--\r\n",
    ),
    *(b"--XyZ-\r\n", b"-XyZ\r\n", b"--XyZ\t\r\n", b"--xyz\r\n", b"\r\n\r\n", b"\xef\xbb\xbf", b"\0"),
    b'--XyZ \r\nContent-Disposition: form-data; name="model"\r\n\r\nB\r\n',
    b'\r\n--XyZ\r\nContent-Disposition: form-data; name="model"\r\n\r\nB\r\n--XyZ--\r\n',
)
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
        b"; charset*0=utf-; charset*1=7",
        b"; charset*0=utf-16",
        b"; charset*0*=utf-8''utf%2D7",
        b'; charset=""utf-7""',
        b'; charset="utf-8"utf-7',
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
        b"multipart/mixed",
        b"multipart/form-data-x; boundary=XyZ",
        b"application/json5",
        b"application/x-www-form-urlencoded ,",
        b"multipart/form-data; x=json",
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
    if dice.often(0.1):
        return dice.choice(((), (), (b"",)))
    value = dice.choice(OTHER_TYPES) if dice.often(0.25) else RIGHT_TYPES[dice.choice((kind, kind, kind, *RIGHT_TYPES))]
    for _ in range(dice.choice((0, 1, 1, 2))):
        value += dice.choice(PARAMETERS)
    if dice.often(0.05):
        return (value, RIGHT_TYPES[dice.choice([*RIGHT_TYPES])])
    return (value,)


# What stands, for who does not decode it, where a decoder passes over it.
HIDDEN: Final = {
    "json": b'{"model":"B"}',
    "form": b"&model=B&",
    "multipart": b'\r\n--XyZ\r\nContent-Disposition: form-data; name="model"\r\n\r\nB\r\n--XyZ--\r\n',
}
FIELDS: Final[dict[bytes, tuple[bytes, ...]]] = {
    b"gzip": (b"gzip", b"gzip", b"gzip", b"x-gzip", b"GZip", b"gzip,", b",, gzip", b"identity, gzip", b" gzip "),
    b"deflate": (b"deflate", b"Deflate", b"deflate,identity"),
    b"br": (b"br", b"br", b"BR", b"identity ,br"),
    b"zstd": (b"zstd", b"zstd", b"Zstd"),
}


def gzipped(dice: Dice, body: bytes, hidden: bytes) -> bytes:
    """Return a body in gzip, in one of the forms that decoders differ in."""
    member = gzip.compress(body, dice.choice((0, 6)), mtime=0)
    half = dice.randrange(len(body) + 1)
    match dice.randrange(9):
        case 0:
            return gzip.compress(body[:half], mtime=0) + gzip.compress(body[half:], mtime=0)
        case 1:
            return (
                dice.choice((gzip.compress(b""), b""))
                + member
                + dice.choice((gzip.compress(b""), gzip.compress(hidden)))
            )
        case 2:
            return member + dice.choice((b"\0" * 9, b"junk", b"\x1f", b"\x1f\x8b", hidden))
        case 3:  # a name or a comment, which ends at a NUL
            return member[:3] + dice.choice((b"\x08", b"\x10")) + member[4:10] + hidden + b"\0" + member[10:]
        case 4:
            return member[:3] + b"\x04" + member[4:10] + len(hidden).to_bytes(2, "little") + hidden + member[10:]
    return member


def deflated(dice: Dice, body: bytes, hidden: bytes) -> bytes:
    """Return a body in zlib's format, or raw."""
    encoder = zlib.compressobj(dice.choice((0, 6)), wbits=dice.choice((15, 15, 9, -15)))
    return encoder.compress(body) + encoder.flush() + dice.choice((b"", b"", b"", hidden, b"\0"))


def zstandard(dice: Dice, body: bytes, hidden: bytes) -> bytes:
    """Return a body in zstd, perhaps with a frame that is skipped."""
    skipped = b"\x50\x2a\x4d\x18" + len(hidden).to_bytes(4, "little") + hidden
    before, behind = (dice.choice((b"", b"", b"", skipped, zstd.compress(b""))) for _ in range(2))
    return before + zstd.compress(body) + behind


def brotlied(dice: Dice, body: bytes, hidden: bytes) -> bytes:
    """Return a body in br, perhaps with something behind it, or before it in a block that a decoder skips."""
    if dice.often(0.2) and body:
        shown = hidden + b" " * (-(len(hidden) - 1) % 4)
        first = dice.choice((b"\x0c\x16", b"\x0c\x16", b"\x8c\x16"))
        stored = ((len(body) - 1) << 3 | 1 << 19).to_bytes(3, "little") + body[: 1 << 16] + b"\x03"
        return first + bytes(((len(shown) - 1) >> 2,)) + shown + stored
    return brotli.compress(body, quality=dice.choice((0, 5))) + dice.choice((b"", b"", b"", hidden, b"\x06"))


ENCODERS: Final[dict[bytes, Callable[[Dice, bytes, bytes], bytes]]] = {
    b"gzip": gzipped, b"deflate": deflated, b"br": brotlied, b"zstd": zstandard
}  # fmt: skip


def encoded(dice: Dice, kind: str, body: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """Return Content-Encoding fields and a body; none as a rule."""
    if not dice.often(0.1):
        return (), body
    if dice.often(0.15):
        return (dice.choice((b"identity", b"identity", b"utf-8", b"gzip", b"deflate", b"br", b"x", b"")),), body
    fields = []
    for _ in range(dice.choice((1, 1, 1, 1, 2, 2, 3))):
        coding = dice.choice((b"gzip", b"gzip", *ENCODERS))
        body = ENCODERS[coding](dice, body, HIDDEN[kind])
        fields.append(dice.choice(FIELDS[coding]))
    return (tuple(fields) if dice.often(0.5) else (b", ".join(fields),)), body


def queried(dice: Dice, path: bytes) -> bytes:
    """Return a path with a query, which some servers keep with a form's fields in one list."""
    pairs = [b"x=1"] if dice.often(0.5) else []
    for _ in range(dice.choice((1, 1, 2))):
        pairs.append(
            dice.choice((b"model=A", b"model=B", b"%6dodel=B", b"model", b"api-version=1", b"Model=B", b"model[]=B"))
        )
    return (
        path
        + b"?"
        + dice.choice((b"&", b"&", b";", b"?", b"%26")).join(pairs)
        + dice.choice((b"", b"", b"#", b"#model=B"))
    )


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
        yield _request(dice)._replace(method=dice.choice(METHODS))


def _request(dice: Dice) -> Request:
    if dice.often(0.1):
        content_type, body = in_another_type(dice)
        return Request((content_type,), (), NAMING_PATH, body)
    kind = dice.choice(("json", "json", "form", "form", "multipart", "multipart"))
    if kind == "multipart" and dice.often(0.1):
        content_type, body = in_another_boundary(dice)
        return Request((content_type,), (), PLAIN_PATH, body)
    codings, body = encoded(dice, kind, BODIES[kind](dice))
    path = NAMING_PATH if dice.often(0.2) else PLAIN_PATH
    if dice.often(0.06):
        path = queried(dice, path)
    return Request(content_types(dice, kind), codings, path, body)


def shown(request: Request) -> str:
    """Return a request as one line of JSON, for people."""
    fields = ([each.decode("latin-1") for each in several] for several in request[:2])
    return json.dumps([*fields, *map(repr, request[2:])])
