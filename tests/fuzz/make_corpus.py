"""Write the seeds of the corpus: python -m tests.fuzz.make_corpus. What fuzzing found stays beside them."""

import gzip
import random
import struct
import zlib

import brotli
import hpack

from bbr.exchange.policy import BodyMode
from bbr.reading.zstd import zstd
from bench.harness.messages import request_body, request_headers
from tests.corpus.nasty_bodies import BODIES, TWINS
from tests.fuzz import frames
from tests.fuzz.run import CORPUS
from tests.support import h2_scripts as scripts
from tests.support import multiparts

POST = scripts.block(scripts.POST)
SCRIPTS = {
    "request": scripts.request(3, scripts.SIZED) + scripts.frame(scripts.DATA, 1, 3, bytes(12)),
    "padding": scripts.frame(scripts.DATA, scripts.PADDED, 1, scripts.padded(b"x", 200)) * 3,
    "fragments": scripts.frame(scripts.HEADERS, 1, 3, POST[:5])
    + scripts.frame(scripts.CONTINUATION, 0, 3, POST[5:6])
    + scripts.frame(scripts.CONTINUATION, scripts.END_HEADERS, 3, POST[6:]),
    "trailers": scripts.frame(scripts.HEADERS, 5, 1, scripts.block(scripts.TRAILERS)),
    "credit": scripts.window_update(1, 100) + scripts.window_update(0, 1 << 30) + scripts.settings((4, 0), (4, 9_000)),
    "overflow": scripts.window_update(1, (1 << 31) - 1) + scripts.window_update(0, (1 << 31) - 1),
    "priority": scripts.frame(scripts.PRIORITY, 0, 1, struct.pack(">IB", 1, 0)) + scripts.request(3),
    "unknown": scripts.frame(0xFA, 0xFF, 3, bytes(50)) + scripts.frame(scripts.PING, 0, 0, bytes(8)),
    "closed": scripts.frame(scripts.RST_STREAM, 0, 1, bytes(4)) + scripts.frame(scripts.DATA, 0, 1, b"late"),
    "goaway": scripts.frame(scripts.GOAWAY, 0, 0, bytes(8)) + scripts.request(3),
    "settings": scripts.settings((1, 0), (2, 0), (3, 1), (5, 16_384), (6, 1), (99, 1)) + scripts.settings((5, 1)),
    "malformed": b"".join(map(scripts.request, range(3, 15, 2), scripts.MALFORMED)),
}


def step(action: int, flags: int, stream_id: int, length: int, payload: bytes = b"") -> bytes:
    return bytes((action, flags, stream_id, length)) + payload


PROGRAMS = {
    "answers": step(frames.SEND, 0, 1, 9) + step(frames.SEND, 1, 1, 9),
    "waits": step(frames.INITIAL_WINDOW, 0, 0, 5) + step(frames.SEND, 0x81, 1, 200) + step(frames.UPDATE, 7, 1, 255),
    "held": step(frames.HOLD, 1, 0, 0) + step(frames.SEND, 0x40, 1, 99) + step(frames.HOLD, 0, 0, 0),
    "withheld": step(frames.INITIAL_WINDOW, 0, 0, 1)
    + step(frames.SEND, 0x91, 1, 100)
    + step(scripts.DATA, 0, 1, 255, bytes(255)) * 150
    + step(frames.UPDATE, 7, 1, 255) * 2,
    "turns": step(frames.REQUEST, 1, 3, 0)
    + step(frames.SEND, 0x90, 1, 255)
    + step(frames.SEND, 0x90, 3, 255)
    + step(frames.UPDATE, 7, 0, 9) * 3,
    "refused": step(frames.SHUT_DOWN, 0, 0, 0)
    + step(frames.SHUT_DOWN, 1, 0, 0)
    + step(frames.REQUEST, 0, 3, 0)
    + step(scripts.PING, 0, 0, 1, b"x"),
    "resets": step(frames.RESET, 0, 1, 0) + step(scripts.DATA, 0, 1, 4, b"late") + step(frames.REQUEST, 0, 5, 0),
}
PRODUCT = [(b":status", b"200"), (b"x", b"y")]


def blocks(*parts: bytes) -> bytes:
    return b"\x00" + b"".join(struct.pack(">H", len(part)) + part for part in parts)


def block_programs() -> dict[str, bytes]:
    encoder = hpack.Encoder()
    dynamic = [encoder.encode(fields) for fields in (scripts.POST, scripts.TRACED, scripts.POST, PRODUCT)]
    return {
        "plain": blocks(POST, b"", b"\x20" + POST, POST, scripts.block(scripts.TRACED, huffman=True)),
        "dynamic": b"\xff" + blocks(*dynamic)[1:],
        "not-shrunk": blocks(*dynamic[:2], b"", POST),
        "shrunk": blocks(dynamic[0], b"", b"\x20", b"\x3f\x00" + POST, POST, b"\xbe"),
        "indexed": blocks(b"", b"\x20", bytes(range(0x81, 0xBE)), b"\x40\x01a\x01b\xbe"),
        "crumbs": blocks(b"", b"\x20", b"\x0f\x11\x01a" * 21, b"\x0f\x11\x01a" * 41),
        "integers": blocks(b"", b"\x20", b"\x0f\xff\xff\xff\xff\x0f\x00", b"\x00\x7f\xff\xff\xff\xff\xff\xff\xff"),
        "huffman": blocks(b"", b"\x20", b"\x04\x81\x07", b"\x04\x81\xff", b"\x04\x84\xff\xff\xff\xff"),
    }


MULTIPARTS = {
    "whole": multiparts.WHOLE[0],
    "other-order": multiparts.WHOLE[1],
    "empty": b"--XyZ--\r\n",
    "bare-line-feed": multiparts.WHOLE[0].replace(b"RIFF\r\n", b"RIFF\n"),
    "longer-boundary": multiparts.WHOLE[0].replace(b"RIFF", b"\r\n--XyZz\r\n"),
    "twice": multiparts.WHOLE[0][:-9] + multiparts.WHOLE[1],
    "escaped": multiparts.WHOLE[0].replace(b'"model"', b'"mo\\del"'),
    "charset": multiparts.WHOLE[0].replace(b'"model"', b'"model"\r\nContent-Type: text/plain; charset=latin1'),
}
FORMS = {
    "plain": b"prompt=hello+world&model=Qwen%2FQwen3&n=1",
    "escaped": b"x=%26model%3D&%6D%6f%64%65%6c=caf%C3%A9",
    "twice": b"model=a&x=1&%6dodel=b",
    "semicolon": b"x=1;model=a",
    "array": b"model%5B%5D=a&+model=b",
    "json": b'{"model":"a","x":"&model=b"}',
}
PATHS = {
    "azure": b"/openai/deployments/gpt-4o/chat/completions?api-version=1",
    "gemini": b"/v1beta/models/gemini-2.0:generateContent?model=x",
    "bedrock": b"/model/anthropic.claude-v1%3A0/invoke",
    "dots": b"//openai/./deployments/a/../b%2F..%5Cc;v=1/%2e%2e/chat#x",
}


def encoded() -> dict[str, bytes]:
    """Return bodies behind an octet that says how they are encoded, as the target has it."""
    content = b'{"model":"qwen","messages":[%s]}' % (b'"hello",' * 40)
    return {
        "gzip": b"\x01" + gzip.compress(content, mtime=0),
        "members": b"\x01" + gzip.compress(b"a", mtime=0) * 3,
        "deflate": b"\x02" + zlib.compress(content),
        "raw": b"\x02" + zlib.compress(content, wbits=-15),
        "br": b"\x03" + brotli.compress(content),
        "zstd": b"\x04" + zstd.compress(content),
        "frames": b"\x04" + b"\x50\x2a\x4d\x18\x01\x00\x00\x00x" + zstd.compress(b"a") * 2,
        "stacked": b"\x15" + gzip.compress(zstd.compress(content), mtime=0),
        "bomb": b"\x03" + brotli.compress(bytes(4_000_000)),
        "nothing": b"\x01",
    }


def documents() -> dict[str, bytes]:
    """Return the nasty bodies that are not long, each after an octet that cuts it into pieces."""
    short = [nasty.body for nasty in TWINS + BODIES if len(nasty.body) < 200]
    seeds = {f"nasty-{number}": bytes((number % 7,)) + body for number, body in enumerate(short)}
    seeds["tower"] = b'\x05{"a":[1,[[],[{"b":[[2],{"":{"":[[[3]],4]}},5]},6]],7],"model":"m"}'
    seeds["cut-off-deep"] = b"\x06" + b"[" * 950
    seeds["long-number"] = b"\x06[0." + b"1" * 2100
    seeds["numbers"] = b"\x03[1e300,-0.5E-3,12345678901234567890,1e-999,0e999 ,1e308]"
    return seeds


# Small ones of every odd shape: a fuzzer makes them large.
YAMLS = {
    "models": b"models:\n- name: qwen\n  adapters: [sql-lora, 1, 0x10, no]\n- {name: phi}\naliases:\n  gpt-4: qwen\n",
    "json": b'{"models": [{"name": "a", "adapters": ["b", "\\u0063", "\\ud83d\\ude00"]}], "aliases": {"x": "a"}}',
    "adapters": b"- a\n- ' b '\n- \"c\\td\"\n- ~\n- null\n- !!str null\n-\n# none\n- |\n  e\n- >\n  f\n   g\n",
    "directives": b"%YAML 1.1\n%TAG !a! tag:x\n%TAG !b! tag:y\n--- [!a!x y]\n...\n%TAG ! x\n---\n",
    "aliases": b"- &a [x, &b y]\n- *a\n- &c [*a, *a]\n- &d [*c, *c, *c]\n- &a z\n- *b\n",
    "a-circle": b"&l [x, *l]\n",
    "merge": b"models:\n- &m {name: a}\n- {<<: *m, adapters: [b]}\n",
    "keys": b"? [a, b]\n: {? c, : d, e: , f}\n? |\n  g\n: - h\n",
    "nested": b"[" * 17 + b"- - - ? ? {a: {b: {c: " + b"]" * 17,
    "ends-of-lines": b"models: []\r\n#\xc2\x85#\xe2\x80\xa8#\xe2\x80\xa9#\r\xef\xbb\xbf%TAG\n",
    "no-utf-8": b"models: [{name: caf\xe9}]\xff",
    "conflicts": b"models:\n- {name: a, adapters: [x, b]}\n- {name: b, adapters: [x]}\naliases: {a: b, y: y}\n",
    "long": b"models:\n- name: " + b"n" * 300 + b"\n",
}
EVENTS = {
    "added": b'{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"b","uid":"u","resourceVersion":"7",'
    b'"creationTimestamp":"2026-01-01T00:00:00Z"},"data":{"baseModel":"qwen","adapters":"- x\\n"}}}',
    "deleted": b'{"type":"DELETED","object":{"metadata":{"name":"a"}}}',
    "going": b'{"type":"MODIFIED","object":{"metadata":{"deletionTimestamp":"2026-01-02T00:00:00Z"}}}',
    "bookmark": b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"99"}}}',
    "error": b'{"type":"ERROR","object":{"kind":"Status","message":"too old","code":410}}',
    "route": b'{"type":"ADDED","object":{"metadata":{},"spec":{"rules":[{},{"matches":[{"headers":[{"name":'
    b'"x-gateway-model-name","value":"m"},{"name":"X-Gateway-Base-Model-Name","value":"m.*","type":"RegularExpression"}'
    b"]}]}]}}}",
    "page": b'{"metadata":{"resourceVersion":"9","continue":"c"},"items":[{"metadata":{"name":"a"},'
    b'"data":null},{"metadata":{},"spec":{"rules":null}}]}',
    "nested": b'{"type":"ADDED","object":' + b"[" * 2000,
}


FIELDS = {
    "texts": b'\x03{"user":"bob","k":{"s":"a","m-1":"b"},"model":"m"}',
    "scalars": b'\x01{"user":-1.5E+2,"k":{"s":true,"x":[{"s":1}],"m-1":null}}',
    "twice": b'\x04{"user":"a","us\\u0065r":"b"}',
    "twice-below": b'\x02{"k":{"s":1,"\\u0073":2}}',
    "spellings": b'\x05{"U\\u017fer":1,"\xe2\x84\xaa":{},"k\\u0000":2,"model":7}',
    "types": b'\x06{"k":[{"s":1}],"user":{"user":1}}',
    "long": b'\x07{"user":"' + b"\\u0061" * 25 + b'"}',
    "illegal": b'\x02{"user":" a\\n","k":{"s":"\\u200b"}}',
    "cut-off": b'\x03{"k":{"s":"a","m-1"',
    "blanks": b'\x02 { "k" : { "s" : "a" } , "user" : 1 } ',
}


MESSAGES = {
    "opening": request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED),
    "opening-last": request_headers([("content-length", "7"), ("x_gateway_model_name", "a")], end_of_stream=True),
    "piece": request_body(b'{"model":"m"}'),
    "piece-last": request_body(b"x" * 130, end_of_stream=True),
    "both": request_headers() + request_body(b"x"),
    "observed": request_headers() + b"\x50\x01",
}


def main() -> None:
    dice = random.Random(9113)
    everything = {"octets": SCRIPTS, "frames": PROGRAMS, "blocks": block_programs(), "scanner": documents()}
    everything |= {"multipart": MULTIPARTS, "form": FORMS, "encodings": encoded(), "uri": PATHS}
    everything |= {"documents": YAMLS, "answers": EVENTS, "wire": MESSAGES, "fields": FIELDS}
    for target, seeds in everything.items():
        directory = CORPUS / target
        directory.mkdir(parents=True, exist_ok=True)
        for name, octets in seeds.items():
            (directory / name).write_bytes(octets)
            spoilt = bytearray(octets)
            for _ in range(3):
                spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
            (directory / f"{name}-spoilt").write_bytes(spoilt)


if __name__ == "__main__":
    main()
