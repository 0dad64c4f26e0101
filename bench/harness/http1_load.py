"""A client of HTTP/1.1 that measures a gateway: closed loop, and open loop at a fixed rate. Every reply is checked.

One thread, keep-alive connections, one request at a time on each, sockets that never block: a long body that the
gateway takes slowly keeps no other request from being read or sent.

Closed loop: where a reply ends, the connection's next request begins, so a gateway that slows down is asked less.
Open loop: each request has a time at which it is due, whatever became of those before, and its latency counts from
then, also while it waits for a connection (no coordinated omission).
"""

import select
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from bench.harness.http1 import ReplyReader

_SILENCE_SECONDS: Final = 30.0
_READ_BYTES: Final = 1 << 16
_OK: Final = 200
_LEAD_SECONDS: Final = 0.001
_READABLE: Final = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR


class WrongReplyError(Exception):
    """The gateway has not answered as it must; says how."""


@dataclass
class Run:
    """What one run of the client came to.

    Attributes:
        took: seconds of each request, from when it was begun or, in an open loop, due.
        late: seconds by which each was begun after it was due; empty for a closed loop.
        answered: requests in all, with those that `took` leaves out.
        seconds: from the first request's beginning to the last reply; no less than an open loop was to last.
    """

    took: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    answered: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Replies per second."""
        return self.answered / self.seconds


class _Connection:
    __slots__ = ("_epoll", "_reader", "_socket", "_unsent", "begun", "number")

    def __init__(self, port: int, epoll: select.epoll, seconds: float) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self.number = self._socket.fileno()
        self._epoll = epoll
        epoll.register(self.number, select.EPOLLIN)
        self._reader = ReplyReader()
        self._unsent = memoryview(b"")
        self.begun = 0.0

    def close(self) -> None:
        self._socket.close()

    def begin(self, octets: memoryview, begun: float) -> None:
        self.begun = begun
        self._unsent = octets
        if not self._send():
            self._epoll.modify(self.number, select.EPOLLIN | select.EPOLLOUT)

    def go_on(self) -> None:
        """Send more of a request that has not gone out in one piece."""
        if self._send():
            self._epoll.modify(self.number, select.EPOLLIN)

    def _send(self) -> bool:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return False
        except OSError as error:
            raise WrongReplyError(f"a connection broke while a request was sent: {error}") from error
        return True

    def ended(self, expected: bytes) -> bool:
        """Read, and return whether the reply has ended as it must."""
        try:
            received = self._socket.recv(_READ_BYTES)
            found = self._reader.feed(received) if received else []
        except OSError as error:
            raise WrongReplyError(f"a connection broke: {error}") from error
        if not received:
            raise WrongReplyError(f"the gateway has closed a connection{' in mid-reply' * self._reader.begun}")
        if not found:
            return False
        (reply,) = found
        if reply.status != _OK:
            raise WrongReplyError(f"answered by {reply.status} {reply.body[:500]!r}")
        if reply.body != expected:
            raise WrongReplyError(f"answered by {reply.body[:100]!r} instead of {expected!r}, with {reply.headers}")
        return True


class Client:
    """Connections to a gateway; a context, that closes them.

    Args:
        port: of the gateway, on loopback.
        connections: how many.
        silence: seconds without a reply that the gateway is given.
    """

    def __init__(self, port: int, connections: int, silence: float = _SILENCE_SECONDS) -> None:
        self._silence = silence
        self._epoll = select.epoll()
        each = (_Connection(port, self._epoll, silence) for _ in range(connections))
        self._connections = {connection.number: connection for connection in each}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; what is under way is given up."""
        self._epoll.close()
        for each in self._connections.values():
            each.close()

    def closed(self, octets: bytes, expected: bytes, seconds: float) -> Run:
        """Keep a request under way on each connection for so long, then await the last replies.

        Each connection's first request begins on a gateway that has nothing to do, or less than it will have: its
        latency is none of a closed loop's, and is left out where there is another.

        Args:
            octets: of a request.
            expected: the right reply's body.
            seconds: within which requests are begun; one on each connection at least.

        Raises:
            WrongReplyError: a reply is not what it must be, or none comes.
        """
        run, clock, sent = Run(), time.perf_counter, memoryview(octets)
        begun = clock()
        end = begun + seconds
        first: list[float] = []
        new = set(self._connections)
        under_way = len(self._connections)
        for each in self._connections.values():
            each.begin(sent, clock())
        while under_way:
            for each in self._answered(expected):
                now = clock()
                if each.number in new:
                    new.remove(each.number)
                    first.append(now - each.begun)
                else:
                    run.took.append(now - each.begun)
                if now < end:
                    each.begin(sent, now)
                else:
                    under_way -= 1
        run.seconds = clock() - begun
        run.answered = len(first) + len(run.took)
        run.took = run.took or first
        return run

    def open(self, octets: bytes, expected: bytes, rate: float, seconds: float) -> Run:
        """Send requests at a fixed rate for so long, then await the last replies; see `closed`.

        A request that finds every connection taken is sent on the next that is free.
        """
        run, clock, sent = Run(), time.perf_counter, memoryview(octets)
        begun = clock() + _LEAD_SECONDS
        due = [begun + index / rate for index in range(round(rate * seconds))]
        idle = list(self._connections.values())
        while len(run.took) < len(due):
            now = clock()
            while idle and len(run.late) < len(due) and due[len(run.late)] <= now:
                then = due[len(run.late)]
                run.late.append(now - then)
                idle.pop().begin(sent, then)
                now = clock()
            waits_for_time = idle and len(run.late) < len(due)
            for each in self._answered(expected, max(0.0, due[len(run.late)] - now) if waits_for_time else None):
                run.took.append(clock() - each.begun)
                idle.append(each)
        run.seconds = max(clock() - begun, len(due) / rate)
        run.answered = len(due)
        return run

    def _answered(self, expected: bytes, seconds: float | None = None) -> Iterator[_Connection]:
        """Await events, for `seconds` or else until the gateway counts as silent; give those whose reply has ended."""
        if seconds is not None:
            # An epoll object waits for whole milliseconds, select for the time as it is (descriptors below 1,024).
            select.select([self._epoll], [], [], seconds)
        ready = self._epoll.poll(self._silence if seconds is None else 0)
        if not ready and seconds is None:
            raise WrongReplyError(f"no reply within {self._silence:g} s")
        for number, event in ready:
            each = self._connections[number]
            if event & select.EPOLLOUT:
                each.go_on()
            if event & _READABLE and each.ended(expected):
                yield each


def request(fields: Mapping[str, str], body: bytes) -> bytes:
    """Return a request's octets.

    Args:
        fields: its header fields, with the pseudo-header fields of HTTP/2; content-length is added.
        body: of it.
    """
    plain = {name: value for name, value in fields.items() if not name.startswith(":")}
    plain |= {"host": fields[":authority"], "content-length": str(len(body))}
    lines = [f"{fields[':method']} {fields[':path']} HTTP/1.1", *(f"{name}: {value}" for name, value in plain.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
