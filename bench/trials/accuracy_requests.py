"""Requests of all kinds with what must become of each: a seeded mix, the same for the same seed.

Bodies are mostly chats of a few turns, some with documents, few with images; see SIZES.
"""

import gzip
import json
import random
import urllib.parse
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import brotli
import yaml
from multidict import MultiDict

from bbr.reading.zstd import zstd
from bench.harness.workload import LONG_BYTES
from bench.trials.accuracy_verdict import NAMELESS
from deploy.local.topology import MODELS, POOLS, Pool, load_adapters
from deploy.local.traffic import JSON_HEADERS, Refused, Request, Routed

UNKNOWN: Final = Refused(404, "model_not_found")
BROKEN: Final = Refused(400, "invalid_json")

# The router lets these pass at their headers, and refuses long bodies before their end. So a gateway may answer before
# it has the body: a stream is reset with NO_ERROR then. RFC 9113 section 8.1 has a client keep the answer; httpx drops
# it and complains. Such requests go over HTTP/1.1.
UNREAD: Final = "not JSON, not read"

# Share of the bodies in percent, smallest and largest in bytes: mostly chats of a few turns, some with documents,
# few with images.
SIZES: Final = (
    ("up to 4 KB", 70, 100, 4_000),
    ("4 - 64 KB", 20, 4_000, 64_000),
    ("64 - 300 KB", 9, 64_000, 300_000),
    ("1 - 3 MB", 1, 1_000_000, 3_000_000),
)

# Text as clients send it: quotes and backslashes to be escaped, several bytes per character, and a decoy.
TEXT: Final = 'Who "are" you?\n\t\\ Wie heißt du? 你是谁 🙂 {"model": "gpt-none"} lorem ipsum dolor sit amet ' * 40_000


ALIASES: Final[Mapping[str, str]] = {
    "gpt-4": "Qwen/Qwen2.5-3B-Instruct",
    "gpt-4o-mini": "sql-lora",
    "模型-latest": "travel-lora",
}

CODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "gzip": lambda octets: gzip.compress(octets, 1, mtime=0),
    "deflate": lambda octets: zlib.compress(octets, 1),
    "br": lambda octets: brotli.compress(octets, quality=1),
    "zstd": lambda octets: zstd.compress(octets, 1),
}
UNREAD_TYPES: Final = ("text/html", "application/octet-stream", "audio/wav", "application/xml", "image/png")
BOUNDARY: Final = "----bbr7MA4YWxkTrZu0gW"


def write_table(path: Path) -> None:
    """Write the demo's model table with ALIASES besides."""
    table = yaml.safe_load(MODELS.read_text())
    path.write_text(yaml.safe_dump({**table, "aliases": dict(ALIASES)}, allow_unicode=True), encoding="utf-8")


class Mix:
    """A reproducible sequence of requests: the same seed gives the same requests.

    Args:
        seed: of all that looks random.
        http2_share: which part goes over HTTP/2, 0 to 1.
        everything: with aliases, forms and encoded bodies too, which the demo's model servers don't take.
    """

    def __init__(self, seed: int, http2_share: float = 0.0, *, everything: bool = False) -> None:
        self._http2_share = http2_share
        self._everything = everything
        self._rng = random.Random(seed)
        self._adapters = load_adapters()
        self._kinds: dict[str, tuple[int, Callable[[str], Request]]] = {
            "base model": (28, self._base_model),
            "adapter": (22, self._adapter),
            "streamed answer": (10, self._streamed),
            "another model named inside": (8, self._decoy),
            "spoofed headers": (8, self._spoofed),
            "spoofed headers, no model": (5, self._spoofed_nameless),
            "unknown model": (6, self._unknown),
            "no model": (5, self._nameless),
            UNREAD: (2, self._unread),
            "broken JSON": (2, self._broken),
            "POST without a body": (1, self._empty),
            "GET": (3, self._get),
        }
        if everything:
            self._kinds["alias"] = (14, self._alias)
            self._kinds["multipart form"] = (5, self._multipart)
            self._kinds["urlencoded form"] = (4, self._urlencoded)
            self._kinds |= dict.fromkeys(CODERS, (3, self._encoded))

    def requests(self, count: int) -> Iterator[tuple[Request, bool]]:
        """Yield `count` requests, each with whether to send it over HTTP/2."""
        names = list(self._kinds)
        weights = [weight for weight, _ in self._kinds.values()]
        for name in self._rng.choices(names, weights, k=count):
            http2 = self._chance(self._http2_share)
            request = self._kinds[name][1](name)
            yield request, http2 and not self._answered_early(request)

    def _answered_early(self, request: Request) -> bool:
        if request.kind == UNREAD:
            return not self._everything
        refused = isinstance(request.expected, Refused) and request.expected is not NAMELESS
        return refused and len(request.body) > LONG_BYTES

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share

    def _base_model(self, kind: str) -> Request:
        pool = self._rng.choice(POOLS)
        return self._routed(kind, pool, pool.base_model)

    def _adapter(self, kind: str) -> Request:
        pool = self._rng.choice(POOLS)
        return self._routed(kind, pool, self._rng.choice(self._adapters[pool.base_model]))

    def _alias(self, kind: str) -> Request:
        alias = self._rng.choice(list(ALIASES))
        return self._request(kind, self._canonical(ALIASES[alias]), self._document(alias))

    def _canonical(self, model: str) -> Routed:
        pool = next(each for each in POOLS if model in (each.base_model, *self._adapters[each.base_model]))
        return Routed(pool, model)

    def _multipart(self, kind: str) -> Request:
        pool, model = self._any_model()
        part = '--%s\r\ncontent-disposition: form-data; name="%s"%s\r\n\r\n'
        field = (part % (BOUNDARY, "model", "")).encode() + model.encode() + b"\r\n"
        audio = 'file"; filename="a.wav', "\r\ncontent-type: audio/wav"
        file = (part % (BOUNDARY, *audio)).encode() + self._noise(50_000) + b"\r\n"
        parts = [field, file] if self._chance(0.5) else [file, field]
        body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
        headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self._request(kind, Routed(pool, model), body, "/v1/audio/transcriptions", headers)

    def _urlencoded(self, kind: str) -> Request:
        pool, model = self._any_model()
        fields = [("prompt", TEXT[: self._rng.randrange(4_000)]), ("n", "1")]
        fields.insert(self._rng.randrange(3), ("model", model))
        headers = {"content-type": "application/x-www-form-urlencoded"}
        body = urllib.parse.urlencode(fields).encode()
        return self._request(kind, Routed(pool, model), body, "/v1/completions", headers)

    def _encoded(self, kind: str) -> Request:
        pool, model = self._any_model()
        # Noise, since the router refuses what becomes more than 200 times larger, and repeated text does.
        messages = [{"role": "user", "content": self._noise(20_000).hex() + TEXT[:1_000]}]
        fields = [("messages", messages), ("model", model)]
        body = CODERS[kind](json.dumps(dict(self._rng.sample(fields, 2))).encode())
        return self._request(kind, Routed(pool, model), body, headers={**JSON_HEADERS, "content-encoding": kind})

    def _noise(self, most: int) -> bytes:
        return self._rng.randbytes(self._rng.randrange(5_000, most))

    def _streamed(self, kind: str) -> Request:
        pool, model = self._any_model()
        body = self._document(model, stream=True)
        path = self._rng.choice(["/v1/chat/completions", "/v1/completions"])
        return self._request(kind, Routed(pool, model, stream=True), body, path)

    def _decoy(self, kind: str) -> Request:
        pool, model = self._any_model()
        other = next(one for one in POOLS if one is not pool).base_model
        tool = {"type": "function", "function": {"parameters": {"properties": {"model": {"const": other}}}}}
        return self._request(kind, Routed(pool, model), self._document(model, tools=[tool], metadata={"model": other}))

    def _spoofed(self, kind: str) -> Request:
        pool, model = self._any_model()
        return self._request(kind, Routed(pool, model), self._document(model), headers=self._spoofed_headers())

    def _spoofed_nameless(self, kind: str) -> Request:
        return self._request(kind, NAMELESS, self._document(None), headers=self._spoofed_headers())

    def _unknown(self, kind: str) -> Request:
        name = self._rng.choice(["gpt-none", "sql-lor", "SQL-LORA", "Qwen/Qwen2.5-3B", "模型", "sql-lora/"])
        return self._request(kind, UNKNOWN, self._document(name))

    def _nameless(self, kind: str) -> Request:
        inner = {"metadata": {"model": "sql-lora"}} if self._chance(0.5) else {}
        return self._request(kind, NAMELESS, self._document(None, **inner))

    def _unread(self, kind: str) -> Request:
        _, model = self._any_model()
        headers = {"content-type": self._rng.choice(UNREAD_TYPES)}
        return self._request(kind, NAMELESS, self._document(model), headers=headers)

    def _broken(self, kind: str) -> Request:
        _, model = self._any_model()
        body = self._document(model).rstrip()
        return self._request(kind, BROKEN, self._rng.choice([body[:-1], body + b"}", b"[" + body, body[:-1] + b",}"]))

    def _empty(self, kind: str) -> Request:
        return Request(kind, NAMELESS, headers=self._spoofed_headers())

    def _get(self, kind: str) -> Request:
        headers = self._spoofed_headers() if self._chance(0.5) else {}
        return Request(kind, NAMELESS, method="GET", path="/v1/files", headers=headers)

    def _routed(self, kind: str, pool: Pool, model: str) -> Request:
        path = self._rng.choice(["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
        return self._request(kind, Routed(pool, model), self._document(model), path)

    def _request(
        self,
        kind: str,
        expected: Routed | Refused,
        body: bytes,
        path: str = "/v1/chat/completions",
        headers: Mapping[str, str] = JSON_HEADERS,
    ) -> Request:
        return Request(kind, expected, path=path, headers=headers, body=body, chunked=self._chance(0.3))

    def _any_model(self) -> tuple[Pool, str]:
        pool = self._rng.choice(POOLS)
        return pool, self._rng.choice([pool.base_model, *self._adapters[pool.base_model]])

    def _spoofed_headers(self) -> MultiDict[str]:
        headers = MultiDict(JSON_HEADERS)
        for _ in range(self._rng.choice([1, 1, 2])):
            pool, model = self._any_model()
            headers.add(self._rng.choice(["x-gateway-base-model-name", "X-Gateway-Base-Model-Name"]), pool.base_model)
            headers.add("x-gateway-model-name", model)
        return headers

    def _document(self, model: str | None, **fields: object) -> bytes:
        rng = self._rng
        _, _, least, most = rng.choices(SIZES, [share for _, share, _, _ in SIZES])[0]
        start = rng.randrange(1000)
        text = TEXT[start : start + int(least * (most / least) ** rng.random() / 1.2)]
        # Members as text, so that their order, their blanks and the escapes in them differ as between clients.
        ascii_only = rng.random() < 0.5
        given = {**fields, "messages": [{"role": "user", "content": text}], "temperature": 0.5}
        members = [f'"{key}": {json.dumps(value, ensure_ascii=ascii_only)}' for key, value in given.items()]
        if model is not None:
            name = json.dumps(model, ensure_ascii=ascii_only)
            name = name.replace("/", "\\/") if rng.random() < 0.2 else name
            members.insert(rng.choice([0, 1, len(members)]), f'"model": {name}')
        comma, end = rng.choice([(",", ""), (", ", "\n"), (",\n  ", "\n")])
        return f"{{{comma.join(members)}}}{end}".encode()
