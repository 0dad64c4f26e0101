"""What a rogue peer of a port does to those of the others, and what hostile objects do. See bench.trials.hostile.

As in bench.trials.hostile_clients each function makes its octets and returns what attacks.
"""

import contextlib
import itertools
import os
import random
import select
import socket
import ssl
import string
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench.harness import rogue
from bench.harness.certificates import client_context
from bench.harness.h2_frames import (
    ACK,
    PING,
    PING_FRAME,
    PREFACE,
    REQUEST,
    SETTINGS_ACK,
    block,
    cut,
    frame,
    headers,
    settings,
    window_update,
)
from bench.harness.tls_records import APPLICATION_DATA, Handshake, Records
from bench.trials import sources
from bench.trials.hostile_clients import Outcomes, Run, Target

HUFFMAN_BYTES: Final = 5_600_000
KEY_UPDATES: Final = 20_000  # 540 KB
IDLE_CONNECTIONS: Final = 300
ADMIN_CONNECTIONS: Final = 1_700
BOMB_BYTES: Final = 266_000
MODELS: Final = "models"
AUTHORITY: Final = "authority.pem"

_OPENING: Final = PREFACE + settings() + SETTINGS_ACK + window_update(0, 1 << 30)
_LAST: Final = frame(PING, 0, 0, b"the last")
_PONG: Final = frame(PING, ACK, 0, b"the last")
_PATIENCE_SECONDS: Final = 20.0
_READ_BYTES: Final = 1 << 18


def _context(target: Target) -> ssl.SSLContext:
    return client_context(Path(target.folder, AUTHORITY).read_bytes(), "h2")


class _Peer:
    """A connection to the router, over TLS with a context."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _PATIENCE_SECONDS)
        self._handshake = Handshake(context) if context else None
        if self._handshake:
            while not self._handshake.step():
                self._socket.sendall(self._handshake.outgoing.read())
                self._handshake.incoming.write(self._socket.recv(_READ_BYTES))
            self._socket.sendall(self._handshake.outgoing.read())
        self._end = b""

    def records(self) -> Records:
        """Return what makes records by hand; nothing can be sent by `flood` without `sealed` then."""
        assert self._handshake is not None
        return self._handshake.records()

    def flood(self, octets: bytes, *, sealed: bool = False) -> str:
        """Send octets whose last frame is _LAST, and take what comes; return "answered" or "closed".

        Args:
            octets: to send.
            sealed: they are TLS records already.
        """
        if self._handshake and not sealed:
            self._handshake.tls.write(octets)
            octets = self._handshake.outgoing.read()
        unsent = memoryview(octets)
        self._socket.setblocking(False)
        with contextlib.suppress(ConnectionError):
            while True:
                wanted = [self._socket] if unsent else []
                ready, free, _ = select.select([self._socket], wanted, [], _PATIENCE_SECONDS)
                if not ready and not free:
                    return "silent"
                if ready:
                    received = self._socket.recv(_READ_BYTES)
                    if not received:
                        break
                    if self._ponged(received):
                        return "answered"
                if free:
                    unsent = unsent[self._socket.send(unsent[: 1 << 20]) :]
        return "closed"

    def _ponged(self, received: bytes) -> bool:
        if self._handshake:
            self._handshake.incoming.write(received)
            received = b""
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                while piece := self._handshake.tls.read(_READ_BYTES):
                    received += piece
        self._end += received
        found = _PONG in self._end
        self._end = self._end[-len(_PONG) :]
        return found

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def _huffman_blocks() -> bytes:
    """Return calls whose fields in Huffman code are never the same, and a PING."""
    rng = random.Random(17)
    # To encode takes long: some long values, each time with another field beside them.
    texts = ("".join(rng.choices(string.printable[:94], k=3000)) for _ in range(100))
    values = [block([("a", text)], huffman=True)[1:] for text in texts]
    found, size = [_OPENING], 0
    for stream_id in itertools.count(1, 2):
        fresh = block([*REQUEST, ("n", f"{stream_id:08}")], huffman=True)
        found.append(headers(stream_id, fresh + values[stream_id // 2 % len(values)], end=True))
        size += len(found[-1])
        if size >= HUFFMAN_BYTES:
            break
    return b"".join([*found, _LAST])


def fresh_fields(_folder: Path, *, tls: bool = False) -> Run:
    """C.1: 5.6 MB of HEADERS whose fields in Huffman code were never seen before, on one connection."""
    octets = _huffman_blocks()

    def run(target: Target) -> Iterator[Outcomes]:
        context = _context(target) if tls else None
        while True:
            with contextlib.closing(_Peer(target.router, context)) as peer:
                yield Counter([peer.flood(octets)])

    return run


def fresh_fields_in_tls(folder: Path) -> Run:
    """C.1: the same over TLS."""
    return fresh_fields(folder, tls=True)


def _records(make: Callable[[Records], bytes]) -> Run:
    """Return an attack whose dose is records on a connection of its own."""

    def run(target: Target) -> Iterator[Outcomes]:
        context = _context(target)
        while True:
            with contextlib.closing(_Peer(target.router, context)) as peer:
                records = peer.records()
                octets = records.record(APPLICATION_DATA, _OPENING) + make(records)
                yield Counter([peer.flood(octets + records.record(APPLICATION_DATA, _LAST), sealed=True)])

    return run


def key_updates(_folder: Path) -> Run:
    """C.2: 540 KB of KeyUpdates, each of which makes new keys."""
    return _records(lambda records: b"".join(records.key_update() for _ in range(KEY_UPDATES)))


def tiny_records(_folder: Path) -> Run:
    """C.2: 20,000 TLS records of one octet each, of PING frames."""
    pings = PING_FRAME * (KEY_UPDATES // len(PING_FRAME))
    return _records(lambda records: b"".join(records.record(APPLICATION_DATA, each) for each in cut(pings, 1)))


def _rogue(peer: rogue.Peer) -> Callable[[Path], Run]:
    """Return what makes an attack by one of bench.harness.rogue; what it holds is held for a second, and then anew."""

    def make(_folder: Path) -> Run:
        def run(target: Target) -> Iterator[Outcomes]:
            kept: rogue.Connections = []
            try:
                while True:
                    rogue.close(kept)
                    kept = peer(target.router)
                    time.sleep(1.0)
                    yield Counter()
            finally:
                rogue.close(kept)

        return run

    return make


first_messages = _rogue(rogue.first_messages)
shut_windows = _rogue(rogue.shut_windows)
long_contexts = _rogue(rogue.long_contexts)


def _idle(count: int, octets: bytes, port: Callable[[Target], int]) -> Run:
    """Return an attack that keeps so many connections open; a dose is half a second, with what was closed opened anew.

    Args:
        count: of connections.
        octets: what each sends, over and over.
        port: of the target.
    """

    def run(target: Target) -> Iterator[Outcomes]:
        kept: list[socket.socket] = []
        try:
            while True:
                kept = [each for each in kept if _is_open(each)]
                while len(kept) < count:
                    kept.append(socket.socket())
                    kept[-1].setblocking(False)
                    kept[-1].connect_ex(("127.0.0.1", port(target)))
                for each in kept:
                    with contextlib.suppress(OSError):  # it is not connected yet, or is closed
                        each.send(octets)
                yield Counter()
                time.sleep(0.5)
        finally:
            for each in kept:
                each.close()

    return run


def _is_open(connection: socket.socket) -> bool:
    """Take what has come; if that is the end, close it."""
    with contextlib.suppress(ConnectionError):
        try:
            if connection.recv(1 << 16):
                return True
        except BlockingIOError:
            return True
    connection.close()
    return False


def health_port(_folder: Path) -> Run:
    """C.4: 300 connections to the health port that say nothing."""
    return _idle(IDLE_CONNECTIONS, b"", lambda target: target.health)


def admin_port(_folder: Path) -> Run:
    """C.4: 1,700 connections to the admin port that begin a request."""
    return _idle(ADMIN_CONNECTIONS, b"GET /metrics HTTP/1.1\r\nhost: router\r\nx: ", lambda target: target.admin)


def _written(name: str) -> Callable[[Path], Run]:
    """Return what makes an attack that writes an object of bench.trials.sources; a dose is a write, and a second."""

    def make(folder: Path) -> Run:
        cluster = sources.Cluster(folder)

        def run(_target: Target) -> Iterator[Outcomes]:
            while True:
                cluster.write(name)
                time.sleep(1.0)
                yield Counter()

        return run

    return make


tag_directives = _written("%TAG directives")
flow_mapping = _written("a flow mapping")


def alias_bomb(_folder: Path) -> Run:
    """D.1: a model file of 266 KB, replaced every second, whose aliases give each of 5,000 models 14,000 adapters."""
    lines = ["models:", f"- {{name: m, adapters: &all [{', '.join(f'a{number}' for number in range(14_000))}]}}"]
    size = sum(map(len, lines))
    while size < BOMB_BYTES:
        lines.append(f"- {{name: m{len(lines)}, adapters: *all}}")
        size += len(lines[-1]) + 1
    text = "\n".join(lines)

    def run(target: Target) -> Iterator[Outcomes]:
        models = Path(target.folder, MODELS)
        number = 0
        try:
            while True:
                number += 1
                # The new file takes the place of the old at once, as a Kubernetes volume has it.
                Path(target.folder, "bomb").write_text(f"{text}\n# {number}\n")
                os.replace(Path(target.folder, "bomb"), models / "bomb.yaml")
                time.sleep(1.0)
                yield Counter()
        finally:
            (models / "bomb.yaml").unlink(missing_ok=True)

    return run
