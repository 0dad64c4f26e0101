"""Bodies that name a model in one or several ways: JSON, forms and multipart."""

import json
from collections.abc import Callable
from typing import Final

from tests.differential.dice import PROMPTS, VALUES, Dice
from tests.differential.other_types import PASSED_OVER

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
    lambda body: b'{"$serde_json::private::RawValue":%b}' % json.dumps(body.decode("utf-8", "replace")).encode(),
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


BODIES: Final[dict[str, Callable[[Dice], bytes]]] = {"json": json_body, "form": form_body, "multipart": multipart_body}
