"""Model servers that tell what reached them, at little cost: pool, routing headers, and the body's length and SHA-256.

One process, a port for each pool: python -m bench.harness.witness TABLE (prints the ports, the default pool's first).
They answer in the terms of deploy.local.traffic, as the demo's model servers do, but read forms and encoded bodies too.

Like vLLM, a pool reads the model from the body itself, refuses one that it doesn't serve (404), and answers with the
name that an alias stands for. The default pool answers whatever comes, and reads nothing.
"""

import hashlib
import re
import sys
import urllib.parse
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import brotli
import orjson
import uvloop
import yaml

from bbr.reading.zstd import zstd
from bench.harness.upstream import Connection, Head, reply, serve, whole
from deploy.local.topology import POOLS, load_adapters

DEFAULT: Final = "default"
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
        content = b"{}"
    else:
        try:
            name, stream = read(headers, body)
        except (ValueError, KeyError, AttributeError, zlib.error, brotli.error, zstd.ZstdError):
            name, stream = "", False  # it should never have come here, and its pool must be told all the same
        if name not in served:
            status, content = (
                "404 Not Found",
                orjson.dumps({"error": {"message": f"The model `{name}` does not exist."}}),
            )
        elif stream:
            kind = "text/event-stream"
            content = b"data: %b\n\n" % orjson.dumps({"model": served[name]}) * 2 + b"data: [DONE]\n\n"
        else:
            content = orjson.dumps({"model": served[name]})
    return reply(
        content,
        status,
        content_type=kind,
        x_pool=pool,
        x_pod=next((each.pods[0] for each in POOLS if each.name == pool), pool),
        x_body_bytes=str(len(body)),
        x_body_sha256=hashlib.sha256(body).hexdigest(),
        x_seen_model_name=headers.get("x-gateway-model-name", ""),
        x_seen_base_model_name=headers.get("x-gateway-base-model-name", ""),
    )


def served_names(table: Path) -> dict[str, dict[str, str]]:
    """Return what each pool serves by a model table: each name, aliases too, with the model that answers to it."""
    adapters = load_adapters(table)
    served = {pool.name: {name: name for name in (pool.base_model, *adapters[pool.base_model])} for pool in POOLS}
    for alias, name in (yaml.safe_load(table.read_text()).get("aliases") or {}).items():
        for names in served.values():
            if name in names:
                names[alias] = name
    return {DEFAULT: {}, **served}


def pools(table: Path) -> dict[str, Callable[[], Connection]]:
    """Return what makes connections of each pool, by a model table."""
    return {
        pool: whole(lambda head, body, pool=pool, names=names: answer(pool, names, fields(head), body))  # type: ignore[misc]
        for pool, names in served_names(table).items()
    }


def fields(head: Head) -> dict[str, str]:
    """Return a request's header fields by lower-case name, the values of a repeated one joined by commas."""
    found: dict[str, str] = {}
    for name, value in head.fields:
        name = name.lower()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


if __name__ == "__main__":
    uvloop.run(serve(pools(Path(sys.argv[1])), sys.stdin.read))
