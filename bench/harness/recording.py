"""A recording HTTP server for tests: the pools behind the gateway, all in one, told apart by port."""

import asyncio
import hashlib
from dataclasses import dataclass, field

from aiohttp import web

from bench.harness.background import Background


@dataclass
class Received:
    """One request as a pool saw it, up to where it broke off: then it is `broken`, and never `complete`."""

    pool: str
    method: str
    path: str
    headers: list[tuple[str, str]]
    size: int = 0
    digest: str = ""
    complete: bool = False
    broken: bool = False

    def header(self, name: str) -> list[str]:
        """Return the values of every field called `name`, letter case ignored."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class Upstreams:
    """HTTP/1.1 servers, one per pool, that record what reaches them and answer with the pool's name."""

    background: Background
    received: list[Received] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    first_event_seen: asyncio.Event = field(default_factory=asyncio.Event)
    _runners: list[web.AppRunner] = field(default_factory=list)

    def start(self, *pools: str) -> None:
        """Listen on a free loopback port for each pool."""
        for pool in pools:
            self.background.run(self._start(pool))

    def let_events_end(self) -> None:
        """Allow every answer at /events to send its last event."""
        self.background.loop.call_soon_threadsafe(self.first_event_seen.set)

    def forget(self) -> None:
        """Start a test afresh."""
        self.received.clear()
        self.first_event_seen = asyncio.Event()

    def stop(self) -> None:
        """Stop all servers."""
        for runner in self._runners:
            self.background.run(runner.cleanup())

    async def _start(self, pool: str) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            return await self._answer(pool, request)

        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", answer)
        # A body is taken as it comes, without undoing its Content-Encoding.
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=1, auto_decompress=False
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._runners.append(runner)
        self.ports[pool] = runner.addresses[0][1]

    async def _answer(self, pool: str, request: web.Request) -> web.StreamResponse:
        headers = [(key.decode(), value.decode("utf-8", "replace")) for key, value in request.raw_headers]
        got = Received(pool, request.method, request.path, headers)
        self.received.append(got)
        if request.headers.get("upgrade", "").lower() == "websocket":
            return await _websocket(request)
        if request.path == "/echo":
            return await _echo(request)
        digest = hashlib.sha256()
        try:
            async for chunk in request.content.iter_any():
                got.size += len(chunk)
                digest.update(chunk)
            got.complete = True
        finally:
            got.digest = digest.hexdigest()
            got.broken = not got.complete
        if request.path == "/events":
            return await self._events(request)
        return web.Response(text=pool, headers={"x-pool": pool, "x-body-sha256": got.digest})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Answer with one event, and with the second only when the test has seen the first."""
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await self.first_event_seen.wait()
        await response.write(b"data: [DONE]\n\n")
        return response


async def _echo(request: web.Request) -> web.StreamResponse:
    """Send each piece of the body back as it comes, before the request has ended."""
    response = web.StreamResponse(headers={"content-type": request.content_type})
    await response.prepare(request)
    async for chunk in request.content.iter_any():
        await response.write(chunk)
    return response


async def _websocket(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"echo {message.data}")
    return socket
