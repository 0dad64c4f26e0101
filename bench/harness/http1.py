"""HTTP/1.1 as a client: requests are exactly what a caller writes, odd headers included; replies are read by llhttp.

`exchange` and `request` send one request on a connection of its own and block. The loads of `http1_load` and
`steady_load` read by the same `ReplyReader`.
"""

import contextlib
import socket
from dataclasses import dataclass, field
from typing import Final

import httptools

TIMEOUT_SECONDS: Final = 90.0

_READ_BYTES: Final = 1 << 16
_SWITCHING: Final = 101


@dataclass(slots=True)
class Reply:
    """A response, its header names in lower case; of a repeated one the last value."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class ReplyReader:
    """Reads responses as they come on a connection; interim ones (1xx) are left out, but for 101.

    Attributes:
        begun: part of a response has come.
        rest: octets behind a 101, which are not HTTP any more.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._found: list[Reply] = []
        self._body: list[bytes] = []
        self._reply = Reply()
        self.begun = False
        self.rest = b""

    def feed(self, octets: bytes) -> list[Reply]:
        """Take octets; return the responses that they complete.

        Raises:
            ConnectionError: they are no HTTP/1.1.
        """
        self.begun = True
        try:
            self._parser.feed_data(octets)
        except httptools.HttpParserUpgrade as upgrade:
            self.rest = octets[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            raise ConnectionError(f"this is no HTTP/1.1: {octets[:100]!r} ({error})") from error
        found, self._found = self._found, []
        return found

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field (called by the parser, as all below)."""
        self._reply.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body, out of its chunks."""
        self._body.append(piece)

    def on_message_complete(self) -> None:
        """Count the response as one."""
        reply, self._reply = self._reply, Reply()
        reply.status = self._parser.get_status_code()
        reply.body = b"".join(self._body)
        self._body.clear()
        if reply.status >= 200 or reply.status == _SWITCHING:
            self._found.append(reply)
            self.begun = False


def head(method: str, path: str, headers: list[tuple[str, str]]) -> bytes:
    """Return a request's first line and header section."""
    host = [] if any(key == "host" for key, _ in headers) else ["host: gateway.test"]
    lines = [f"{method} {path} HTTP/1.1", *host, *(f"{key}: {value}" for key, value in headers)]
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n"


def post(path: str, body: bytes, content_type: str = "application/json", **headers: str) -> bytes:
    """Return a POST with its body; `headers` are fields with _ for -."""
    fields = [("content-type", content_type), ("content-length", str(len(body)))]
    return head("POST", path, fields + [(name.replace("_", "-"), value) for name, value in headers.items()]) + body


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    """Return the pieces in chunked coding, with its end."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


def request(
    port: int, method: str, path: str, headers: list[tuple[str, str]] | None = None, body: bytes | None = None
) -> Reply:
    """Send one request with a content-length and return its response."""
    fields = [*(headers or [])]
    if body is not None:
        fields.append(("content-length", str(len(body))))
    return exchange(port, head(method, path, fields) + (body or b""))


def exchange(port: int, octets: bytes) -> Reply:
    """Send octets on a new connection and read one response."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(octets)  # if refused in mid-upload, the response has been sent all the same
        return read(connection)


def read(connection: socket.socket) -> Reply:
    """Read one response; what follows it in the same read is lost.

    Raises:
        ConnectionError: the connection ended first.
    """
    reader = ReplyReader()
    while octets := connection.recv(_READ_BYTES):
        if found := reader.feed(octets):
            return found[0]
    raise ConnectionError(f"the gateway closed the connection {'in mid-' if reader.begun else 'without a '}response")
