"""A request to the gateway together with what must become of it: send it, and hold the reply against that.

The tour of the demo and the accuracy benchmark speak in these terms.
"""

import hashlib
import io
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from deploy.local.topology import Pool

JSON_HEADERS: Final[Mapping[str, str]] = {"content-type": "application/json"}
DONE: Final = b"[DONE]"
PIECE_BYTES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Routed:
    """The request must reach a model server of `pool`, byte for byte, and be answered there.

    Attributes:
        pool: the only pool that may see it.
        model: the model that it asks for.
        stream: whether the answer must be a stream of events.
        min_spread_seconds: the least time from the first event to the last, if the events travel as they happen.
    """

    pool: Pool
    model: str
    stream: bool = False
    min_spread_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """The request must be answered on its way, with an error in OpenAI's shape and this HTTP status and `code`."""

    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Listed:
    """The request must be answered on its way, with a list of just these models."""

    models: frozenset[str]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request and its expectation.

    Attributes:
        kind: what it is reported as.
        expected: what must become of it.
        headers: may be a multidict, with several values of one name.
        chunked: send the body in pieces of PIECE_BYTES and without announcing its length.
    """

    kind: str
    expected: Routed | Refused | Listed
    method: str = "POST"
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)
    body: bytes = b""
    chunked: bool = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces."""
        for start in range(0, len(self.body), PIECE_BYTES):
            yield self.body[start : start + PIECE_BYTES]


@dataclass(slots=True)
class Reply:
    """What came back. The times count from the moment of sending, in seconds.

    Attributes:
        first_seconds: until the first piece of the body.
        last_seconds: until the end of the body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    first_seconds: float = 0.0
    last_seconds: float = 0.0


async def send(session: aiohttp.ClientSession, url: str, request: Request) -> Reply:
    """Send a request over HTTP/1.1.

    Raises:
        aiohttp.ClientError: there was no complete reply.
    """
    begun = time.perf_counter()
    body: io.BytesIO | AsyncIterator[bytes] | None = None
    if request.body:
        # As a file, because aiohttp warns of raw bytes above 1 MiB; it announces the length all the same.
        body = request.pieces() if request.chunked else io.BytesIO(request.body)
    async with session.request(request.method, url + request.path, data=body, headers=request.headers) as response:
        reply = Reply(response.status, response.headers)
        await collect(reply, begun, response.content.iter_any())
    return reply


async def collect(reply: Reply, begun: float, pieces: AsyncIterator[bytes]) -> None:
    """Fill in the reply's body and times from its pieces; `begun` is the request's time.perf_counter()."""
    received: list[bytes] = []
    async for piece in pieces:
        if not received:
            reply.first_seconds = time.perf_counter() - begun
        received.append(piece)
    reply.body = b"".join(received)
    reply.last_seconds = time.perf_counter() - begun


def faults(request: Request, reply: Reply) -> list[str]:
    """Return everything about a reply that is not as expected, each as a short sentence; nothing if all is right."""
    if isinstance(request.expected, Refused):
        return _refusal_faults(request.expected, reply)
    if isinstance(request.expected, Listed):
        return _list_faults(request.expected, reply)
    return _routing_faults(request, request.expected, reply)


def _refusal_faults(expected: Refused, reply: Reply) -> list[str]:
    found = _differences(
        status=(expected.status, reply.status),
        content_type=("application/json", reply.headers.get("content-type")),
        pod=(None, reply.headers.get("x-pod")),
    )
    error = _as_object(reply.body).get("error")
    if not isinstance(error, dict) or error.keys() != {"message", "type", "param", "code"}:
        return [*found, f"no OpenAI error: {reply.body[:80]!r}"]
    return found + _differences(code=(expected.code, error["code"]))


def _list_faults(expected: Listed, reply: Reply) -> list[str]:
    data = _as_object(reply.body).get("data") or []
    return _differences(
        status=(200, reply.status),
        pod=(None, reply.headers.get("x-pod")),
        models=(sorted(expected.models), sorted(each["id"] for each in data)),
    )


def _routing_faults(request: Request, expected: Routed, reply: Reply) -> list[str]:
    if reply.status != 200:
        return [f"status is {reply.status}, not 200: {reply.body[:120]!r}"]
    headers = reply.headers
    found = _differences(
        pool=(expected.pool.name, headers.get("x-pool")),
        body=(hashlib.sha256(request.body).hexdigest(), headers.get("x-body-sha256")),
        bytes=(str(len(request.body)), headers.get("x-body-bytes")),
        model_header=(expected.model, headers.get("x-seen-model-name")),
        base_model_header=(expected.pool.base_model, headers.get("x-seen-base-model-name")),
    )
    if headers.get("x-pod") not in expected.pool.pods:
        found.append(f"pod is {headers.get('x-pod')}, none of {expected.pool.name}")
    return found + (_event_faults(expected, reply) if expected.stream else _answer_faults(expected, reply))


def _answer_faults(expected: Routed, reply: Reply) -> list[str]:
    return _differences(model=(expected.model, _as_object(reply.body).get("model")))


def _event_faults(expected: Routed, reply: Reply) -> list[str]:
    events = [line.removeprefix(b"data: ") for line in reply.body.split(b"\n\n") if line]
    if len(events) < 2 or events[-1] != DONE:
        return [f"the stream does not end with [DONE]: {reply.body[-80:]!r}"]
    found = _differences(models=({expected.model}, {_as_object(event).get("model") for event in events[:-1]}))
    spread = reply.last_seconds - reply.first_seconds
    if spread < expected.min_spread_seconds:
        found.append(f"events came within {spread:.3f} s, not spread over {expected.min_spread_seconds:g} s")
    return found


def _as_object(document: bytes) -> dict[str, Any]:
    try:
        value = json.loads(document)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _differences(**pairs: tuple[object, object]) -> list[str]:
    return [
        f"{name.replace('_', ' ')} is {found}, not {wanted}"
        for name, (wanted, found) in pairs.items()
        if wanted != found
    ]
