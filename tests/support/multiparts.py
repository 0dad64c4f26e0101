"""Foreign parsers of multipart/form-data, and a source of bodies that try to be read in two ways."""

import email.parser
import email.policy
import random
from collections.abc import Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

BOUNDARY = b"XyZ"


class UnreadableError(Exception):
    """A foreign parser does not take a body."""


def by_python_multipart(body: bytes, boundary: bytes = BOUNDARY) -> list[bytes]:
    """Return the values of the fields called model, as Starlette collects them with python-multipart."""
    models: list[bytes] = []
    part: dict[str, bytes] = {}

    def begin() -> None:
        part.update(disposition=b"", value=b"", name=b"", field=b"")

    def data(octets: bytes, start: int, end: int) -> None:
        part["value"] += octets[start:end]

    def field(octets: bytes, start: int, end: int) -> None:
        part["field"] += octets[start:end]

    def value(octets: bytes, start: int, end: int) -> None:
        part["name"] += octets[start:end]

    def header_end() -> None:
        if part["field"].lower() == b"content-disposition":
            part["disposition"] = part["name"]
        part.update(field=b"", name=b"")

    def end() -> None:
        _, options = parse_options_header(part["disposition"])
        if b"name" not in options:
            raise UnreadableError
        if options[b"name"] == b"model":
            models.append(part["value"])

    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": begin,
            "on_part_data": data,
            "on_part_end": end,
            "on_header_field": field,
            "on_header_value": value,
            "on_header_end": header_end,
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise UnreadableError from None
    return models


def by_email(body: bytes) -> list[bytes]:
    """Return the values of the fields called model, as Python's parser of e-mail, which takes bare LF, sees them."""
    head = b"Content-Type: multipart/form-data; boundary=" + BOUNDARY + b"\r\n\r\n"
    message = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(head + body)
    if not message.is_multipart():
        raise UnreadableError
    models = []
    for part in message.get_payload():
        assert not isinstance(part, str)
        name = part.get_param("name", header="content-disposition")
        if isinstance(name, tuple):
            name = name[2]
        if name == "model":
            models.append(part.get_payload(decode=True) or b"")
    return models


FOREIGN: dict[str, Callable[[bytes], list[bytes]]] = {"python-multipart": by_python_multipart, "email": by_email}

# What a body may be made of: whole lines, halves of them, and what parsers stumble over.
FRAGMENTS = (
    b"--XyZ\r\n",
    b"--XyZ--\r\n",
    b"--XyZ",
    b"--XyZ--",
    b"\r\n--XyZ\r\n",
    b"\n--XyZ\n",
    b"--XyZz\r\n",
    b"--XyZ \r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b"-",
    b"Content-Disposition: form-data; name=",
    b'Content-Disposition: form-data; name="model"\r\n\r\n',
    b'Content-Disposition: form-data; name="model"\r\n\r\na\r\n',
    b'Content-Disposition: form-data; name="file"; filename="x.wav"\r\n\r\nRIFF\r\n',
    b'content-disposition: form-data; name="model"; filename="x"\r\n\r\n',
    b"Content-Disposition: form-data; name*=utf-8''model\r\n\r\n",
    b'Content-Disposition: form-data; filename="\\"; name="model"; x="\r\n\r\n',
    b"Content-Type: text/plain\r\n",
    b"Content-Type: multipart/mixed; boundary=XyZz\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b'"model"',
    b"model",
    b'"mo\\del"',
    b'"model[]"',
    b"; name=model",
    b'; name="x"',
    b";",
    b'"',
    b"\\",
    b"\x00",
    b"\t",
    b"\x0b",
    b"'",
    b":",
    b"=",
    b"%22",
    b'\\"',
    b"name",
    b"form-data",
    b"; filename=",
    b"filename*=utf-8''x",
    b"--XyZ: y\r\n",
    b"Content-Type: text/plain; charset=utf-8\r\n",
    b"Content-Type: application/octet-stream\r\n",
    b"\xc3\xa9",
    b"whisper-1",
    b"a",
    b"b",
)
RECORDING = b'Content-Disposition: form-data; name="file"; filename="x.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n'
WHOLE = (
    b'--XyZ\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--XyZ\r\n%s--XyZ--\r\n' % RECORDING,
    b"--XyZ\r\n%s--XyZ\r\nX: y\r\nContent-Disposition: form-data; name=model\r\n\r\na\r\n--XyZ--" % RECORDING,
)


def random_body(dice: random.Random) -> bytes:
    """Return a body that is whole but for a few changes, or nothing but fragments."""
    if dice.random() < 0.2:
        return b"".join(dice.choices(FRAGMENTS, k=dice.randrange(12)))
    body = dice.choice(WHOLE)
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(body) + 1)
        if dice.random() < 0.5:  # where lines begin and end, changes matter more
            lines = [place for place in range(len(body)) if body[place : place + 2] == b"\r\n"]
            at = dice.choice(lines or [0]) + dice.choice((0, 1, 2))
        body = body[:at] + dice.choice(FRAGMENTS) + body[at + dice.choice((0, 0, 1, 2, 7)) :]
    return body
