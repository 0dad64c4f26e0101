"""Some 400 conversations of a gateway with an ext_proc server: what the Go routers and ours are asked (replay.py).

A body comes twice, streamed (FULL_DUPLEX_STREAMED: GIE's router with --streaming, IPP, ours) and buffered (GIE's router
without --streaming, ours). The table has one base model, `qwen`, with the adapters `sql-lora-sheddable`, `foo` and `1`,
as in the Go routers' own hermetic tests. All of it is written here; nothing is random.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from bbr.exchange.policy import BodyMode
from bbr.pb.ext_proc_pb2 import HeaderValue, HttpHeaders, ProcessingRequest
from bbr.reading.zstd import zstd
from bench.harness import messages
from bench.harness.messages import (
    JSON_POST,
    request_body,
    request_headers,
    request_trailers,
    response_body,
    response_headers,
    response_trailers,
)

STREAMED, BUFFERED = BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED
DATA = {"baseModel": "qwen", "adapters": "- sql-lora-sheddable\n- foo\n- 1\n"}

# Makes a message; with `mode` and `response_mode` it is the first one, which tells the body modes.
Event = Callable[..., bytes]

# More than a gRPC message may have in Go by default: 4 MiB.
LARGE = 5 << 20


@dataclass(frozen=True)
class Conversation:
    """What a gateway sends on one stream, before it closes its side.

    Attributes:
        name: unique; the key of its recorded answers.
        mode: of the body.
        events: make the messages.
        tells: whether the first message tells the body modes, as Envoy does; they are the same both ways.
    """

    name: str
    mode: BodyMode
    events: tuple[Event, ...]
    tells: bool = True

    @property
    def sent(self) -> list[bytes]:
        """The messages."""
        told = {"mode": self.mode, "response_mode": self.mode} if self.tells else {}
        return [event(**told) if number == 0 else event() for number, event in enumerate(self.events)]


def headers(fields: messages.Fields = JSON_POST, *, end: bool = False) -> Event:
    return partial(request_headers, fields, end_of_stream=end)


def body(octets: bytes = b"", *, end: bool = False) -> Event:
    return partial(request_body, octets, end_of_stream=end)


def trailers() -> Event:
    return partial(request_trailers, {"x-checksum": "1"})


def raw(octets: bytes) -> Event:
    return lambda **_: octets


def of_type(content_type: str, **more: str) -> dict[str, str | bytes]:
    return JSON_POST | {"content-type": content_type} | more


def named(model: str) -> bytes:
    """Return a chat request's body with a JSON value as its model."""
    return b'{"max_tokens":100,"model":%s,"prompt":"test","temperature":0}' % model.encode()


FOO = named('"foo"')
NONE = b'{"max_tokens":100,"prompt":"test","temperature":0}'

GOOD = {
    "base model": named('"qwen"'),
    "adapter": named('"sql-lora-sheddable"'),
    "adapter of digits": named('"1"'),
    "unknown model": named('"bar"'),
    "no model": NONE,
    "an empty object": b"{}",
    "model first": b'{"model":"foo","x":1}',
    "model last": b'{"x":1,"model":"foo"}',
    "model alone": b'{"model":"foo"}',
    "blanks everywhere": b' \n{\t"model" :\r\n "foo" , "x" : [ ] } \n',
    "an escaped key": b'{"mod\\u0065l":"foo"}',
    "an escaped value": b'{"model":"f\\u006fo"}',
    "an escaped slash": b'{"model":"a\\/b"}',
    "not ASCII": '{"model":"模型-é-😀"}'.encode(),
    "a pair of surrogates": b'{"model":"\\ud83d\\ude00"}',
    "model in an object": b'{"x":{"model":"foo"}}',
    "model in a list": b'{"messages":[{"model":"foo"}]}',
    "model in an object and outside": b'{"x":{"model":"bar"},"model":"foo"}',
    "a key in other letters": b'{"Model":"foo"}',
    "a key in capitals, beside model": b'{"MODEL":"bar","model":"foo"}',
    "a key with a blank": b'{"model ":"foo"}',
    "messages": b'{"model":"foo","messages":[{"role":"user","content":"\\"model\\": \\"bar\\""}]}',
    "numbers": b'{"a":-0,"b":1e10,"c":0.5,"d":1E-5,"e":123456789012345678901234567890,"model":"foo"}',
    "62,000 bytes": b'{"model":"foo","x":"%s"}' % (b"a" * (62_000 - 22)),
    "62,001 bytes": b'{"model":"foo","x":"%s"}' % (b"a" * (62_001 - 22)),
    "124,000 bytes": b'{"model":"foo","x":"%s"}' % (b"a" * (124_000 - 22)),
    "70,000 bytes without a model": b'{"x":"%s"}' % (b"a" * 70_000),
    "a megabyte, model last": b'{"x":"%s","model":"foo"}' % (b"a" * 1_000_000),
}

TYPES = {
    "a whole number": "1",
    "a negative number": "-7",
    "nought": "0",
    "minus nought": "-0",
    "a fraction": "1.5",
    "a million": "1000000",
    "ten millions": "12345678",
    "21 digits": "100000000000000000000",
    "22 digits": "1000000000000000000000",
    "an exponent": "1e6",
    "a small number": "1e-7",
    "a number beyond a double": "1e400",
    "true": "true",
    "false": "false",
    "null": "null",
    "an empty list": "[]",
    "a list": '["foo",1,null]',
    "an empty object": "{}",
    "an object": '{"b":1,"a":["x"]}',
}

NAMES = {
    "empty": "",
    "a blank": " ",
    "a blank before": " foo",
    "a blank behind": "foo ",
    "a blank within": "foo bar",
    "a tab behind": "foo\\t",
    "a line's end behind": "foo\\n",
    "a line's end within": "foo\\r\\nx-injected: 1",
    "NUL": "foo\\u0000",
    "DEL": "foo\\u007f",
    "a control character beyond ASCII": "foo\\u0085",
    "a blank that takes no room": "foo\\u200b",
    "a byte order mark": "\\ufefffoo",
    "an ideographic blank": "foo\\u3000",
    "a lone surrogate": "foo\\ud800",
    "a lone low surrogate": "\\udc00foo",
    "surrogates in the wrong order": "\\udc00\\ud800",
    "a quote": 'f\\"oo',
    "a comma": "foo,bar",
    "a percent sign": "foo%20bar",
    "a path": "../foo",
    "256 bytes": "m" * 256,
    "257 bytes": "m" * 257,
    "10,000 bytes": "m" * 10_000,
}

TWICE = {
    "two models": b'{"model":"foo","model":"qwen"}',
    "two equal models": b'{"model":"foo","model":"foo"}',
    "the second escaped": b'{"model":"foo","mod\\u0065l":"qwen"}',
    "the second null": b'{"model":"foo","model":null}',
    "the first no string": b'{"model":1,"model":"foo"}',
    "another key twice": b'{"x":1,"model":"foo","x":2}',
    "two models in an object": b'{"x":{"model":1,"model":2},"model":"foo"}',
}

BROKEN = {
    "empty": b"",
    "blanks alone": b" \n",
    "cut off": b'{"model":"foo"',
    "cut off in the key": b'{"mod',
    "a comma at the end": b'{"model":"foo",}',
    "single quotes": b"{'model':'foo'}",
    "no quotes": b"{model:1}",
    "NaN": b'{"model":"foo","x":NaN}',
    "infinity": b'{"model":"foo","x":-Infinity}',
    "a comment": b'{"model":"foo"} // x',
    "a byte order mark": b'\xef\xbb\xbf{"model":"foo"}',
    "bytes behind": b'{"model":"foo"}x',
    "two documents": b'{"model":"foo"}{"model":"qwen"}',
    "two lines": b'{"model":"foo"}\n{"model":"qwen"}\n',
    "a zero before": b'{"model":"foo","x":01}',
    "a plus sign": b'{"model":"foo","x":+1}',
    "a point before": b'{"model":"foo","x":.5}',
    "a point behind": b'{"model":"foo","x":1.}',
    "an unknown escape": b'{"model":"f\\xoo"}',
    "an escape that is cut": b'{"model":"foo\\u00"}',
    "a control character": b'{"model":"foo","x":"a\nb"}',
    "a control character in the name": b'{"model":"fo\x01o"}',
    "DEL": b'{"model":"foo","x":"a\x7fb"}',
    "bad UTF-8": b'{"model":"foo","x":"\xff"}',
    "bad UTF-8 in the name": b'{"model":"fo\xffo"}',
    "bad UTF-8 in a key": b'{"model":"foo","\xffx":1}',
    "an overlong form": b'{"model":"foo","x":"\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"model":"foo","x":"\xed\xa0\x80"}',
    "a lone surrogate elsewhere": b'{"model":"foo","x":"\\ud800"}',
    "a lone surrogate in a key": b'{"model":"foo","\\ud800":1}',
    "UTF-16": '{"model":"foo"}'.encode("utf-16"),
    "NUL": b"\x00",
    "a list": b'[{"model":"foo"}]',
    "an empty list": b"[]",
    "a string": b'"foo"',
    "a number": b"1",
    "true": b"true",
    "null": b"null",
    "a word": b"model",
    "100 levels": b'{"model":"foo","x":%s%s}' % (b"[" * 100, b"]" * 100),
    "1,000 levels": b'{"model":"foo","x":%s%s}' % (b"[" * 1_000, b"]" * 1_000),
    "9,999 levels": b'{"model":"foo","x":%s%s}' % (b"[" * 9_998, b"]" * 9_998),
    "10,001 levels": b'{"model":"foo","x":%s%s}' % (b"[" * 10_000, b"]" * 10_000),
    "100,000 brackets": b'{"model":"foo","x":%s' % (b"[" * 100_000),
}

# A body with the request's headers.
KINDS: dict[str, tuple[dict[str, str | bytes], bytes]] = {
    "no content type": ({":method": "POST", ":path": "/v1/completions"}, FOO),
    "text": (of_type("text/plain"), FOO),
    "JSON with a charset": (of_type("application/json; charset=utf-8"), FOO),
    "JSON in Latin-1": (of_type("application/json; charset=iso-8859-1"), FOO),
    "another kind of JSON": (of_type("application/vnd.api+json"), FOO),
    "gzip": (JSON_POST | {"content-encoding": "gzip"}, gzip.compress(FOO, mtime=0)),
    "deflate": (JSON_POST | {"content-encoding": "deflate"}, zlib.compress(FOO)),
    "zstd": (JSON_POST | {"content-encoding": "zstd"}, zstd.compress(FOO)),
    "an encoding that is none": (JSON_POST | {"content-encoding": "identity"}, FOO),
    "an unknown encoding": (JSON_POST | {"content-encoding": "rot13"}, FOO),
    "gzip that is none": (JSON_POST | {"content-encoding": "gzip"}, FOO),
    "a form": (of_type("application/x-www-form-urlencoded"), b"model=foo&x=1"),
    "JSON as a form": (of_type("application/x-www-form-urlencoded"), FOO),
    "multipart": (
        of_type("multipart/form-data; boundary=b"),
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nfoo\r\n--b--\r\n',
    ),
    "audio": (of_type("audio/wav"), b"RIFF\x00\x01"),
    "bytes": (of_type("application/octet-stream"), bytes(range(256))),
    "a model in the query": (JSON_POST | {":path": "/v1/chat/completions?model=bar"}, FOO),
    "a realtime path": (JSON_POST | {":path": "/v1/realtime?model=foo"}, b"{}"),
    "another method": (JSON_POST | {":method": "PUT"}, FOO),
    "routing headers of a client's, no model": (
        JSON_POST | {"x-gateway-model-name": "bar", "x-gateway-base-model-name": "bar"},
        NONE,
    ),
    "routing headers of a client's": (
        JSON_POST | {"X-Gateway-Model-Name": "bar", "x-gateway-base-model-name": "bar"},
        FOO,
    ),
    "the same values already": (
        JSON_POST | {"X-Gateway-Model-Name": "foo", "X-Gateway-Base-Model-Name": "qwen"},
        FOO,
    ),
    "a picker's header": (JSON_POST | {"x-gateway-destination-endpoint": "10.0.0.1:80"}, FOO),
}

GET = {":method": "GET", ":path": "/v1/models"}
SPOOFED = GET | {"x-gateway-model-name": "bar", "x-gateway-base-model-name": "bar"}
OK = [
    partial(response_headers, {":status": "200", "content-type": "application/json"}),
    partial(response_body, b'{"choices":[]}', end_of_stream=True),
]
EVENT_STREAM = [
    partial(response_headers, {":status": "200", "content-type": "text/event-stream"}),
    partial(response_body, b"data: {}\n\n"),
    partial(response_body, b"data: [DONE]\n\n"),
    partial(response_body, b"", end_of_stream=True),
]


def _odd_headers() -> dict[str, Event]:
    """Return request headers as no Envoy of today sends them."""

    def message(**fields: bytes | str) -> Event:
        value = HeaderValue(key=":path", **fields).SerializeToString()  # type: ignore[arg-type]
        return raw(_request(request_headers=HttpHeaders(headers=messages.HeaderMap(headers=[value]))))

    return {
        "value": message(value="/v1/completions"),
        "value and raw_value": message(value="/a", raw_value=b"/b"),
        "neither": message(),
    }


def _request(**parts: object) -> bytes:
    return ProcessingRequest(**parts).SerializeToString()  # type: ignore[arg-type]


EITHER: dict[str, list[Event]] = {
    "a GET": [headers(GET, end=True)],
    "a GET with routing headers": [headers(SPOOFED, end=True)],
    "a GET and its response": [headers(GET, end=True), *OK],
    "a GET and an event stream": [headers(GET, end=True), *EVENT_STREAM],
    "a response without a body": [headers(GET, end=True), partial(response_headers, end_of_stream=True)],
    "request and response": [headers(), body(FOO, end=True), *OK],
    "request and event stream": [headers(), body(FOO, end=True), *EVENT_STREAM],
    "request and a response's headers": [headers(), body(FOO, end=True), OK[0]],
    "request and a response with trailers": [
        headers(),
        body(FOO, end=True),
        *EVENT_STREAM[:2],
        partial(response_trailers, {"grpc-status": "0"}),
    ],
    "request and a response that is no JSON": [
        headers(),
        body(FOO, end=True),
        OK[0],
        partial(response_body, b"no", end_of_stream=True),
    ],
    "a response of 70,000 bytes": [
        headers(),
        body(FOO, end=True),
        OK[0],
        partial(response_body, b"a" * 70_000, end_of_stream=True),
    ],
    "no request headers": [body(FOO, end=True)],
    "no request headers, no model": [body(NONE, end=True)],
    "a response alone": list(OK),
    "response headers alone": [OK[0]],
    "the body's end alone": [headers(), body(FOO), body(end=True)],
    "no body, but its end": [headers(), body(end=True)],
    "trailers end the body": [headers(), body(FOO), trailers()],
    "trailers end the body, no model": [headers(), body(NONE), trailers()],
    "trailers and no body": [headers(), trailers()],
    "trailers behind the body's end": [headers(), body(FOO, end=True), trailers()],
    "two ends": [headers(), body(FOO, end=True), body(end=True)],
    "two ends, broken": [headers(), body(b"{", end=True), body(b"}", end=True)],
    "two bodies": [headers(), body(FOO, end=True), body(FOO, end=True)],
    "more behind an error": [headers(), body(b"{", end=True), *OK],
    "headers twice": [headers(), headers(), body(FOO, end=True)],
    "headers after the body": [body(FOO, end=True), headers()],
    "headers that end the stream, and a body": [headers(end=True), body(FOO, end=True)],
    "an unknown message": [raw(b"")],
    "an unknown message after the headers": [headers(), raw(b"")],
    "bytes that are no message": [raw(b"\xff\xff\xff")],
    "headers, and the end": [headers()],
    "half a body, and the end": [headers(), body(FOO[:20])],
    "a whole body without its end": [headers(), body(FOO)],
    "nothing": [],
    "5 MiB in one message": [headers(), body(b'{"model":"foo","x":"%s"}' % (b"a" * LARGE), end=True)],
    **{f"headers with {name}": [event, body(FOO, end=True)] for name, event in _odd_headers().items()},
}

STREAMS: dict[str, list[Event]] = {
    "one byte at a time": [headers(), *(body(FOO[at : at + 1]) for at in range(len(FOO))), body(end=True)],
    "cut in the name": [headers(), body(FOO[:30]), body(FOO[30:], end=True)],
    "cut in a character": [headers(), body(b'{"model":"\xc3'), body(b'\xa9"}', end=True)],
    "empty pieces": [headers(), body(), body(FOO), body(), body(end=True)],
    "1 MiB in pieces, model last": [
        headers(),
        body(b'{"x":"'),
        *[body(b"a" * 65_536)] * 16,
        body(b'","model":"foo"}', end=True),
    ],
    "5 MiB in pieces, model first": [
        headers(),
        body(b'{"model":"foo","x":"'),
        *[body(b"a" * 65_536)] * 80,
        body(b'"}', end=True),
    ],
    "a fault behind a megabyte": [
        headers(),
        body(b'{"model":"foo","x":"'),
        *[body(b"a" * 65_536)] * 16,
        body(b'"]', end=True),
    ],
    "two models a megabyte apart": [
        headers(),
        body(b'{"model":"foo","x":"'),
        *[body(b"a" * 65_536)] * 16,
        body(b'","model":"qwen"}', end=True),
    ],
}


# The first message does not tell the body modes.
UNTOLD: dict[str, list[Event]] = {
    "a body": [headers(), body(FOO, end=True)],
    "no model": [headers(), body(NONE, end=True)],
    "a broken body": [headers(), body(b"{", end=True)],
    "a GET": [headers(GET, end=True)],
    "no request headers": [body(FOO, end=True)],
}


def _bodies() -> Iterator[tuple[str, dict[str, str | bytes], bytes]]:
    for name, octets in GOOD.items():
        yield f"body: {name}", JSON_POST, octets
    for name, value in TYPES.items():
        yield f"model of another type: {name}", JSON_POST, named(value)
    for name, value in NAMES.items():
        yield f"name: {name}", JSON_POST, named(f'"{value}"')
    for name, octets in TWICE.items():
        yield f"twice: {name}", JSON_POST, octets
    for name, octets in BROKEN.items():
        yield f"broken: {name}", JSON_POST, octets
    for name, (fields, octets) in KINDS.items():
        yield f"kind: {name}", fields, octets


def conversations() -> list[Conversation]:
    """Return the corpus."""
    found = []
    for mode, word in ((STREAMED, "streamed"), (BUFFERED, "buffered")):
        for name, fields, octets in _bodies():
            found.append(Conversation(f"{word}, {name}", mode, (headers(fields), body(octets, end=True))))
        for name, events in EITHER.items():
            found.append(Conversation(f"{word}, events: {name}", mode, tuple(events)))
    for name, events in STREAMS.items():
        found.append(Conversation(f"streamed, pieces: {name}", STREAMED, tuple(events)))
    for mode, word in ((STREAMED, "streamed"), (BUFFERED, "buffered")):
        for name, events in UNTOLD.items():
            found.append(Conversation(f"{word}, mode untold: {name}", mode, tuple(events), tells=False))
    return found
