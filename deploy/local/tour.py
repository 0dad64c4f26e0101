"""The demo's tour: one request of each kind, each with its expectation, and the table of what became of them."""

import asyncio
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import aiohttp

from deploy.local.stack import Stack
from deploy.local.topology import POOLS, pool_of
from deploy.local.traffic import JSON_HEADERS, Listed, Refused, Reply, Request, Routed, faults, send

QWEN, PHI = (pool.base_model for pool in POOLS)

# Time between the events of the streamed answer; its text has 13 words. Half of what that makes must be seen.
EVENT_SECONDS: Final = 0.05
# A client that is kept waiting reads several events at once.
STREAM_SPREAD_SECONDS: Final = 0.1

LARGE_BYTES: Final = 3_000_000

# Envoy writes its access log every 100 ms here.
LOG_SECONDS: Final = 60.0
LOG_PROBE_SECONDS: Final = 0.05

# The column of who answered: "router, bbr:model-not-found".
WHO_COLUMNS: Final = 27

UNKNOWN: Final = Refused(404, "model_not_found")
NAMELESS: Final = Refused(404, "model_required")
LISTED: Final = Listed(frozenset({QWEN, PHI, "sql-lora", "summarize-lora", "travel-lora"}))

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of the tour, its reply, its line of the gateway's access log, and what was wrong."""

    request: Request
    reply: Reply | None
    line: Line
    faults: list[str]
    judged: bool = True


def plan() -> list[Request]:
    """Return the requests in the order of the tour."""
    spoofed = {**JSON_HEADERS, "x-gateway-base-model-name": PHI}
    streamed = Routed(pool_of(QWEN), "summarize-lora", stream=True, min_spread_seconds=STREAM_SPREAD_SECONDS)
    complete = "/v1/completions"
    return [
        Request("qwen's base model", _to(QWEN), body=_chat(QWEN)),
        Request("phi's base model", _to(PHI), body=_chat(PHI)),
        Request("adapter sql-lora, on qwen", _to(QWEN, "sql-lora"), body=_chat("sql-lora")),
        Request(
            "completions, travel-lora, phi", _to(PHI, "travel-lora"), path=complete, body=_completion("travel-lora")
        ),
        Request("embeddings, qwen", _to(QWEN), path="/v1/embeddings", body=_json({"model": QWEN, "input": ["a", "b"]})),
        Request("a streamed answer, qwen", streamed, body=_chat("summarize-lora", stream=True)),
        Request("3 MB, model at its end, phi", _to(PHI), body=_large(PHI)),
        Request("an unknown model", UNKNOWN, body=_chat("gpt-none")),
        Request("header phi, body qwen", _to(QWEN), headers=spoofed, body=_chat(QWEN)),
        Request("header phi, body nothing", NAMELESS, headers=spoofed, body=_json({"messages": []})),
        Request("no model", NAMELESS, body=_json({"messages": []})),
        Request("the list of models", LISTED, method="GET", path="/v1/models", headers={}),
        Request("a GET, nothing to read", NAMELESS, method="GET", path="/v1/files", headers={}),
    ]


def sample() -> list[Request]:
    """Return a few of the tour's requests, which show what a part that is gone costs."""
    kinds = ("qwen's base model", "phi's base model", "an unknown model", "the list of models")
    return [request for request in plan() if request.kind in kinds]


async def run(stack: Stack, requests: Sequence[Request] | None = None, *, judged: bool = True) -> list[Visit]:
    """Send requests one after another, and find each one in the access log.

    Args:
        requests: other requests than the tour's.
        judged: whether they must go right; else no fault is told, as when a part has been killed.
    """
    timeout = aiohttp.ClientTimeout(total=30)
    visits = []
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for request in plan() if requests is None else requests:
            visit = await _visit(stack, session, request)
            visits.append(visit if judged else replace(visit, faults=[], judged=False))
    return visits


async def _visit(stack: Stack, session: aiohttp.ClientSession, request: Request) -> Visit:
    request_id = str(uuid.uuid4())
    marked = replace(request, headers={**request.headers, "x-request-id": request_id})
    try:
        reply = await send(session, stack.url, marked)
    except (aiohttp.ClientError, TimeoutError) as error:
        return Visit(request, None, {}, [f"no reply: {error!r}"])
    line = await _find_line(stack, request_id)
    return Visit(request, reply, line, faults(request, reply) + _line_faults(request, line))


async def _find_line(stack: Stack, request_id: str) -> Line:
    deadline = time.monotonic() + LOG_SECONDS
    while time.monotonic() < deadline:
        for text in reversed(stack.access_log.read_text().splitlines()):
            if request_id in text:
                line: Line = json.loads(text)
                return line
        await asyncio.sleep(LOG_PROBE_SECONDS)
    return {}


def _line_faults(request: Request, line: Line) -> list[str]:
    if not line:
        return ["the access log does not show it"]
    if isinstance(request.expected, Routed):
        wanted = {"route": request.expected.pool.name, "details": "via_upstream"}
    elif request.expected is UNKNOWN:
        wanted = {"details": "bbr:model-not-found"}
    elif request.expected is LISTED:
        wanted = {"details": "bbr:models-list"}
    else:
        wanted = {"route": "no-model", "details": "direct_response"}
    return [f"{key} is {line[key]}, not {value}" for key, value in wanted.items() if line[key] != value]


def table(visits: Sequence[Visit]) -> str:
    """Return the visits as a table of at most 100 columns, each fault on a line of its own."""
    form = "  {:<29} {:>6}  {:<9} {:<27} {:>8} {:>7} {}"
    lines = [form.format("request", "status", "route", "answered by", "first ms", "last ms", "").rstrip()]
    for visit in visits:
        verdict = "" if not visit.judged else "WRONG" if visit.faults else "ok"
        if visit.reply is None:
            lines.append(form.format(visit.request.kind, "-", "-", "nobody listens", "-", "-", verdict).rstrip())
        else:
            times = (f"{seconds * 1000:.1f}" for seconds in (visit.reply.first_seconds, visit.reply.last_seconds))
            route = visit.line.get("route") or "-"
            who = _who(visit)
            lines.append(form.format(visit.request.kind, visit.reply.status, route, who, *times, verdict).rstrip())
        lines += [f"      {fault}" for fault in visit.faults]
    return "\n".join(lines)


def _who(visit: Visit) -> str:
    pod = visit.reply.headers.get("x-pod") if visit.reply else None
    details = str(visit.line.get("details"))
    if pod:
        return pod
    who = f"router, {details}" if details.startswith("bbr:") else f"gateway, {details}"
    return who if len(who) <= WHO_COLUMNS else f"{who[: WHO_COLUMNS - 3]}..."


def _to(base_model: str, model: str = "") -> Routed:
    return Routed(pool_of(base_model), model or base_model)


def _chat(model: str, **more: object) -> bytes:
    return _json({"model": model, "messages": [{"role": "user", "content": "Who are you?"}], **more})


def _completion(model: str) -> bytes:
    return _json({"model": model, "prompt": "Who are you?"})


def _large(model: str) -> bytes:
    return _json({"messages": [{"role": "user", "content": "long " * (LARGE_BYTES // 5)}], "model": model})


def _json(document: object) -> bytes:
    return json.dumps(document).encode()
