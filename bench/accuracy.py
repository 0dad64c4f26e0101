"""Does every request go where it must, untouched? A seeded mix of requests through a real Envoy, each reply checked.

    python -m bench.accuracy --requests 10000 --mode both --seed 7

For every request the status, the pool, the model, the headers that the model server saw and the SHA-256 of the body
that it received are held against what was sent. Exit status: 0 if every one was right, 1 if any was wrong.

The latencies are those of one busy machine, with clients and stand-ins on the cores that the router needs: they tell a
hang from an answer, and nothing about the router's speed.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import httpx
from multidict import MultiDict

from deploy.local.gateway import BodyMode
from deploy.local.stack import Stack, StackError, StackOptions
from deploy.local.topology import POOLS, Pool, free_ports, load_adapters
from deploy.local.traffic import JSON_HEADERS, Refused, Reply, Request, Routed, collect, faults, send

BODY_MODES: Final[Mapping[str, BodyMode]] = {"full-duplex": "FULL_DUPLEX_STREAMED", "buffered": "BUFFERED"}

TIMEOUT_SECONDS: Final = 60.0
HTTP2_CONNECTIONS: Final = 4
SHOWN_FAULTS: Final = 10

UNKNOWN: Final = Refused(404, "model_not_found")
NAMELESS: Final = Refused(404, "model_required")
BROKEN: Final = Refused(400, "invalid_json")

# The router lets these pass at their headers, and so the gateway answers before it has the body: a stream is reset with
# NO_ERROR then. RFC 9113 section 8.1 tells a client to keep the answer; httpx drops it and complains.
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


@dataclass(slots=True)
class Tally:
    """What became of the requests of one label (a kind, a size, a protocol)."""

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0


@dataclass(slots=True)
class Result:
    """The outcome of one run: a tally per label, and the first faults in words."""

    title: str
    tallies: dict[str, Tally] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    elapsed_seconds: float = 0.0

    @property
    def wrong(self) -> int:
        """How many requests went wrong in any way."""
        return self.tallies["all"].wrong

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return len(self.tallies["all"].seconds)

    def add(self, labels: Sequence[str], seconds: float, found: Sequence[str]) -> None:
        """Count one request under each of its labels."""
        for label in labels:
            tally = self.tallies.setdefault(label, Tally())
            tally.seconds.append(seconds)
            tally.wrong += bool(found)
        if found and len(self.faults) < SHOWN_FAULTS:
            self.faults.append(f"{', '.join(labels)}: {'; '.join(found)}")


class Mix:
    """A reproducible sequence of requests: the same seed gives the same requests."""

    def __init__(self, seed: int, http2_share: float = 0.0) -> None:
        self._http2_share = http2_share
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

    def requests(self, count: int) -> Iterator[tuple[Request, bool]]:
        """Yield `count` requests, each with whether to send it over HTTP/2."""
        names = list(self._kinds)
        weights = [weight for weight, _ in self._kinds.values()]
        for name in self._rng.choices(names, weights, k=count):
            http2 = self._chance(self._http2_share) and name != UNREAD
            yield self._kinds[name][1](name), http2

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share

    def _base_model(self, kind: str) -> Request:
        pool = self._rng.choice(POOLS)
        return self._routed(kind, pool, pool.base_model)

    def _adapter(self, kind: str) -> Request:
        pool = self._rng.choice(POOLS)
        return self._routed(kind, pool, self._rng.choice(self._adapters[pool.base_model]))

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
        headers = {"content-type": self._rng.choice(["text/plain", "application/octet-stream", "audio/wav"])}
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


class Clients:
    """An HTTP/1.1 client and some HTTP/2 connections to one gateway; an async context manager."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._turn = 0

    async def __aenter__(self) -> "Clients":
        self._http1 = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))
        self._http2 = [
            httpx.AsyncClient(http1=False, http2=True, timeout=TIMEOUT_SECONDS) for _ in range(HTTP2_CONNECTIONS)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http1.close()
        for client in self._http2:
            await client.aclose()

    async def send(self, request: Request, *, http2: bool) -> Reply:
        """Send a request.

        Raises:
            aiohttp.ClientError, httpx.HTTPError, TimeoutError: there was no complete reply.
        """
        if not http2:
            return await send(self._http1, self._url, request)
        self._turn += 1
        client = self._http2[self._turn % len(self._http2)]
        begun = time.perf_counter()
        async with client.stream(
            request.method,
            self._url + request.path,
            headers=list(request.headers.items()),
            content=request.pieces() if request.chunked else request.body,
        ) as response:
            reply = Reply(response.status_code, response.headers)
            await collect(reply, begun, response.aiter_raw())
        return reply


async def measure(
    mode: BodyMode, *, requests: int, seed: int, http2_share: float, in_flight: int, log_dir: Path
) -> Result:
    """Start a stack, send the mix through it, stop it.

    Raises:
        StackError: the stack could not start, or a part of it died.
    """
    result = Result(f"{mode}: {requests} requests, seed {seed}, {in_flight} at a time")
    source = Mix(seed, http2_share).requests(requests)

    async def work(clients: Clients) -> None:
        for request, http2 in source:
            begun = time.perf_counter()
            try:
                found = faults(request, await clients.send(request, http2=http2))
            except (aiohttp.ClientError, httpx.HTTPError, TimeoutError) as error:
                found = [f"no reply: {error!r}"]
            protocol = "HTTP/2" if http2 else "HTTP/1.1"
            labels = ["all", protocol, _size_label(len(request.body)), request.kind]
            result.add(labels, time.perf_counter() - begun, found)

    async with Stack(StackOptions(log_dir=log_dir, ports=free_ports(), body_mode=mode)) as stack:
        begun = time.monotonic()
        async with Clients(stack.url) as clients:
            await stack.unless_dead(_together(work(clients) for _ in range(in_flight)))
        result.elapsed_seconds = time.monotonic() - begun
    return result


async def _together(workers: Iterable[Coroutine[None, None, None]]) -> None:
    await asyncio.gather(*workers)


def report(result: Result) -> str:
    """Return the result as a table: all, then by protocol, size and kind."""
    form = "  {:<28} {:>8} {:>7} {:>9} {:>9}"
    lines = [
        f"{result.title}; {result.elapsed_seconds:.1f} s",
        form.format("", "requests", "wrong", "p50 ms", "p99 ms"),
    ]
    sizes = ["no body", *(label for label, *_ in SIZES)]
    first = ["all", "HTTP/1.1", "HTTP/2", *sizes]
    for label in [*first, *sorted(result.tallies.keys() - set(first))]:
        tally = result.tallies.get(label)
        if tally:
            times = (f"{1000 * seconds:.1f}" for seconds in _percentiles(tally.seconds))
            lines.append(form.format(label, len(tally.seconds), tally.wrong, *times))
    return "\n".join([*lines, *(f"  WRONG {fault}" for fault in result.faults)])


def _percentiles(seconds: list[float]) -> tuple[float, float]:
    if len(seconds) < 2:
        return seconds[0], seconds[0]
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return cuts[49], cuts[98]


def _size_label(size: int) -> str:
    if not size:
        return "no body"
    return next((label for label, _, _, most in SIZES if size <= most), SIZES[-1][0])


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark from the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=10_000, metavar="N", help="per mode (default: %(default)s)")
    parser.add_argument("--mode", choices=[*BODY_MODES, "both"], default="both", help="the gateway's body mode")
    parser.add_argument("--seed", type=int, metavar="S", help="of the mix (default: a new one, which is printed)")
    parser.add_argument(
        "--in-flight", type=int, default=16, metavar="N", help="requests at once (default: %(default)s)"
    )
    parser.add_argument(
        "--log-dir", type=Path, metavar="DIR", help="where logs go (default: a new temporary directory)"
    )
    parser.add_argument(
        "--http2",
        type=float,
        nargs="?",
        const=1.0,
        default=0.2,
        metavar="SHARE",
        help="share of requests over HTTP/2 (default: %(default)s; without a value: all)",
    )
    given = parser.parse_args(arguments)
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    logs = given.log_dir or Path(tempfile.mkdtemp(prefix="bbr-accuracy-"))
    wrong = 0
    for name, mode in BODY_MODES.items():
        if given.mode in (name, "both"):
            log_dir = logs / name
            log_dir.mkdir(parents=True, exist_ok=True)
            run = measure(
                mode,
                requests=given.requests,
                seed=seed,
                http2_share=given.http2,
                in_flight=given.in_flight,
                log_dir=log_dir,
            )
            try:
                result = asyncio.run(run)
            except StackError as error:
                print(f"The benchmark can not run: {error}", file=sys.stderr)
                return 1
            print(report(result), f"  logs: {log_dir}", sep="\n", end="\n\n", flush=True)
            wrong += result.wrong
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
