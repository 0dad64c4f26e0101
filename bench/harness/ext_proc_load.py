"""Load for a router that h2load can't make: each exchange has octets of its own, and every answer is compared.

A client of a few connections with a fixed number of streams in flight on each: where one ends, the next begins. It
keeps the server's flow-control windows and frame size. It shares no HTTP/2 with the router: frames are put together
here, field blocks are the hpack library's.
"""

import collections
import itertools
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import hpack

from bench.harness import workload
from bench.harness.grpc_client import framed
from bench.harness.h2_frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PING,
    PREFACE,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    frame,
    settings,
    window_update,
)

_HEADER: Final = struct.Struct(">IBI")
_SETTING: Final = struct.Struct(">HI")
_DEFAULT_WINDOW: Final = 65_535
_OUR_WINDOW: Final = 1 << 30
_READ_BYTES: Final = 1 << 18
_SILENCE_SECONDS: Final = 30.0
# Connections that a listening socket keeps until they are accepted; beyond them the kernel lets clients wait a second.
_BACKLOG: Final = 50


class LoadError(Exception):
    """The server has not answered as it must; says how."""


class Request(NamedTuple):
    """One exchange as it is sent: a field block, and the octets of the call in two parts (the second is shared)."""

    block: bytes
    head: bytes
    tail: bytes


@dataclass(frozen=True)
class Pool:
    """Exchanges to send, over and over.

    Attributes:
        first: the field block of a connection's first request, which shrinks the server's table to nothing.
        requests: the exchanges.
        sent: the messages of one of them, for whoever asks for the right answer.
    """

    first: bytes
    requests: Sequence[Request]
    sent: list[bytes]


def pool(size: int, traced: int = 0) -> Pool:
    """Return exchanges with bodies of `size` bytes: one, or `traced` different ones with a trace of their own each.

    The trace stands in the stream's HEADERS, Huffman-coded, and among the request headers of the first message.
    """
    sent = workload.exchange(size)
    tail = b"".join(map(framed, sent[1:]))
    made = list(workload.traces(traced)) if traced else [{}]
    first, blocks = workload.field_blocks(made)
    heads = (framed(workload.head(size, trace)) for trace in made)
    requests = [Request(block, head, tail) for block, head in zip(blocks, heads, strict=True)]
    return Pool(first, requests, sent)


@dataclass(slots=True)
class _Stream:
    window: int
    unsent: memoryview
    answer: list[bytes] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)


def _connect(port: int, context: ssl.SSLContext | None) -> socket.socket:
    connected = socket.create_connection(("127.0.0.1", port), _SILENCE_SECONDS)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        connected = context.wrap_socket(connected, server_hostname="127.0.0.1")
    connected.setblocking(False)
    return connected


class _Connection:
    """One connection; `more` gives the next request, or None when there is none to begin."""

    def __init__(
        self,
        connected: socket.socket,
        first: bytes,
        answer: bytes,
        more: Callable[[], Request | None],
        took: Callable[[float], None],
    ) -> None:
        self.socket = connected
        self.streams: dict[int, _Stream] = {}
        self.unsent = b""
        self.pings = 0
        self._first = first
        self._answer = answer
        self._more = more
        self._took = took
        self._out: list[bytes | memoryview] = [
            PREFACE,
            settings((HEADER_TABLE_SIZE, 0), (INITIAL_WINDOW_SIZE, _OUR_WINDOW)),
            window_update(0, _OUR_WINDOW - _DEFAULT_WINDOW),
        ]
        self._ids = itertools.count(1, 2)
        self._rest = b""
        self._received = 0
        self._window = self._initial_window = _DEFAULT_WINDOW
        self._frame_size = 1 << 14
        self._stuck: collections.OrderedDict[int, None] = collections.OrderedDict()
        self._decoder = hpack.Decoder()
        self._blocks: dict[bytes, dict[str, str]] = {}

    def begin(self, streams: int) -> None:
        """Begin so many exchanges, as far as there are any."""
        for _ in range(streams):
            request = self._more()
            if request is None:
                return
            stream_id = next(self._ids)
            block = request.block if stream_id > 1 else self._first
            octets = request.head + request.tail
            self._out.append(_HEADER.pack(len(block) << 8 | HEADERS, END_HEADERS, stream_id) + block)
            self.streams[stream_id] = _Stream(self._initial_window, memoryview(octets))
            self._send_data(stream_id)

    def hold(self, streams: int) -> None:
        """Open streams with the first message of an exchange, and leave them open."""
        for _ in range(streams):
            request = self._more()
            assert request is not None
            stream_id = next(self._ids)
            block = request.block if stream_id > 1 else self._first
            self._out.append(frame(HEADERS, END_HEADERS, stream_id, block) + frame(DATA, 0, stream_id, request.head))

    def ping(self) -> None:
        """Ask for a sign that all before has been received."""
        self._out.append(frame(PING, 0, 0, bytes(8)))
        self.pings += 1

    def _send_data(self, stream_id: int) -> None:
        """Send what the windows allow; the rest waits for the connection's window here, for the stream's anywhere."""
        stream = self.streams[stream_id]
        octets = stream.unsent
        while octets:
            size = min(len(octets), self._frame_size, stream.window, self._window)
            if size <= 0:
                break
            stream.window -= size
            self._window -= size
            flags = END_STREAM if size == len(octets) else 0
            self._out.append(_HEADER.pack(size << 8 | DATA, flags, stream_id))
            self._out.append(octets[:size])
            octets = octets[size:]
        stream.unsent = octets
        if octets and stream.window > 0:
            self._stuck[stream_id] = None

    def flush(self) -> bool:
        """Write; return whether all is written."""
        octets = b"".join((self.unsent, *self._out))
        self._out.clear()
        try:
            written = self.socket.send(octets) if octets else 0
        except (BlockingIOError, ssl.SSLWantWriteError):
            written = 0
        self.unsent = octets[written:]
        return not self.unsent

    def read(self) -> int:
        """Take what the server has sent, and go on with it; return how many exchanges have ended."""
        try:
            received = self.socket.recv(_READ_BYTES)
            while isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
                received += self.socket.recv(_READ_BYTES)  # what epoll does not see
        except (BlockingIOError, ssl.SSLWantReadError):
            return 0
        if not received:
            raise LoadError("the server has closed the connection")
        octets = self._rest + received if self._rest else received
        position, end = 0, len(octets)
        ended = 0
        while end - position >= 9:
            word, flags, stream_id = _HEADER.unpack_from(octets, position)
            after = position + 9 + (word >> 8)
            if after > end:
                break
            kind = word & 0xFF
            payload = octets[position + 9 : after]
            position = after
            if kind == DATA:
                self._received += len(payload)
                self.streams[stream_id].answer.append(payload)
                if flags & END_STREAM:
                    raise LoadError("a call has ended without a status")
            elif kind == HEADERS:
                ended += self._headers(stream_id, payload, bool(flags & END_STREAM))
            else:
                self._other(kind, flags, stream_id, payload)
        self._rest = octets[position:]
        if self._received > _OUR_WINDOW // 2:
            self._out.append(window_update(0, self._received))
            self._received = 0
        self.begin(ended)
        return ended

    def _headers(self, stream_id: int, block: bytes, ends: bool) -> bool:
        """Check a response's HEADERS or trailers; return whether the call has ended."""
        fields = self._blocks.get(block)
        if fields is None:
            fields = self._blocks[block] = {str(name): str(value) for name, value in self._decoder.decode(block)}
        if not ends:
            if fields.get(":status") != "200":
                raise LoadError(f"an answer begins with {fields}")
            return False
        if fields.get("grpc-status") != "0":
            raise LoadError(f"a call has ended with {fields}")
        stream = self.streams.pop(stream_id)
        self._took(time.perf_counter() - stream.begun)
        if not workload.same_answer(b"".join(stream.answer), self._answer):
            raise LoadError("an answer is not what it must be")
        return True

    def _other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            self._take_credit(stream_id, int.from_bytes(payload, "big"))
        elif kind == SETTINGS and not flags & ACK:
            for key, value in _SETTING.iter_unpack(payload):
                if key == INITIAL_WINDOW_SIZE:
                    for stream in self.streams.values():
                        stream.window += value - self._initial_window
                    self._initial_window = value
                elif key == MAX_FRAME_SIZE:
                    self._frame_size = value
            self._out.append(SETTINGS_ACK)
            for each in self.streams:
                self._send_data(each)
        elif kind == PING and flags & ACK:
            self.pings -= 1
        elif kind == PING:
            self._out.append(frame(PING, ACK, 0, payload))
        elif kind != SETTINGS:
            raise LoadError(f"{'GOAWAY' if kind == GOAWAY else f'a frame of type {kind}'} came: {payload!r}")

    def _take_credit(self, stream_id: int, increment: int) -> None:
        if stream_id:
            if stream_id in self.streams:
                self.streams[stream_id].window += increment
                self._send_data(stream_id)
            return
        self._window += increment
        while self._stuck and self._window > 0:
            waiting, _ = self._stuck.popitem(last=False)
            if waiting in self.streams:
                self._send_data(waiting)


class Load:
    """Connections to a router on a port of the loopback interface, with `streams` exchanges at a time on each.

    Args:
        exchanges: what to send.
        answer: the octets that each of them must be answered with.
        certificate: the router's, to speak TLS.

    Attributes:
        seconds: how long each exchange took, if it is a list.
    """

    def __init__(
        self,
        port: int,
        connections: int,
        streams: int,
        exchanges: Pool,
        answer: bytes,
        certificate: Path | None = None,
    ) -> None:
        self._requests = itertools.cycle(exchanges.requests)
        self._left = 0
        self.seconds: list[float] | None = None
        self.streams = streams
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        context = None
        if certificate is not None:
            context = ssl.create_default_context(cafile=certificate)
            context.set_alpn_protocols(["h2"])
        for number in range(1, connections + 1):
            connection = _Connection(_connect(port, context), exchanges.first, answer, self._next, self._took)
            self._connections[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket, select.EPOLLIN)
            connection.ping()
            connection.flush()
            if number % _BACKLOG == 0:
                self._await_pings()
        self._await_pings()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._epoll.close()
        for connection in self._connections.values():
            connection.socket.close()

    def run(self, count: int) -> float:
        """Do `count` exchanges and return how many there were per second.

        Raises:
            LoadError: an answer is wrong, or none comes for 30 s.
        """
        self._left = count
        begun = time.perf_counter()
        for number, connection in self._connections.items():
            connection.begin(self.streams)
            self._flush(number, connection)
        done = 0
        while done < count:
            done += self._step()
        return count / (time.perf_counter() - begun)

    def settle(self, hold: int = 0) -> None:
        """Await a sign on each connection that the router has received all; before that open `hold` streams on each.

        Such a stream has its first message and no more, and stays open until the connection is closed.

        Raises:
            LoadError: there is none for 30 s.
        """
        self._left = hold * len(self._connections)
        for number, connection in self._connections.items():
            connection.hold(hold)
            connection.ping()
            self._flush(number, connection)
        self._await_pings()

    def _await_pings(self) -> None:
        while any(connection.pings for connection in self._connections.values()):
            self._step()

    def _step(self) -> int:
        """Read and write what can be; return how many exchanges have ended."""
        ready = self._epoll.poll(_SILENCE_SECONDS)
        if not ready:
            raise LoadError(f"the server has been silent for {_SILENCE_SECONDS:g} s")
        done = 0
        for number, events in ready:
            connection = self._connections[number]
            if events & ~select.EPOLLOUT:
                done += connection.read()
            self._flush(number, connection)
        return done

    def _next(self) -> Request | None:
        if not self._left:
            return None
        self._left -= 1
        return next(self._requests)

    def _took(self, seconds: float) -> None:
        if self.seconds is not None:
            self.seconds.append(seconds)

    def _flush(self, number: int, connection: _Connection) -> None:
        waited = bool(connection.unsent)
        done = connection.flush()
        if waited == done:
            self._epoll.modify(number, select.EPOLLIN if done else select.EPOLLIN | select.EPOLLOUT)
