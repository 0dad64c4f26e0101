"""Requests that try to be read in two ways: bodies that name A where one parser looks, and B where another does.

Seeded: one seed gives the same requests on every machine. Each is whole and harmless but for some changes: a body that
nobody takes finds nothing.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import brotli

from bbr.reading.zstd import zstd
from tests.differential.bodies import BODIES, part
from tests.differential.dice import Dice
from tests.differential.looked_for import in_odd_places
from tests.differential.other_types import in_another_type


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
                dice.choice((gzip.compress(b"", mtime=0), b""))
                + member
                + dice.choice((gzip.compress(b"", mtime=0), gzip.compress(hidden, mtime=0)))
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


# What a path may have in it, and paths that may be the one which names A once they are resolved, or name B.
PATHS: Final = (
    *(NAMING_PATH,) * 6,
    *(b"/model/B/../A/invoke", b"/model/A/B/invoke", b"/model/A%2FB/invoke", b"//model/A/invoke"),
    *(b"/x/../model/A/invoke", b"/model/A/invoke/", b"/model/A/invoke/../../B/invoke", b"/model/A/../B/invoke"),
    *(b"/model/B%2F..%2FA/invoke", b"/model/A;/invoke", b"/model;x/A/invoke", b"/model/A/invoke;x", b"/model/B/invoke"),
)
PATH_PIECES: Final = (
    *(b"/", b"//", b"%2F", b"%2f", b"%252F", b"..", b"%2e%2e", b"%2E.", b".", b"%2e", b"/../", b"/./", b"\\", b"%5C"),
    *(b";", b";x=y", b"%3B", b"#", b"%23", b"%00", b"%3F", b"?", b"%20", b"%", b"%zz", b"%41", b"%u0041", b"A", b"B"),
    *(b"MODEL", b"mode%6c", b"invok%65", b"Invoke", b"/model/B/invoke", b"/../B", b"%2F..%2FB", b"/B/../", b"%C3%A9"),
    *(b"%c0%af", b"%c0%ae", b":", b"%3A", b"@", b"&", b"=", b",", b"~", b"*", b"|", b"[", b"]", b"%0d%0a", b"%7F"),
    *(b"%EF%BC%8F", b"%ff", b"$", b"!", b"'", b"(", b"//x", b"%2561", b"%25%34%31"),
)


def respelled(dice: Dice) -> bytes:
    """Return a path that servers could resolve differently. Envoy wants a slash at its beginning."""
    path = dice.choice(PATHS)
    for _ in range(dice.choice((0, 1, 1, 2, 3))):
        at = dice.randrange(1, len(path) + 1)
        path = path[:at] + dice.choice(PATH_PIECES) + path[at + dice.choice((0, 0, 0, 1, 2)) :]
    return path


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
    if kind == "multipart" and dice.often(0.3):
        content_type, body = dice.choice((in_another_boundary, in_odd_places, in_odd_places))(dice)
        return Request((content_type,), (), PLAIN_PATH, body)
    if dice.often(0.05):
        return Request((JSON,), (), respelled(dice), dice.choice((b"{}", b'{"model":"A"}')))
    codings, body = encoded(dice, kind, BODIES[kind](dice))
    path = NAMING_PATH if dice.often(0.2) else PLAIN_PATH
    if dice.often(0.06):
        path = queried(dice, path)
    return Request(content_types(dice, kind), codings, path, body)


def shown(request: Request) -> str:
    """Return a request as one line of JSON, for people."""
    fields = ([each.decode("latin-1") for each in several] for several in request[:2])
    return json.dumps([*fields, *map(repr, request[2:])])
