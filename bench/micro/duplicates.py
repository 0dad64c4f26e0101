"""What it costs to be sure that a body has one `model` key. Run: python -m bench.micro.duplicates

For bodies of several kinds: orjson alone, find_model (orjson, msgspec and the proof that no key was dropped), and the
walk over all keys that the proof spares. Medians of alternating rounds, in microseconds.
"""

import statistics
import timeit
from collections.abc import Callable

import orjson

from bbr.reading.json_body import find_model, model_keys

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
    "100 KB chat, \\u00e9": b'{"messages":"%s","model":"qwen"}' % (b"caf\\u00e9 " * 10_000),
    "5 tools": tools(5),
    "100 tools": tools(100),
    "800 tools": tools(800),
    "an escaped key, 100 KB": b'{"x":"%s","\\u006dodel":"qwen"}' % (b"x" * 100_000),
    "an escaped key, 80,000 objects": b'{"\\u006dodel":"qwen","x":[%s{}]}' % (b"{}," * 80_000),
}


def once(call: Callable[[], object]) -> float:
    """Return the mean time of a call over one round, in microseconds."""
    timer = timeit.Timer(call)
    number = max(1, int(SECONDS_PER_ROUND / max(timer.timeit(1), 1e-7)))
    return timer.timeit(number) / number * 1e6


def main() -> None:
    """Measure and print."""
    print(f"{'body':<32} {'bytes':>8} {'orjson us':>10} {'find_model':>11} {'ratio':>6} {'walk us':>10}")
    for name, body in BODIES.items():
        calls: list[Callable[[], object]] = [
            lambda body=body: orjson.loads(body),  # type: ignore[misc]
            lambda body=body: find_model(body),  # type: ignore[misc]
            lambda body=body: model_keys(body),  # type: ignore[misc]
        ]
        rounds = [[once(call) for call in calls] for _ in range(ROUNDS)]
        alone, found, walk = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{name:<32} {len(body):>8} {alone:>10.1f} {found:>11.1f} {found / alone:>6.2f} {walk:>10.1f}")


if __name__ == "__main__":
    main()
