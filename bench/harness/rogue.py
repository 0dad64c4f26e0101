"""Peers that make a router hold as much for them as it lets them: each in a way of its own.

Every Peer connects to a port, sends what it can, and returns the connections, which it keeps open. Nothing of what they
send is ever complete, or what it brings about is never read.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Final

from bbr.exchange.asker import MAX_CONTEXT_BYTES
from bbr.exchange.policy import BodyMode
from bbr.pb.ext_proc_pb2 import AttributesEntry, Metadata, ProcessingRequest, Struct, Value
from bench.harness import messages
from bench.harness.grpc_client import PROCESS, framed
from bench.harness.h2_frames import (
    INITIAL_WINDOW_SIZE,
    PREFACE,
    SETTINGS_ACK,
    block,
    cut,
    data,
    headers,
    literal,
    settings,
    window_update,
)
from bench.harness.rpc_client import fields

_MOST: Final = 2**31 - 1
_CALL: Final = block(fields(path=PROCESS))
_HEAD: Final = framed(messages.request_headers())
_FRAME: Final = 16_000
# Of a body that is not read, and passes as it comes.
_PASSING: Final = framed(
    messages.request_headers(
        [(":method", "POST"), (":path", "/"), ("content-type", "application/octet-stream")],
        mode=BodyMode.FULL_DUPLEX_STREAMED,
    )
)

# Of attributes in one message, as once held the event loop for a quarter of a second.
CONTEXT_BYTES: Final = 7_800_000

Connections = list[socket.socket]
Peer = Callable[[int], Connections]


def connect(port: int, *, window: int = _MOST, reads: bool = True, preface: bool = True) -> socket.socket:
    """Open a connection to a router; what it says is read by a thread, or never."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60.0)
    if reads:
        threading.Thread(target=_read, args=(connection,), daemon=True).start()
    if preface:
        _send(connection, _opening(window))
    return connection


def _opening(window: int) -> bytes:
    return PREFACE + settings((INITIAL_WINDOW_SIZE, window)) + SETTINGS_ACK + window_update(0, _MOST - 65_535)


_OPENING: Final = _opening(_MOST)


def _read(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(1 << 18):
            pass


def _send(connection: socket.socket, octets: bytes) -> bool:
    """Send all of it; False if the router wants no more."""
    try:
        connection.sendall(octets)
    except OSError:
        return False
    return True


def _each(connections: Connections, pieces: Callable[[], Iterator[bytes]]) -> Connections:
    for connection in connections:
        all(_send(connection, piece) for piece in pieces())
    return connections


def first_messages(port: int) -> Connections:
    """The first message of each of 16 streams, which says that it has 120 MB."""

    def pieces() -> Iterator[bytes]:
        streams = range(1, 33, 2)
        for stream_id in streams:
            yield headers(stream_id, _CALL) + data(stream_id, struct.pack(">BI", 0, 120 << 20))
        for _ in range((40 << 20) // _FRAME):
            yield b"".join(data(stream_id, bytes(_FRAME)) for stream_id in streams)

    return _each([connect(port)], pieces)


def shut_windows(port: int) -> Connections:
    """Bodies that are passed on as they come, to 20 connections that give no credit for what comes back."""
    body = framed(messages.request_body(bytes(60_000))) * 15

    def pieces() -> Iterator[bytes]:
        for stream_id in range(1, 81, 2):
            yield headers(stream_id, _CALL) + b"".join(data(stream_id, each) for each in cut(_PASSING + body, _FRAME))

    return _each([connect(port, window=0) for _ in range(20)], pieces)


def never_reading(port: int) -> Connections:
    """The same to 20 connections that give all the credit there is, and do not read."""
    body = framed(messages.request_body(bytes(60_000))) * 15

    def pieces() -> Iterator[bytes]:
        for stream_id in range(1, 41, 2):
            yield headers(stream_id, _CALL) + b"".join(data(stream_id, each) for each in cut(_PASSING + body, _FRAME))

    connections = [connect(port, reads=False) for _ in range(20)]
    for connection in connections:
        connection.settimeout(1.0)
    return _each(connections, pieces)


def open_calls(port: int) -> Connections:
    """100,000 calls that have said what request they are for, and no more."""

    def pieces() -> Iterator[bytes]:
        for first in range(1, 1001, 100):
            ids = range(first, first + 100, 2)
            yield b"".join(headers(stream_id, _CALL) + data(stream_id, _HEAD) for stream_id in ids)

    return _each([connect(port) for _ in range(200)], pieces)


def long_header_sections(port: int) -> Connections:
    """A first message of 300 KB that holds as many header fields as fit, in each call."""
    many = framed(messages.request_headers([("", "")] * 60_000))

    def pieces() -> Iterator[bytes]:
        for stream_id in range(1, 201, 2):
            yield headers(stream_id, _CALL) + b"".join(data(stream_id, each) for each in cut(many, _FRAME))

    return _each([connect(port) for _ in range(4)], pieces)


def fresh_fields(port: int) -> Connections:
    """Header fields that are never the same, so that as many as may are kept decoded, on 300 connections."""

    def pieces() -> Iterator[bytes]:
        for stream_id in range(1, 801, 2):
            fresh = b"".join(literal(b"x-%d" % place, b"%08d" % stream_id * 12) for place in range(5))
            yield headers(stream_id, _CALL + fresh)

    return _each([connect(port) for _ in range(300)], pieces)


def half_frames(port: int) -> Connections:
    """A frame that lacks its last octet, on 4,000 connections."""
    return _each([connect(port, reads=False) for _ in range(4000)], lambda: iter([data(1, bytes(16_384))[:-1]]))


def whole_messages(port: int) -> Connections:
    """Bodies of 10 to 120 MB, each in one message, of a gateway that buffers them; all but the last lack an octet."""
    head = framed(messages.request_headers(mode=BodyMode.BUFFERED))

    def pieces() -> Iterator[bytes]:
        for place, megabytes in enumerate((10, 20, 30, 40, 50, 60, 120, 25, 15, 5)):
            stream_id = 2 * place + 1
            body = b'{"model": "m", "prompt": "%s"}' % (b"x" * (megabytes << 20))
            octets = head + framed(messages.request_body(body, end_of_stream=True))
            for each in cut(octets if place == 9 else octets[:-1], _FRAME):
                yield data(stream_id, each)

    def begun() -> Iterator[bytes]:
        yield b"".join(headers(2 * place + 1, _CALL) for place in range(10))
        yield from pieces()

    return _each([connect(port)], begun)


def large_messages(port: int) -> Connections:
    """The same one after another, and complete."""
    head = framed(messages.request_headers(mode=BodyMode.BUFFERED))

    def pieces() -> Iterator[bytes]:
        for place, megabytes in enumerate((10, 20, 25, 30, 35, 40, 50, 60)):
            stream_id = 2 * place + 1
            body = b'{"model": "m", "prompt": "%s"}' % (b"x" * (megabytes << 20))
            octets = head + framed(messages.request_body(body, end_of_stream=True))
            yield headers(stream_id, _CALL)
            for each in cut(octets, _FRAME):
                yield data(stream_id, each)

    return _each([connect(port)], pieces)


def idle_connections(port: int) -> Connections:
    """Opened and silent ones."""
    return [connect(port, reads=False) for _ in range(9000)]


def long_contexts(port: int) -> Connections:
    """First messages full of attributes or metadata that say nothing, in as many fields as fit, of calls that go on.

    Most are as long as may still be decoded, and the last ones far beyond what a gateway sends.
    """
    nothing = ProcessingRequest(attributes=[b""]).SerializeToString()
    entry = AttributesEntry(value=Struct(fields={"": Value()})).SerializeToString()
    noted = Metadata(filter_metadata={"": Struct()}).SerializeToString()
    decoded = [
        nothing * (120_000 // len(nothing)),
        ProcessingRequest(attributes=[entry * (MAX_CONTEXT_BYTES // len(entry))]).SerializeToString(),
        ProcessingRequest(metadata_context=noted * (MAX_CONTEXT_BYTES // len(noted))).SerializeToString(),
    ]
    contexts = [*decoded * 120, *[nothing * (CONTEXT_BYTES // len(nothing))] * 4]

    def pieces() -> Iterator[bytes]:
        for place, context in enumerate(contexts):
            stream_id = 2 * place + 1
            octets = framed(messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED) + context)
            yield headers(stream_id, _CALL)
            for each in cut(octets, _FRAME):
                yield data(stream_id, each)

    return _each([connect(port)], pieces)


def tiny_data(port: int) -> Connections:
    """Messages that come in DATA of 8 octets, and are never complete."""

    def pieces() -> Iterator[bytes]:
        streams = range(1, 41, 2)
        for stream_id in streams:
            yield headers(stream_id, _CALL) + data(stream_id, struct.pack(">BI", 0, 1 << 20))
        for _ in range(40):
            for stream_id in streams:
                yield data(stream_id, bytes(8)) * 1000

    return _each([connect(port) for _ in range(3)], pieces)


def tiny_messages(port: int) -> Connections:
    """Bodies that come in messages of an octet, and never end."""
    piece = framed(messages.request_body(b" "))

    def pieces() -> Iterator[bytes]:
        for stream_id in range(1, 101, 2):
            octets = _HEAD + piece * 4000
            yield headers(stream_id, _CALL) + b"".join(data(stream_id, each) for each in cut(octets, _FRAME))

    return _each([connect(port) for _ in range(2)], pieces)


def waiting_messages(port: int) -> Connections:
    """On each of 2,000 connections, and at once, more messages than a turn has time for."""
    octets = headers(1, _CALL) + data(1, (_HEAD + framed(messages.request_body(b" ")) * 3000)[:16_000])
    return _each([connect(port, reads=False) for _ in range(2000)], lambda: iter([octets]))


def many_fields(port: int) -> Connections:
    """100,000 calls, each with as many header fields of its own as fit below what counts as many."""
    few = framed(messages.request_headers([(f"{place}", "") for place in range(64)]))

    def pieces() -> Iterator[bytes]:
        for stream_id in range(1, 1001, 2):
            fresh = b"".join(literal(b"%d" % place, b"%d" % stream_id) for place in range(8))
            yield headers(stream_id, _CALL + fresh) + data(stream_id, few)

    return _each([connect(port) for _ in range(200)], pieces)


def refused_streams(port: int) -> Connections:
    """Streams that are answered before they end, so that we reset them, and remember their ids, on 600 connections."""
    unknown = block(fields(path="/nowhere"))
    octets = b"".join(headers(stream_id, unknown) for stream_id in range(1, 4001, 2))
    return _each([connect(port) for _ in range(600)], lambda: iter([octets]))


def zstd_windows(port: int) -> Connections:
    """4,000 bodies of 14 bytes of zstd, whose decoders take a window of 256 KiB each and fill some of it."""
    head = [(":method", "POST"), (":path", "/"), ("content-type", "application/json"), ("content-encoding", "zstd")]
    # A frame without a checksum or a length, and two blocks that repeat a blank (RFC 8878, section 3.1.1).
    body = bytes.fromhex("28b52ffd0040") + b"\x02\x00\x10 " * 2
    octets = framed(messages.request_headers(head, mode=BodyMode.FULL_DUPLEX_STREAMED))
    octets += framed(messages.request_body(body))

    def pieces() -> Iterator[bytes]:
        for stream_id in range(1, 801, 2):
            yield headers(stream_id, _CALL) + data(stream_id, octets)

    return _each([connect(port) for _ in range(10)], pieces)


def routed_and_stuck(port: int) -> Connections:
    """Bodies that are routed early and on their way, to peers that give no credit for what comes back."""
    head = framed(messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED))
    body = framed(messages.request_body(b'{"model": "m", "prompt": "' + b"x" * 60_000))
    more = framed(messages.request_body(b"x" * 60_000)) * 15

    def pieces() -> Iterator[bytes]:
        for stream_id in range(1, 81, 2):
            octets = head + body + more
            yield headers(stream_id, _CALL) + b"".join(data(stream_id, each) for each in cut(octets, _FRAME))

    return _each([connect(port, window=0) for _ in range(10)], pieces)


def fresh_models(port: int) -> Connections:
    """20,000 models that nobody knows, of 250 octets each."""

    def pieces() -> Iterator[bytes]:
        for stream_id in range(1, 40_001, 2):
            body = b'{"model": "%0250d"}' % stream_id
            octets = _HEAD + framed(messages.request_body(body, end_of_stream=True))
            yield headers(stream_id, _CALL) + data(stream_id, octets, end=True)

    return _each([connect(port)], pieces)


def tls_hellos(port: int) -> Connections:
    """The beginning of a ClientHello that says that it has 128 KiB, on 3,000 connections."""
    hello = b"\x01" + (130_000).to_bytes(3, "big") + b"\x03\x03" + bytes(33)
    record = b"\x16\x03\x01" + struct.pack(">H", _FRAME) + hello.ljust(_FRAME, b"\0")
    connections = [socket.create_connection(("127.0.0.1", port), timeout=60.0) for _ in range(3000)]
    return _each(connections, lambda: iter([record]))


def tls_idle_connections(port: int) -> Connections:
    """1,500 that have shaken hands, sent a long record, and got a long answer."""
    head = framed(messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED))
    body = b'{"model": "m", "prompt": "%s"}' % (b"x" * 60_000)
    octets = head + framed(messages.request_body(body, end_of_stream=True))
    sent = headers(1, _CALL) + b"".join(data(1, each) for each in cut(octets, _FRAME))
    return _each(
        [_shake_hands(connect(port, reads=False, preface=False)) for _ in range(1500)], lambda: iter([_OPENING + sent])
    )


def tls_never_reading(port: int) -> Connections:
    """As `never_reading`."""
    body = framed(messages.request_body(bytes(60_000))) * 15

    def pieces() -> Iterator[bytes]:
        for stream_id in range(1, 41, 2):
            yield headers(stream_id, _CALL) + b"".join(data(stream_id, each) for each in cut(_PASSING + body, _FRAME))

    connections = [_shake_hands(connect(port, reads=False, preface=False)) for _ in range(20)]
    for connection in connections:
        connection.settimeout(1.0)
        _send(connection, _OPENING)
    return _each(connections, pieces)


def _shake_hands(connection: socket.socket) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(connection)


def idle_health_connections(port: int) -> Connections:
    """300 that say nothing at all, to a health port."""
    return [socket.create_connection(("127.0.0.1", port), timeout=60.0) for _ in range(300)]


def unread_pages(port: int) -> Connections:
    """80 that ask an admin port for its pages again and again, and read none of them."""
    pages = (b"/", b"/metrics", b"/help", b"/status.json")
    long = b"x" * 3000
    asked = b"".join(b"GET %s HTTP/1.1\r\nhost: x\r\nx-long: %s\r\n\r\n" % (page, long) for page in pages) * 100
    connections = []
    for _ in range(80):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.05)
        connection.connect(("127.0.0.1", port))
        connections.append(connection)
    return _each(connections, lambda: iter([asked]))


def close(connections: Connections) -> None:
    """Close them, with a reset."""
    for each in connections:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        each.close()
