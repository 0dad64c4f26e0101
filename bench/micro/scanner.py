"""What scanning a body in pieces costs, against the parsers on the whole. Run: python -m bench.micro.scanner [WORD ...]

For bodies of several kinds, those with a WORD in their name: MB/s of the scanner, in pieces as Envoy sends them of
HTTP/2, and of model_at_once (orjson and msgspec), CPU time, medians of alternating rounds; the longest call of `scan`
with the usual budget, in pieces as Envoy sends them of HTTP/1.1 at most, in the best of the rounds, in ms of CPU time;
peak of the memory that Python allocates, in KiB. `python -m bench.micro.scanner octets`: 1 MiB in pieces of one octet.
`... mebibytes`: memory while 64 MiB are scanned. `python -m bench.micro.scanner_worst` looks for slower bodies.
"""

import base64
import contextlib
import json
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Iterable

import orjson

from bbr.reading.name import model_at_once
from bbr.reading.scan.scanner import Scanner
from bbr.refusal import Refusal

ROUNDS = 5
SIZE = 2 << 20
PIECE = 16_384
LONG_PIECE = 1 << 20


def array(unit: bytes) -> bytes:
    """Return a body with a long array of a unit."""
    return b'{"x":[' + (unit + b",") * (SIZE // (len(unit) + 1)) + b'1],"model":"m"}'


def text(unit: bytes) -> bytes:
    """Return a body with one long string of a unit."""
    return b'{"x":"' + unit * max(1, SIZE // len(unit)) + b'","model":"m"}'


def chat(unit: str, size: int) -> bytes:
    """Return a chat with messages of a unit, of so many characters each."""
    message = {"role": "user", "content": unit * (size // len(unit))}
    return orjson.dumps({"model": "m", "messages": [message] * (SIZE // len(orjson.dumps(message)))})


def tools() -> dict[str, object]:
    """Return a request with many tools."""
    properties = {"model": {"type": "string"}, "x": {"type": "integer", "description": "How many"}}
    parameters = {"type": "object", "properties": properties, "required": ["model"]}
    function = {"name": "get_weather", "description": "Looks up the weather of a town", "parameters": parameters}
    return {"model": "m", "tools": [{"type": "function", "function": function}] * 5_000}


def zigzag(up: bytes, down: bytes, steps: int) -> bytes:
    """Return a body that goes up and down all the time."""
    return array(up * steps + b"1" + down * steps)


def bodies() -> dict[str, bytes]:
    """Return the bodies by name, everyday ones first."""
    dice = random.Random(8259)
    numbers = [[dice.randrange(100_000) for _ in range(500)] for _ in range(SIZE // 3_000)]
    return {
        "an image in base64": text(base64.b64encode(dice.randbytes(SIZE))),
        "a chat, 2 KB messages": chat("hello world, how are you today? ", 2_000),
        "a chat, 20 KB messages": chat("hello world, how are you today? ", 20_000),
        "a chat with lines": chat("hello world, how are you today? I am fine, thanks.\n", 20_000),
        "a chat in Chinese": chat("模型语言你好世界", 10_000),
        "a chat, caf\\u00e9": text(b"caf\\u00e9 "),
        "JSON in JSON": text(b'{\\"a\\":\\"b\\",'),
        "tools": orjson.dumps(tools()),
        "tools, indented": json.dumps(tools(), indent=2).encode(),
        "token ids": orjson.dumps({"model": "m", "input": numbers}),
        "\\n alone": text(b"\\n"),
        "\\u00e9 alone": text(b"\\u00e9"),
        "blanks": array(b" " * 1_000 + b"1"),
        "{},": array(b"{}"),
        "[],": array(b"[]"),
        "1,": array(b"1"),
        '"",': array(b'""'),
        "1e300,": array(b"1e300"),
        '"a":1,': b"{" + b'"a":1,' * (SIZE // 6) + b'"model":"m"}',
        '"":1e300,': b"{" + b'"":1e300,' * (SIZE // 9) + b'"model":"m"}',
        '"é",': array('"é"'.encode()),
        "[[1]],": zigzag(b"[", b"]", 2),
        "[[[1]]],": zigzag(b"[", b"]", 3),
        "[ 8 times": zigzag(b"[", b"]", 8),
        "[ 16 times": zigzag(b"[", b"]", 16),
        "[ 800 times": zigzag(b"[", b"]", 800),
        '{"": 3 times': zigzag(b'{"":', b"}", 3),
        '{"model": 3 times': zigzag(b'{"model":', b"}", 3),
        "[1, 800 times": zigzag(b"[1,", b"]", 800),
        "[[1], 800 times": zigzag(b"[[1],", b"]", 800),
        ",[1]] 800 times": zigzag(b"[", b",[1]]", 800),
        "[[[1]]], 890 deep": b"[" * 890 + array(b"[[[1]]]") + b"]" * 890,
        "[ 498 times, 400 deep": b"[" * 400 + zigzag(b"[", b"]", 498) + b"]" * 400,
        "{}, 897 deep": b"[" * 896 + array(b"{}") + b"]" * 896,
    }


def scan(body: bytes, size: int = PIECE) -> float:
    """Scan a body in pieces of a size, and return how long the longest call took, in seconds."""
    scanner = Scanner()
    longest = 0.0
    for piece in pieces(body, size):
        position = 0
        while position < len(piece):
            begun = time.thread_time()
            position = scanner.scan(piece, position)
            longest = max(longest, time.thread_time() - begun)
    scanner.finish()
    return longest


def pieces(body: bytes, size: int) -> Iterable[bytes]:
    """Return a body in pieces of a size."""
    return (body[at : at + size] for at in range(0, len(body), size))


def parse(body: bytes) -> None:
    """Let the parsers read a body, which may be too deep for them."""
    with contextlib.suppress(Refusal):
        model_at_once(body)


def compare(words: list[str]) -> None:
    """Measure and print."""
    print(f"{'body':<26} {'scan MB/s':>10} {'parse MB/s':>11} {'longest ms':>11} {'KiB':>8} {'parse KiB':>10}")
    for name, body in bodies().items():
        if words and not any(word in name for word in words):
            continue
        times: list[list[float]] = [[], []]
        longest = []
        for _ in range(ROUNDS):
            longest.append(scan(body, LONG_PIECE))
            begun = time.process_time()
            scan(body)
            scanned = time.process_time()
            parse(body)
            times[0].append(scanned - begun)
            times[1].append(time.process_time() - scanned)
        rates = [len(body) / statistics.median(each) / 1e6 for each in times]
        peaks = [peak(call, body) / 1024 for call in (scan, parse)]
        print(f"{name:<26} {rates[0]:>10.1f} {rates[1]:>11.1f} {min(longest) * 1e3:>11.2f}", end=" ")
        print(f"{peaks[0]:>8.0f} {peaks[1]:>10.0f}", flush=True)


def peak(call: object, body: bytes) -> int:
    """Return the most that a call has allocated at once, in octets."""
    assert callable(call)
    tracemalloc.start()
    call(body)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def octets() -> None:
    """Scan bodies of growing size in pieces of one octet, and print what an octet takes."""
    for name in ("an image in base64", "tools", "[[[1]]],"):
        body = bodies()[name]
        for size in (1 << 16, 1 << 18, 1 << 20):
            scanner = Scanner()
            begun = time.process_time()
            for piece in pieces(body[:size], 1):
                scanner.scan(piece)
            print(f"{name:<26} {size:>8} octets: {(time.process_time() - begun) / size * 1e6:6.2f} us each", flush=True)


def mebibytes() -> None:
    """Scan 64 MiB in pieces that are made on the way, and print the most that was allocated at once."""
    for unit in (b"x", b'",{},"', b'",[[[[1]]]],"'):
        piece = unit * (PIECE // len(unit))
        scanner = Scanner()
        tracemalloc.start()
        scanner.scan(b'["')
        for _ in range((64 << 20) // len(piece)):
            position = 0
            while position < len(piece):
                position = scanner.scan(piece, position)
        scanner.scan(b'"]')
        scanner.finish()
        print(f"64 MiB of {unit.decode():<15} {tracemalloc.get_traced_memory()[1] / 1024:8.0f} KiB at most", flush=True)
        tracemalloc.stop()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["octets"]:
            octets()
        case ["mebibytes"]:
            mebibytes()
        case chosen:
            compare(chosen)
