"""What it costs to be sure that a short body has one `model`. Run: python -m bench.micro.duplicates

For bodies of several kinds: orjson alone; find_model (simdjson, or orjson and msgspec); and the scanner, in bits, of
which there is the longest too. Where find_model leaves a body to the scanner, its time is what it takes to see that.
Medians of alternating rounds, in microseconds.
"""

import statistics
import time
import timeit
from collections.abc import Callable

import orjson

from bbr.reading.document import DocumentReading
from bbr.reading.json_body import UNSETTLED, find_model

ROUNDS = 9
SECONDS_PER_ROUND = 0.02


def tools(count: int) -> bytes:
    """Return a request with `count` tools, each of which has a parameter called model."""
    schema = {"type": "object", "properties": {"model": {"type": "string"}, "x": {"type": "integer"}}}
    function = {"description": 'Looks "model" up\n', "parameters": {**schema, "required": ["model"]}}
    messages = [{"role": "user", "content": "hello " * 200}]
    entries = [{"type": "function", "function": {"name": f"f{number}", **function}} for number in range(count)]
    return orjson.dumps({"model": "gpt", "messages": messages, "tools": entries})


BODIES = {
    "1 KB chat": orjson.dumps({"messages": [{"role": "user", "content": "x" * 950}], "model": "qwen"}),
    "100 KB chat": orjson.dumps({"messages": [{"role": "user", "content": "x" * 100_000}], "model": "qwen"}),
    "240 KB chat, commas": b'{"messages":"%s","model":"qwen"}' % (b"Well, what is it that you do here? " * 7_000),
    "100 KB chat, \\u00e9": b'{"messages":"%s","model":"qwen"}' % (b"caf\\u00e9 " * 10_000),
    "5 tools": tools(5),
    "100 tools": tools(100),
    "800 tools": tools(800),
    "an escaped key, 100 KB": b'{"x":"%s","\\u006dodel":"qwen"}' % (b"x" * 100_000),
    "80,000 objects": b'{"model":"qwen","x":[%s{}]}' % (b"{}," * 80_000),
}


def once(call: Callable[[], object]) -> float:
    """Return the mean time of a call over one round, in microseconds."""
    timer = timeit.Timer(call)
    number = max(1, int(SECONDS_PER_ROUND / max(timer.timeit(1), 1e-7)))
    return timer.timeit(number) / number * 1e6


def scan(body: bytes) -> float:
    """Read a body in bits, and return how long the longest took, in microseconds."""
    reading = DocumentReading(256, 0)
    reading.feed(body)
    reading.close()
    longest = 0.0
    while reading.pending:
        begun = time.thread_time()
        reading.work()
        longest = max(longest, time.thread_time() - begun)
    return longest * 1e6


def main() -> None:
    """Measure and print."""
    print(
        f"{'body':<24} {'bytes':>8} {'orjson us':>10} {'find_model':>11} {'settled':>8} {'scan us':>9} {'longest':>8}"
    )
    for name, body in BODIES.items():
        calls: list[Callable[[], object]] = [
            lambda body=body: orjson.loads(body),  # type: ignore[misc]
            lambda body=body: find_model(body),  # type: ignore[misc]
            lambda body=body: scan(body),  # type: ignore[misc]
        ]
        rounds = [[once(call) for call in calls] for _ in range(ROUNDS)]
        alone, found, scanned = (statistics.median(column) for column in zip(*rounds, strict=True))
        settled = "no" if find_model(body) is UNSETTLED else "yes"
        longest = min(scan(body) for _ in range(ROUNDS))
        print(f"{name:<24} {len(body):>8} {alone:>10.1f} {found:>11.1f} {settled:>8} {scanned:>9.1f} {longest:>8.1f}")


if __name__ == "__main__":
    main()
