"""Raw HTTP/1.1 for tests: what is sent is exactly what a test wrote, repeated and odd headers included."""

import contextlib
import socket
from dataclasses import dataclass, field

TIMEOUT_SECONDS = 20.0


@dataclass
class Reply:
    """A response, its header names in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def head(method: str, path: str, headers: list[tuple[str, str]]) -> bytes:
    """Return a request's first line and header section."""
    lines = [f"{method} {path} HTTP/1.1", "host: gateway.test", *(f"{key}: {value}" for key, value in headers)]
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n"


def request(
    port: int, method: str, path: str, headers: list[tuple[str, str]] | None = None, body: bytes | None = None
) -> Reply:
    """Send one request with a content-length and return its response."""
    fields = [*(headers or [])]
    if body is not None:
        fields.append(("content-length", str(len(body))))
    return exchange(port, head(method, path, fields) + (body or b""))


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    """Return the pieces in chunked coding, with its end."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


def exchange(port: int, octets: bytes) -> Reply:
    """Send octets on a new connection and read one response."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(octets)  # if refused in mid-upload, the response has been sent all the same
        return read(connection)


def read(connection: socket.socket) -> Reply:
    """Read one response."""
    with connection.makefile("rb") as stream:
        status_line = stream.readline()
        if not status_line:
            raise ConnectionError("the gateway closed the connection without a response")
        headers: dict[str, str] = {}
        while line := stream.readline().rstrip(b"\r\n"):
            key, _, value = line.decode("latin-1").partition(":")
            headers[key.lower()] = value.strip()
        reply = Reply(int(status_line.split()[1]), headers)
        if headers.get("transfer-encoding") == "chunked":
            while size := int(stream.readline(), 16):
                reply.body += stream.read(size)
                stream.readline()
            while stream.readline().rstrip(b"\r\n"):
                pass
        elif reply.status != 101:
            reply.body = stream.read(int(headers.get("content-length", "0")))
        return reply
