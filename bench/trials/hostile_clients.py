"""What one client of the gateway does to keep the others out, over HTTP/1.1. The attacks of bench.trials.hostile.

Each function makes its octets, which takes a while, and returns what attacks: a generator that gives the statuses of
the answers that one dose has brought, over and over.
"""

import contextlib
import gzip
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench.harness import http1
from bench.harness.h2_frames import cut

COMPLETIONS: Final = "/v1/completions"
SHORT_BYTES: Final = 256 << 10  # what is read whole (STREAM_THRESHOLD_BYTES)
DRIP_SECONDS: Final = 1.0

_PATIENCE_SECONDS: Final = 20.0
_PIECE_BYTES: Final = 64 << 10
_PIECE_SECONDS: Final = 0.002
_HALF: Final = b'{"prompt": "' + b"y" * 300_000
_JSON: Final = ("content-type", "application/json")


class Target(NamedTuple):
    """Whom to attack: ports of the loopback interface, and files.

    Attributes:
        gateway: Envoy's.
        router: for ext_proc.
        health: of the router.
        admin: of the router.
        folder: with the model files that the router reads, and `authority.pem`, which signed its certificate.
    """

    gateway: int
    router: int
    health: int
    admin: int
    folder: str


Outcomes = Counter[str]
Run = Callable[[Target], Iterator[Outcomes]]


class _Connections:
    """Connections to the gateway, on each of which a request is sent and its answer read; good ones are kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[socket.socket] = []

    def ask(self, requests: Sequence[tuple[bytes, bytes]]) -> Outcomes:
        """Send the first part of all requests, then what is left of all, then read the answers; return how they end."""
        taken = [self._idle.pop() if self._idle else self._connect() for _ in requests]
        for part in (0, 1):
            for connection, request in zip(taken, requests, strict=True):
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(request[part])
        return Counter(self._answer(connection) for connection in taken)

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), _PATIENCE_SECONDS)

    def _answer(self, connection: socket.socket) -> str:
        try:
            reply = http1.read(connection)
        except OSError as error:  # TimeoutError is one
            connection.close()
            return type(error).__name__
        # What is refused in mid-upload leaves the rest of the upload behind.
        if reply.status == 200 and reply.headers.get("connection") != "close":
            self._idle.append(connection)
        else:
            connection.close()
        return str(reply.status)

    def close(self) -> None:
        """Close those that are kept."""
        for each in self._idle:
            each.close()


def _volleys(requests: Iterable[tuple[bytes, bytes]]) -> Run:
    """Return an attack whose dose is these requests, all at once."""
    sent = list(requests)

    def run(target: Target) -> Iterator[Outcomes]:
        connections = _Connections(target.gateway)
        try:
            while True:
                yield connections.ask(sent)
        finally:
            connections.close()

    return run


def _held(octets: Sequence[bytes], drip: bytes = b"", seconds: float = DRIP_SECONDS) -> Run:
    """Return an attack that keeps uploads open; one that is answered is begun anew.

    Args:
        octets: what comes of each at once.
        drip: what comes of it with each dose that follows.
        seconds: of a dose.
    """

    def run(target: Target) -> Iterator[Outcomes]:
        uploads: dict[int, socket.socket] = {}
        try:
            while True:
                for place, upload in enumerate(octets):
                    if place not in uploads:
                        uploads[place] = socket.create_connection(("127.0.0.1", target.gateway), _PATIENCE_SECONDS)
                        _send_slowly(uploads[place], upload)
                yield Counter(_answers(uploads))
                time.sleep(seconds)
                for each in uploads.values():
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        each.sendall(drip)
        finally:
            for each in uploads.values():
                each.close()

    return run


def _send_slowly(connection: socket.socket, octets: bytes) -> None:
    """Send some 30 MB a second: more in one go holds up Envoy itself."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for piece in cut(octets, _PIECE_BYTES):
            connection.sendall(piece)
            if len(piece) == _PIECE_BYTES:
                time.sleep(_PIECE_SECONDS)


def _answers(uploads: dict[int, socket.socket]) -> Iterator[str]:
    """Give the statuses of uploads that are answered, and take them out."""
    ready, _, _ = select.select(uploads.values(), [], [], 0.0)
    for place, each in list(uploads.items()):
        if each in ready:
            try:
                yield str(http1.read(each).status)
            except OSError as error:
                yield type(error).__name__
            uploads.pop(place).close()


def _upload(announced: int, octets: bytes, **fields: str) -> bytes:
    more = [(name.replace("_", "-"), value) for name, value in fields.items()]
    return http1.head("POST", COMPLETIONS, [_JSON, ("content-length", str(announced)), *more]) + octets


def announced(_folder: Path) -> Run:
    """A.1: 8 uploads that announce 64 MiB, send 300 KB of JSON without a model, and then an octet a second."""
    return _held([_upload(64 << 20, _HALF)] * 8, b"y")


def dripping(_folder: Path) -> Run:
    """A.1: the same with four octets a second, which must come to an end."""
    return _held([_upload(64 << 20, _HALF)] * 8, b"y", 0.25)


def decoders(_folder: Path) -> Run:
    """A.1: 262 requests in br whose 8 octets are all that comes."""
    return _held([_upload(1 << 20, b"\x1b\xff\xff\xf8\x2d\x00\x9e\x7b", content_encoding="br")] * 262)


def filling(_folder: Path) -> Run:
    """A.1: 8 uploads of which 6 MB come, and then an octet a second: more than the router may hold."""
    return _held([_upload(60 << 20, b'{"prompt": "' + b"y" * 6_000_000)] * 8, b"y")


def multipart(_folder: Path) -> Run:
    """A.2: a form of 32 parts, each with 8,000 blanks in its file's name."""
    part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="name%sx"\r\n\r\nx\r\n' % (b" " * 8000)
    body = part * 32 + b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nqwen\r\n--b--\r\n'
    return _volleys([(http1.post("/v1/audio/transcriptions", body, "multipart/form-data; boundary=b"), b"")])


def template(_folder: Path) -> Run:
    """A.2: a path that a template reads again from each of its 56,000 colons."""
    return _volleys([(http1.head("GET", f"/models/{':' * 56_000}/x", []), b"")])


def include_path(_folder: Path) -> Run:
    """A.2: a path of 56 KB of segments, any of which may be where a pattern begins to match."""
    return _volleys([(http1.head("GET", "/models/x" * 6_200, []), b"")])


def plain_paths(_folder: Path) -> Run:
    """A.0: 64 requests at once with nothing odd in them: what the gateway, the client and the attacker make of it."""
    return _volleys([(http1.head("GET", f"/v1/models/x{number}", []), b"") for number in range(64)])


def plain_bodies(_folder: Path) -> Run:
    """A.0: 64 bodies of 256 KiB of a prompt, whose last octets come together."""
    request = http1.post(COMPLETIONS, _filled(b'{"model":"qwen","prompt":"', b"x", b'"}'))
    return _volleys([(request[:-10], request[-10:])] * 64)


def odd_paths(_folder: Path) -> Run:
    """A.2: 64 paths of 1 KiB at once that can be read in many ways, against 32 templates and 64 patterns."""
    units = ("/models/%41;/..//.", "/%25252541/a1/", "/x3/a//x28/amodels", "/a/./b;c/%2e%2e/")
    paths = (f"/x{number}/{units[number % len(units)] * 60}" for number in range(64))
    return _volleys([(http1.head("GET", path[:1_000], []), b"") for path in paths])


def odd_keys(_folder: Path) -> Run:
    """A.3: 8 forms of 64 KiB whose keys must all be judged, and whose last octets come together."""
    body = b"&%d6453" * (64 * 1024 // 7) + b"&model=qwen"
    request = http1.post(COMPLETIONS, body, "application/x-www-form-urlencoded")
    return _volleys([(request[:-10], request[-10:])] * 8)


def content_types(_folder: Path) -> Run:
    """A.2: 16 requests at once whose Content-Type is 58 KB of commas."""
    request = http1.head("POST", COMPLETIONS, [("content-type", "," * 58_000), ("content-length", "2")])
    return _volleys([(request, b"{}")] * 16)


def long_fields(_folder: Path) -> Run:
    """A.2: other fields and paths that are looked at, each of 56 KB of what can be read in several ways."""
    types = (
        "multipart/form-data" + "; a=b" * 11_000,
        'application/json; charset="' + "\\x" * 28_000,
        "multipart/form-data; boundary=" + "-" * 56_000,
    )
    paths = (
        "/v1/realtime?" + "%6dode%6c&" * 5_600,
        "/v1/realtime?model=a" + "&model=a" * 7_000,
        "/%2e%2e/%252e" * 4_300,
        "/" * 56_000,
    )
    fields = [*(("content-type", each) for each in types), ("content-encoding", "gzip, " * 9_300)]
    requests = [http1.head("POST", COMPLETIONS, [field, ("content-length", "2")]) + b"{}" for field in fields]
    requests += [http1.head("GET", path, []) for path in paths]
    # As many names as Envoy takes, alike to those of routing headers.
    odd = [(f"x_gateway-{'model_' * 90}{number}", "x") for number in range(90)]
    requests.append(http1.head("GET", "/", odd))
    return _volleys([(request, b"") for request in requests])


def _filled(start: bytes, unit: bytes, end: bytes) -> bytes:
    """Return a body that is as long as one that is read whole may be."""
    return start + unit * ((SHORT_BYTES - len(start) - len(end)) // len(unit)) + end


def short_bodies(_folder: Path) -> Run:
    """A.3: 64 bodies of 256 KiB of small objects, whose last octets come together; the model is empty."""
    request = http1.post(COMPLETIONS, _filled(b'{"a":[{}', b",{}", b'],"\\u0061":1,"model":""}'))
    return _volleys([(request[:-10], request[-10:])] * 64)


def other_bodies(_folder: Path) -> Run:
    """A.3: 64 bodies of up to 256 KiB of other kinds, whose last octets come together."""
    part = b"--b\r\nContent-Disposition: form-data; name=%s\r\n\r\nx\r\n"
    form, json = "application/x-www-form-urlencoded", "application/json"
    kinds = (
        (_filled(b"", b"&a", b"&model=qwen"), form, ""),
        (_filled(b"", b"%6dode%6b&", b"model=qwen"), form, ""),
        (part % b"a" * 990 + part % b"model" + b"--b--\r\n", "multipart/form-data; boundary=b", ""),
        (_filled(b'{"a":[', b"[" * 400 + b"]" * 400 + b",", b'0],"model":"qwen"}'), json, ""),
        (_filled(b'{"a":"', b"\\u0061", b'","model":"qwen"}'), json, ""),
        (_filled(b"{", b'"\\u0061":1,', b'"model":"qwen"}'), json, ""),
        (gzip.compress(b"[" + b"{}," * 4_000_000), json, "gzip"),
        (gzip.compress(b"a=b&" * 1_000_000), form, "gzip"),
    )
    requests = []
    for body, content_type, encoding in kinds:
        request = http1.post(COMPLETIONS, body, content_type, **({"content_encoding": encoding} if encoding else {}))
        requests += [(request[:-10], request[-10:])] * 8
    return _volleys(requests)


def trailers(_folder: Path) -> Run:
    """A.4: a JSON body of 300 KB that is ended by trailers, of a gateway that buffers it."""
    body = b'{"prompt": "%s", "model": "qwen"}' % (b"x" * 300_000)
    request = http1.head("POST", COMPLETIONS, [_JSON, ("transfer-encoding", "chunked"), ("trailer", "x-checksum")])
    return _volleys([(request + http1.chunked(body, trailers=b"x-checksum: 1\r\n"), b"")] * 4)
