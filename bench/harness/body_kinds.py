"""Bodies as clients of an inference gateway send them, by kind; made up from workload.SEED, the same in each run.

chat               one message of plain text, the model last (workload.body)
chat, model first  the same with the model first
conversation       many turns in made-up words, with line ends, quotes, code and letters beyond ASCII
tools              a coding agent's: definitions of functions with JSON schemas, calls and their results
image              a question with a picture as a data URL
multipart          a transcription: a form with an audio file, the model behind it
gzip               a conversation, compressed; its size is that before
"""

import base64
import functools
import gzip
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from bench.harness import workload

_BOUNDARY: Final = "----bench-7d1f0c"
_WORDS: Final = 2_000
_LETTERS: Final = "etaoinshrdluéüß你好"


@dataclass(frozen=True)
class Body:
    """A request's body, and the header fields that describe it."""

    octets: bytes
    fields: Mapping[str, str]


@functools.cache
def body(kind: str, size: int) -> Body:
    """Return a body of a kind, of `size` bytes within 2%: exactly so many for a chat, before compression for gzip.

    Raises:
        KeyError: there is no such kind.
    """
    return KINDS[kind](size)


def _chat(size: int) -> Body:
    return _json(workload.body(size))


def _model_first(size: int) -> Body:
    def document(text: str) -> bytes:
        return orjson.dumps({"model": workload.MODEL, "messages": [{"role": "user", "content": text}]})

    return _json(document("x" * (size - len(document("")))))


def _conversation(size: int) -> Body:
    return _json(_talk(size))


def _talk(size: int) -> bytes:
    text = _Text()
    messages: list[dict[str, object]] = [{"role": "system", "content": text.prose(400)}]
    document = {"messages": messages, "temperature": 0.2, "stream": True, "model": workload.MODEL}
    room = size - len(orjson.dumps(document))
    while room > 0:
        role = "user" if len(messages) % 2 else "assistant"
        messages.append({"role": role, "content": text.prose(min(text.numbers.randint(50, 4_000), room))})
        room -= len(orjson.dumps(messages[-1])) + 1
    return orjson.dumps(document)


def _tools(size: int) -> Body:
    text = _Text()
    document = {"messages": [{"role": "user", "content": text.prose(600)}], "tools": [], "model": workload.MODEL}
    messages, tools = document["messages"], document["tools"]
    room = size - len(orjson.dumps(document))
    while room > size // 3:
        tools.append(_function(text, len(tools)))
        room -= len(orjson.dumps(tools[-1])) + 1
    while room > 0:
        called, answered = _call(text, len(messages), min(3_000, max(1, room - 250)))
        messages += [called, answered]
        room -= len(orjson.dumps(called)) + len(orjson.dumps(answered)) + 2
    return _json(orjson.dumps(document))


def _function(text: "_Text", number: int) -> dict[str, object]:
    """Return a function's definition."""
    properties = {
        f"{text.word()}_{at}": {"type": "string", "description": text.prose(80), "enum": [text.word(), text.word()]}
        for at in range(5)
    }
    parameters = {"type": "object", "properties": properties, "required": list(properties)[:2], "strict": True}
    return {
        "type": "function",
        "function": {"name": f"tool_{number}", "description": text.prose(200), "parameters": parameters},
    }


def _call(text: "_Text", number: int, size: int) -> tuple[dict[str, object], dict[str, object]]:
    """Return a call of a function, its arguments JSON within JSON as the API has it, and its result."""
    arguments = json.dumps({"path": f"src/{text.word()}.py", "content": text.prose(size // 3)})
    call = {"id": f"call_{number}", "type": "function", "function": {"name": "tool_1", "arguments": arguments}}
    asked: dict[str, object] = {"role": "assistant", "content": None, "tool_calls": [call]}
    return asked, {"role": "tool", "tool_call_id": f"call_{number}", "content": text.prose(size // 2)}


def _image(size: int) -> Body:
    picture = base64.b64encode(random.Random(workload.SEED).randbytes(size * 3 // 4 - 200)).decode()
    parts = [
        {"type": "text", "text": "What is on this picture?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
    ]
    return _json(orjson.dumps({"messages": [{"role": "user", "content": parts}], "model": workload.MODEL}))


def _multipart(size: int) -> Body:
    audio = random.Random(workload.SEED).randbytes(size - 300)
    head = 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav'
    lines = [
        f"--{_BOUNDARY}\r\n{head}\r\n\r\n".encode() + audio,
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{workload.MODEL}'.encode(),
        f"--{_BOUNDARY}--\r\n".encode(),
    ]
    return Body(b"\r\n".join(lines), {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"})


def _gzip(size: int) -> Body:
    fields = {"content-type": "application/json", "content-encoding": "gzip"}
    return Body(gzip.compress(_talk(size), mtime=0), fields)


def _json(octets: bytes) -> Body:
    return Body(octets, {"content-type": "application/json"})


class _Text:
    """Made-up text: the same sequence for each body."""

    def __init__(self) -> None:
        self.numbers = random.Random(workload.SEED)
        lengths = [self.numbers.randint(2, 9) for _ in range(_WORDS)]
        self._words = ["".join(self.numbers.choices(_LETTERS, _weights(), k=length)) for length in lengths]

    def word(self) -> str:
        """Return a word of ASCII alone."""
        return self.numbers.choice(self._words).encode("ascii", "ignore").decode() or "word"

    def prose(self, size: int) -> str:
        """Return text that takes about `size` bytes in JSON, a few escapes among it."""
        marks = (" ", " ", " ", " ", " ", ", ", '"', "\n", "\n    return x\\y", ".\n\n")
        parts = []
        while size > 0:
            part = self.numbers.choice(self._words) + self.numbers.choice(marks)
            parts.append(part)
            size -= len(part.encode()) + part.count("\n") + part.count('"') + part.count("\\")
        return "".join(parts)


def _weights() -> list[int]:
    """Return how often each letter comes: one beyond ASCII in about fifty."""
    return [20 if letter.isascii() else 1 for letter in _LETTERS]


KINDS: Final[Mapping[str, Callable[[int], Body]]] = {
    "chat": _chat,
    "chat, model first": _model_first,
    "conversation": _conversation,
    "tools": _tools,
    "image": _image,
    "multipart": _multipart,
    "gzip": _gzip,
}
