"""Model servers that tell what reached them, at little cost: pool, routing headers, and the body's length and SHA-256.

One process, a port for each pool: python -m bench.harness.witness TABLE (prints the ports, the default pool's first).
They answer in the terms of deploy.local.traffic, as the demo's model servers do, but read forms and encoded bodies too.

Like vLLM, a pool reads the model from the body itself, refuses one that it doesn't serve (404), and answers with the
name that an alias stands for. The default pool answers whatever comes, and reads nothing.
"""

import asyncio
import hashlib
import re
import sys
import urllib.parse
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import brotli
import orjson
import uvloop
import yaml
from backports import zstd

from bench.harness.upstream import unchunk
from deploy.local.topology import POOLS, load_adapters

DEFAULT: Final = "default"
LAST_CHUNK: Final = b"0\r\n\r\n"
DECODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "": bytes,
    "gzip": lambda octets: zlib.decompress(octets, 31),
    "deflate": zlib.decompress,
    "br": brotli.decompress,
    "zstd": zstd.decompress,
}

_FIELD: Final = re.compile(rb'name="model"\r\n\r\n(.*?)\r\n--', re.DOTALL)


def read(headers: Mapping[str, str], body: bytes) -> tuple[str, bool]:
    """Return the model that a body names ("" for none), and whether it asks for a stream of events.

    Raises:
        ValueError, zlib.error, brotli.error, zstd.ZstdError: the body is not what its headers say.
    """
    octets = DECODERS[headers.get("content-encoding", "")](body)
    kind = headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        found = _FIELD.search(octets)
        return (found[1].decode() if found else "", False)
    if kind.startswith("application/x-www-form-urlencoded"):
        return urllib.parse.parse_qs(octets.decode()).get("model", [""])[0], False
    document: dict[str, Any] = orjson.loads(octets)
    return str(document.get("model", "")), document.get("stream") is True


def answer(pool: str, served: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a pool's reply on the wire; `served` has every name that it knows, and the one that it answers by."""
    status, kind = "200 OK", "application/json"
    if pool == DEFAULT:
        told = b"{}"
    else:
        try:
            name, stream = read(headers, body)
        except (ValueError, KeyError, AttributeError, zlib.error, brotli.error, zstd.ZstdError):
            name, stream = "", False  # it should never have come here, and its pool must be told all the same
        if name not in served:
            status, told = "404 Not Found", orjson.dumps({"error": {"message": f"The model `{name}` does not exist."}})
        elif stream:
            kind = "text/event-stream"
            told = b"data: %b\n\n" % orjson.dumps({"model": served[name]}) * 2 + b"data: [DONE]\n\n"
        else:
            told = orjson.dumps({"model": served[name]})
    fields = {
        "content-type": kind,
        "content-length": str(len(told)),
        "x-pool": pool,
        "x-pod": next((each.pods[0] for each in POOLS if each.name == pool), pool),
        "x-body-bytes": str(len(body)),
        "x-body-sha256": hashlib.sha256(body).hexdigest(),
        "x-seen-model-name": headers.get("x-gateway-model-name", ""),
        "x-seen-base-model-name": headers.get("x-gateway-base-model-name", ""),
    }
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + told


def parse_head(head: bytes) -> dict[str, str]:
    """Return a request's header fields by lower-case name, the values of a repeated one joined by commas."""
    fields: dict[str, str] = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


class Witness(asyncio.Protocol):
    """One connection of HTTP/1.1, one request at a time, as Envoy sends them."""

    def __init__(self, pool: str, served: Mapping[str, str]) -> None:
        self._pool = pool
        self._served = served
        self._head: dict[str, str] | None = None
        self._came = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is complete."""
        self._came += data
        if self._head is None:
            end = self._came.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = parse_head(bytes(self._came[:end]))
            del self._came[: end + 4]
        body = self._body(self._head)
        if body is not None:
            head, self._head = self._head, None
            self._came.clear()
            self._transport.write(answer(self._pool, self._served, head, body))

    def _body(self, head: Mapping[str, str]) -> bytes | None:
        """Return the body if all of it has come."""
        if "transfer-encoding" in head:
            return unchunk(bytes(self._came)) if self._came.endswith(LAST_CHUNK) else None
        size = int(head.get("content-length", 0))
        return bytes(self._came) if len(self._came) >= size else None


def served_names(table: Path) -> dict[str, dict[str, str]]:
    """Return what each pool serves by a model table: each name, aliases too, with the model that answers to it."""
    adapters = load_adapters(table)
    served = {pool.name: {name: name for name in (pool.base_model, *adapters[pool.base_model])} for pool in POOLS}
    for alias, name in (yaml.safe_load(table.read_text()).get("aliases") or {}).items():
        for names in served.values():
            if name in names:
                names[alias] = name
    return {DEFAULT: {}, **served}


async def serve(table: Path) -> None:
    """Listen on a free port for each pool and tell them, until stdin ends."""
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda pool=pool, names=names: Witness(pool, names), "127.0.0.1", 0)  # type: ignore[misc]
        for pool, names in served_names(table).items()
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.close()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
