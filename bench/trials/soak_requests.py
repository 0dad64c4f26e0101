"""What clients send in the soak, and what must become of each: chats, long bodies, forms, gzip, nonsense, and leaving.

Seeded. Bodies are made once and sent over and over; the pools behind the gateway tell what reached them.
"""

import gzip
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final
from weakref import WeakSet

from bench.harness.http1 import Reply, post
from bench.harness.steady_load import Request
from bench.harness.upstream import Connection, Fields, Head, listen, reply

SEED: Final = 11
MODELS: Final = {"sql-lora": "qwen", "qwen": "qwen", "phi": "phi"}
POOLS: Final = ("qwen", "phi", "default")
TABLE: Final = "models:\n- {name: qwen, adapters: [sql-lora]}\n- {name: phi}\n"
CHATS: Final = "/v1/chat/completions"

# The router of the soak reads no more; what is larger must be refused.
MAX_BODY_BYTES: Final = 4 << 20

# Of a thousand requests.
WEIGHTS: Final = {
    "chat": 640,
    "100 KB": 80,
    "1 MB": 8,
    "3 MB": 4,
    "gzip": 60,
    "multipart": 50,
    "no model": 40,
    "unknown model": 40,
    "no body": 30,
    "invalid JSON": 20,
    "too large": 3,
    "leaves": 25,
}

Fault = Callable[[Reply], str]


def write_table(folder: Path) -> Path:
    """Write the router's model table into a folder; return its path."""
    path = folder / "models.yaml"
    path.write_text(TABLE)
    return path


def requests(seed: int = SEED) -> Iterator[Request]:
    """Give requests by WEIGHTS, without an end."""
    rng = random.Random(seed)
    made = {kind: [_request(kind, rng) for _ in range(_variants(kind))] for kind in WEIGHTS}
    kinds = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=10_000)
    return itertools.cycle([rng.choice(made[kind]) for kind in kinds])


def _variants(kind: str) -> int:
    return 2 if "MB" in kind or kind == "too large" else 30


def _request(kind: str, rng: random.Random) -> Request:
    model = rng.choice(list(MODELS))
    right = routed(MODELS[model], model)
    sizes = {"100 KB": 100_000, "1 MB": 1_000_000, "3 MB": 3_000_000, "too large": 6_000_000}
    body = chat(model, sizes.get(kind) or rng.randrange(150, 8_000))
    match kind:
        case "gzip":
            return Request(kind, post(CHATS, gzip.compress(body), content_encoding="gzip"), right)
        case "multipart":
            return Request(kind, _form(model, rng.randbytes(rng.randrange(500, 50_000))), right)
        case "no model":
            body = json.dumps({"input": "x" * rng.randrange(100, 8_000)}).encode()
            return Request(kind, post("/v1/embeddings", body), routed("default", None))
        case "unknown model":
            return Request(kind, post(CHATS, chat("not there", 300)), _refused(404))
        case "no body":
            return Request(kind, b"GET /v1/models HTTP/1.1\r\nhost: gateway.example\r\n\r\n", routed("default", None))
        case "invalid JSON":
            return Request(kind, post(CHATS, body[: rng.randrange(10, len(body) - 1)]), _refused(400))
        case "too large":
            return Request(kind, post(CHATS, body), _refused(413))
        case "leaves":
            octets = post(CHATS, chat(model, rng.choice([2_000, 100_000, 1_000_000])))
            return Request(kind, octets, right, leave_after=rng.randrange(20, len(octets)))
        case _:
            return Request(kind, post(CHATS, body), right)


def chat(model: str, size: int) -> bytes:
    """Return a chat of about `size` bytes, the model last."""
    content = "x" * max(1, size - 80)
    return json.dumps({"messages": [{"role": "user", "content": content}], "model": model}).encode()


def _form(model: str, file: bytes) -> bytes:
    part = b'--XyZ\r\ncontent-disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    audio = part % (b"file", b'; filename="a.wav"\r\ncontent-type: audio/wav', file.replace(b"--XyZ", b"--xyz"))
    body = audio + part % (b"model", b"", model.encode()) + b"--XyZ--\r\n"
    return post("/v1/audio/transcriptions", body, "multipart/form-data; boundary=XyZ")


def routed(pool: str, model: str | None) -> Fault:
    """Return what says whether an answer is that of a pool, which has seen a model."""

    def fault(answer: Reply) -> str:
        came = answer.headers.get("x-pool"), answer.headers.get("x-seen-model-name") or None
        right = answer.status == 200 and came == (pool, model)
        return "" if right else f"{came}, not {(pool, model)}: {answer.body[:120]!r}"

    return fault


def _refused(status: int) -> Fault:
    def fault(answer: Reply) -> str:
        right = answer.status == status and b'"error"' in answer.body
        return "" if right else f"not a {status}: {answer.headers.get('x-pool')}, {answer.body[:120]!r}"

    return fault


class _Pool:
    """Takes one request, forgets its body, and tells whose pool it is and which model's header came."""

    def __init__(self, name: str, connection: Connection, head: Head) -> None:
        self._name = name
        self._connection = connection
        self._head = head

    def take(self, piece: bytes) -> None:
        """Forget it."""

    def end(self, _trailers: Fields) -> None:
        """Answer."""
        model = ", ".join(self._head.header("x-gateway-model-name"))
        self._connection.write(reply(x_pool=self._name, x_seen_model_name=model))

    def lost(self) -> None:
        """A client has left."""


@asynccontextmanager
async def pools() -> AsyncIterator[dict[str, int]]:
    """Run a server for each pool in this loop; give their ports."""
    connections: WeakSet[Connection] = WeakSet()

    def connection(name: str) -> Connection:
        connections.add(made := Connection(partial(_Pool, name)))
        return made

    async with AsyncExitStack() as stack:
        ports = {}
        for name in POOLS:
            server, ports[name] = await listen(partial(connection, name))
            stack.callback(server.close)
        yield ports
        for each in list(connections):
            each.abort()
