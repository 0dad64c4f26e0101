"""Requests with secrets wherever a client can write: none of them may come out where operators look."""

import gzip
import itertools
import json
import zlib
from collections.abc import Iterator

import brotli

from bbr.exchange.policy import BodyMode
from bbr.reading.zstd import zstd
from bench.harness import messages

CANARY = "canary0"

DUPLEX, BUFFERED = BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED
FORM = "multipart/form-data; boundary=xyz"

_numbers = itertools.count()


def canary() -> str:
    """Return a secret that occurs nowhere else; all of them begin alike."""
    return f"{CANARY}{next(_numbers):05d}"


def _multipart(*parts):
    pieces = [b"--xyz\r\ncontent-disposition: form-data; %s\r\n\r\n%s\r\n" % part for part in parts]
    return b"".join(pieces) + b"--xyz--\r\n"


def _fields(**more):
    made = {
        **messages.JSON_POST,
        ":path": f"/v1/chat/completions?api_key={canary()}&x=1#{canary()}",
        ":authority": f"user:{canary()}@example.com",
        "authorization": f"Bearer {canary()}",
        "proxy-authorization": f"Basic {canary()}",
        "cookie": f"session={canary()}",
        "api-key": canary(),
        "x-api-key": canary(),
        "x-forwarded-for": canary(),
        "traceparent": f"00-{canary()}",
        "tracestate": f"v={canary()}",
        "user-agent": canary(),
    }
    return made | {name.replace("_", "-"): value for name, value in more.items()}


def _stream(body, *, mode=DUPLEX, trailers=False, cut=None, **more):
    pieces = [body] if cut is None else [body[:cut], body[cut:]]
    sent = [messages.request_headers(_fields(**more), mode=mode)]
    sent += [messages.request_body(piece) for piece in pieces[:-1]]
    sent.append(messages.request_body(pieces[-1], end_of_stream=not trailers))
    if trailers:
        sent.append(messages.request_trailers({"x-key": canary(), "authorization": canary()}))
    return sent


def _prompt(model="qwen", size=1):
    content = (canary() + " ") * size
    return json.dumps({"model": model, "messages": [{"role": "user", "content": content}]}).encode()


def _broken(before, after=""):
    return f"{before}{canary()}{after}".encode()


def planted() -> Iterator[list[bytes]]:
    """Give streams of requests, each with canaries wherever a client can write and no log may look."""
    for mode in (DUPLEX, BUFFERED):
        for trailers in (False, True):
            yield from (_stream(body, mode=mode, trailers=trailers) for body in _json_bodies())
            yield from (_stream(body, mode=mode, trailers=trailers, content_type=FORM) for body in _multipart_bodies())
        yield from _encoded(mode)
        yield from _of_other_types(mode)
    yield _stream(_prompt("qwen", 40_000), cut=30)
    yield [messages.request_headers(_fields(), mode=DUPLEX), messages.request_headers(_fields())]
    yield [messages.request_headers(_fields(), mode=DUPLEX), messages.request_body(_prompt()[:-5])]
    yield [messages.request_headers({**_fields(), ":path": f"https://user:{canary()}@host/v1"}, mode=DUPLEX)]
    yield [messages.request_headers({**_fields(), ":path": f"/model/a%2f..%2f{'x' * 300}?{canary()}"}, mode=DUPLEX)]
    yield [messages.request_headers(_fields(), mode=99), messages.request_body(_prompt(), end_of_stream=True)]
    yield [canary().encode(), b"\xff" + canary().encode()]
    yield [*_stream(_prompt()), messages.response_headers({"set-cookie": canary()}), canary().encode()]


def _json_bodies() -> list[bytes]:
    return [
        _prompt(),
        _prompt("unknown"),
        _prompt("qwen", 40_000),
        _broken('{"prompt": "', '"}'),
        _broken("", "{"),
        _broken('{"model": "qwen", "x": "'),
        _broken('{"model": "qwen", "model": "', '"}'),
        _broken('{"model": {"', '": 1}}'),
        _broken('{"model": "qwen"} '),
        _broken('{"model": "qwen", "x": NaN, "'),
        b"\xff\xfe" + canary().encode(),
        _broken('{"model": "' + "m" * 300, '"}'),
        _broken('{"model": "\x01', '"}'),
        _broken('{"', '": "\\ud800"}'),
        _broken('{"a": ' * 2000),
    ]


def _multipart_bodies() -> list[bytes]:
    return [
        _multipart((b'name="model"', b"qwen"), (b'name="prompt"', canary().encode())),
        _multipart((b'name="%s"' % canary().encode(), canary().encode())),
        _multipart((b'name="model"; filename="%s"' % canary().encode(), b"qwen")),
        _broken("--xyz\r\n", "\r\n\r\n"),
    ]


def _encoded(mode) -> Iterator[list[bytes]]:
    zeros = b'{"prompt": "' + canary().encode() + b"\0" * (1 << 24)
    plain = _prompt()
    for coding, code in (("gzip", gzip.compress), ("br", brotli.compress), ("zstd", zstd.compress)):
        yield _stream(code(plain), mode=mode, content_encoding=coding)
        yield _stream(code(zeros), mode=mode, content_encoding=coding)
        yield _stream(code(plain)[:-3], mode=mode, content_encoding=coding)
        yield _stream(plain, mode=mode, content_encoding=coding)
    yield _stream(zlib.compress(plain), mode=mode, content_encoding=f"deflate, {canary()}")


def _of_other_types(mode) -> Iterator[list[bytes]]:
    urlencoded = "application/x-www-form-urlencoded"
    yield _stream(_broken("model=qwen&prompt="), mode=mode, content_type=urlencoded)
    yield _stream(_broken("model=qwen&model="), mode=mode, content_type=urlencoded)
    yield _stream(_prompt(), mode=mode, content_type=f"text/{canary()}")
    yield _stream(_prompt(), mode=mode, content_type=f"application/json; charset={canary()}")
    yield _stream(_prompt(), mode=mode, content_type=f"multipart/form-data; boundary={canary()} x")
    yield _stream(_prompt(), mode=mode, content_type=f"multipart/form-data; bound={canary()}")
