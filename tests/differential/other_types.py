"""Bodies that the router does not read, for a URL that names A: in types and spellings in which some server finds B."""

import random
from collections.abc import Callable
from typing import Final

# What a lenient parser of JSON passes over, or might: comments, all kinds of blanks, marks, a guard against browsers.
PASSED_OVER: Final = (
    *(b"/**/", b"/* { */ ", b"//x\n", b"# x\r\n", b"\x1e", b"\x1f", b"\x0b", b"\x0c", b"\0", b"\x7f", b"\x85", b"\xa0"),
    *map(str.encode, ("\ufeff", "\xa0", "\u2028", "\x85", "\u3000", "\u200b", "\ufeff\ufeff", "\xa0\u2028 ")),
    *(b")]}',\n", b")]}'\n", b" )]}'\n", b",", b";", b"+", b" " * 5000, b"/*" + b"x" * 5000 + b"*/", b"#\n" * 3000),
    *(b"--\n", b"data: "),
)
_OBJECTS: Final = (
    *(b'{"model":"B"}', b'{model:"B"}', b"{'model':'B'}", b"{model:B}", b'["B"]', b'model:"B"', b'"model":"B"'),
    *(b'{"Model":"B"}', b'{"model":"B",}', b'{"x":NaN,"model":"B"}'),
)
_TEXTS: Final[dict[str, tuple[bytes, ...]]] = {
    "xml": (
        b"<x><Model>B</Model></x>",
        b"<x><model>B</model></x>",
        b'<?xml version="1.0"?><x><Model>B</Model><model>B</model></x>',
        b'<!DOCTYPE x [<!ENTITY m "B">]><x><Model>&m;</Model></x>',
        b'<x Model="B" model="B"/>',
    ),
    "yaml": (b"model: B\n", b'---\n"\\x6dodel": B\n', b"{model: B}", b"? model\n: B\n", b"!!binary bW9kZWw=: B\n"),
    "toml": (b'model = "B"\n', b'"\\u006dodel" = "B"\n', b'MODEL = "B"\n'),
    "msgpack": (b"\x81\xa5model\xa1B", b"\x81\xd9\x05model\xa1B", b"\x81\xa5Model\xa1B"),
    "cbor": (b"\xa1emodelaB", b"\xa1\x7fbmocdel\xffaB"),
    "bson": (b"\x14\0\0\0\2model\0\2\0\0\0B\0\0",),
    "plain": (b"model=B\r\n", b"model: B", b"B"),
}
_TYPES: Final[dict[str, tuple[bytes, ...]]] = {
    "xml": (b"application/xml", b"text/xml", b"text/xml; charset=utf-8", b"application/atom+xml", b"Application/XML"),
    "yaml": (b"application/yaml", b"application/x-yaml", b"text/yaml", b"text/x-yaml", b"application/vnd.x+yaml"),
    "toml": (b"application/toml", b"application/x-toml"),
    "msgpack": (b"application/msgpack", b"application/x-msgpack", b"application/vnd.msgpack"),
    "cbor": (b"application/cbor", b"application/x-cbor"),
    "bson": (b"application/bson",),
    "plain": (
        *(b"text/plain", b"text/plain; charset=utf-8", b"application/octet-stream", b"multipart/mixed"),
        b"multipart/related; x=y",
    ),
}
_JSON_LIKE: Final = (
    *(b"text/plain", b"application/octet-stream", b"application/x-ndjson", b"application/jsonl", b"application/json5"),
    *(
        b"application/json-seq",
        b"text/event-stream",
        b"text/javascript",
        b"text/html",
        b"*/*",
        b"application/grpc+json",
    ),
)
_ENCODINGS: Final = ("utf-8", "utf-8", "utf-8", "utf-8", "utf-16", "utf-16-le", "utf-32-be", "utf-7")


def in_another_type(dice: random.Random) -> tuple[bytes, bytes]:
    """Return a Content-Type and a body."""
    return dice.choice(_MAKERS)(dice)


def _json_like(dice: random.Random) -> tuple[bytes, bytes]:
    """Return JSON, or what a lenient parser takes for it."""
    body = b"".join(dice.choice(PASSED_OVER) for _ in range(dice.choice((0, 1, 1, 2)))) + dice.choice(_OBJECTS)
    encoding = dice.choice(_ENCODINGS)
    return dice.choice(_JSON_LIKE), body if encoding == "utf-8" else body.decode("latin-1").encode(encoding)


def _with_fields(dice: random.Random) -> tuple[bytes, bytes]:
    """Return a body in another format that has fields; as a rule in its own type."""
    kind = dice.choice([*_TEXTS])
    return dice.choice(_TYPES[kind if dice.random() < 0.8 else dice.choice([*_TYPES])]), dice.choice(_TEXTS[kind])


_MAKERS: Final[tuple[Callable[[random.Random], tuple[bytes, bytes]], ...]] = (_json_like, _with_fields)
