"""HTTP/1.1 load at a steady rate, in an asyncio loop: a request is due when it is due, however late the answers are.

A request takes an idle connection or, if there is none, a new one; nothing is ever sent twice. Each answer is held
against what it must be, and what goes wrong is counted by its kind, with examples.
"""

import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, cast

from bench.harness.http1 import Reply, ReplyReader

ANSWER_SECONDS: Final = 30.0
MOST_EXAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class Request:
    """One request, and what must become of it.

    Attributes:
        kind: how it is counted.
        octets: all of it, as it is sent.
        fault: says what is wrong with an answer; "" if nothing is.
        leave_after: the client closes its connection after so many octets, and awaits no answer; None for never.
    """

    kind: str
    octets: bytes
    fault: Callable[[Reply], str]
    leave_after: int | None = None


@dataclass(slots=True)
class Report:
    """What has become of a load.

    Attributes:
        sent: requests by kind.
        failed: by kind of request and of failure.
        examples: a few failures of each kind, with the second since the start at which their requests began.
        took: by kind, seconds from when each request was due to the end of its answer.
        late: the longest time that a request was sent after it was due, in seconds: the client's own fault.
        seconds: from the first request's time to the last answer.
    """

    sent: Counter[str] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    took: dict[str, list[float]] = field(default_factory=dict)
    late: float = 0.0
    seconds: float = 0.0

    def fail(self, request: Request, how: str, detail: str, began: float) -> None:
        """Count a failure."""
        key = (request.kind, how)
        self.failed[key] += 1
        examples = self.examples.setdefault(key, [])
        if len(examples) < MOST_EXAMPLES:
            examples.append(f"at {began:.3f} s: {detail}")

    @property
    def failures(self) -> int:
        """How many requests have failed."""
        return self.failed.total()

    @property
    def rate(self) -> float:
        """Requests per second, as achieved."""
        return self.sent.total() / self.seconds if self.seconds else 0.0

    def lines(self) -> Iterator[str]:
        """Give what to print."""
        sent = ", ".join(f"{count} {kind}" for kind, count in sorted(self.sent.items()))
        yield f"{self.sent.total()} requests in {self.seconds:.1f} s, {self.rate:.0f}/s ({sent})"
        for kind, took in sorted(self.took.items()):
            cuts = statistics.quantiles(took, n=100) if len(took) > 1 else took * 99
            yield (
                f"  {kind}: answered after {cuts[49] * 1000:.1f} ms (median), {cuts[98] * 1000:.1f} (p99), "
                f"{max(took) * 1000:.0f} (longest)"
            )
        yield f"the client was late by {self.late * 1000:.0f} ms at most"
        yield f"{self.failures} failed"
        for (kind, how), count in sorted(self.failed.items()):
            yield f"  {count} x {kind}: {how}"
            yield from (f"    {example}" for example in self.examples[kind, how])


class _Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._waiting: asyncio.Future[Reply] | None = None
        self._reader = ReplyReader()
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self.transport = cast(asyncio.Transport, transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        """Take a piece of an answer."""
        try:
            found = self._reader.feed(data)
        except ConnectionError as error:
            self._fail(error)
            self.close()
            return
        for reply in found:
            if reply.headers.get("connection") == "close":
                self.close()
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(reply)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the request that waits."""
        self.open = False
        self._fail(ConnectionError(f"{error or 'closed'} {'in mid-' if self._reader.begun else 'without an '}answer"))

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

    def close(self) -> None:
        """Close the connection."""
        self.open = False
        self.transport.close()

    async def ask(self, octets: bytes) -> Reply:
        """Send a request and return its answer.

        Raises:
            ConnectionError: the connection was closed first.
            TimeoutError: there is no answer in ANSWER_SECONDS.
        """
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(octets)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._waiting
        finally:
            self._waiting = None


class Steady:
    """A client of one gateway on loopback.

    Args:
        port: the gateway's.
        requests: what to send, without an end.
    """

    def __init__(self, port: int, requests: Iterator[Request]) -> None:
        self._port = port
        self._requests = requests
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self.report = Report()

    async def run(self, rate: float, seconds: float) -> Report:
        """Send `rate` requests per second for so long; return when the last is answered or has failed."""
        report = self.report = Report()
        begun = time.perf_counter()
        running: set[asyncio.Task[None]] = set()
        for number in itertools.count():
            due = begun + number / rate
            if due > begun + seconds:
                break
            now = time.perf_counter()
            if due > now:
                await asyncio.sleep(due - now)
            report.late = max(report.late, time.perf_counter() - due)
            task = asyncio.create_task(self._do(next(self._requests), due, begun))
            running.add(task)
            task.add_done_callback(running.discard)
        while running:
            await asyncio.wait(running)
        report.seconds = time.perf_counter() - begun
        return report

    async def saturate(self, at_once: int, seconds: float) -> Report:
        """Keep so many requests running for so long: what the report's rate then is, is the capacity."""
        report = self.report = Report()
        begun = time.perf_counter()

        async def one_after_another() -> None:
            while (now := time.perf_counter()) < begun + seconds:
                await self._do(next(self._requests), now, begun)

        await asyncio.gather(*(one_after_another() for _ in range(at_once)))
        report.seconds = time.perf_counter() - begun
        return report

    def close(self) -> None:
        """Close all connections."""
        for each in self._all:
            each.close()
        self._all.clear()
        self._idle.clear()

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
            self._all.discard(connection)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        self._all.add(connection)
        return connection

    async def _do(self, request: Request, due: float, begun: float) -> None:
        report = self.report
        report.sent[request.kind] += 1
        try:
            connection = await self._connection()
            if request.leave_after is not None:
                connection.transport.write(request.octets[: request.leave_after])
                connection.close()
                self._all.discard(connection)
                return
            answer = await connection.ask(request.octets)
        except OSError as error:  # TimeoutError is one
            report.fail(request, type(error).__name__, str(error), due - begun)
            return
        report.took.setdefault(request.kind, []).append(time.perf_counter() - due)
        if connection.open:
            self._idle.append(connection)
        else:
            self._all.discard(connection)
        wrong = request.fault(answer)
        if wrong:
            report.fail(request, f"status {answer.status}", wrong, due - begun)
