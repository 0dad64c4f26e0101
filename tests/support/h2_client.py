"""A blocking HTTP/2 client on python-hyper/h2: frames exactly as a test orders them, trailers too."""

import socket
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events

TIMEOUT_SECONDS = 90.0


@dataclass
class Response:
    """What came back on one stream."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    reset: int | None = None
    ended: bool = False

    def header(self, name: str) -> str | None:
        """Return the first field called `name`."""
        return next((value for key, value in self.headers if key == name), None)


class H2Client:
    """One connection with prior knowledge."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._h2.initiate_connection()
        self.responses: dict[int, Response] = {}
        self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()

    def request(
        self,
        method: str,
        path: str,
        headers: list[tuple[str, str]] | None = None,
        body: bytes | None = None,
        trailers: list[tuple[str, str]] | None = None,
        *,
        empty_data: bool = False,
    ) -> Response:
        """Send one whole request and await its response.

        Args:
            body: DATA; None sends none.
            trailers: end the stream by these instead of END_STREAM on DATA.
            empty_data: with no body, end the stream by an empty DATA frame instead of on HEADERS.
        """
        ends_at_headers = body is None and trailers is None and not empty_data
        stream = self.start(method, path, headers, end_stream=ends_at_headers)
        if body is not None or empty_data:
            self.send(stream, body or b"", end_stream=trailers is None)
        if trailers is not None:
            self.send_trailers(stream, trailers)
        return self.wait(stream)

    def start(
        self, method: str, path: str, headers: list[tuple[str, str]] | None = None, *, end_stream: bool = False
    ) -> int:
        """Send HEADERS and return the stream's id."""
        stream = self._h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", "gateway.test"), (":path", path)]
        self.responses[stream] = Response()
        self._h2.send_headers(stream, [*pseudo, *(headers or [])], end_stream=end_stream)
        self._flush()
        return stream

    def send(self, stream: int, octets: bytes, *, end_stream: bool = False) -> None:
        """Send DATA, as the windows allow; gives up silently once the stream is reset or answered."""
        view = memoryview(octets)
        while True:
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if room == 0 and len(view):
                self._receive()
                if self._over(stream):
                    return
                continue
            last = end_stream and len(view) <= room
            self._h2.send_data(stream, bytes(view[:room]), end_stream=last)
            view = view[room:]
            self._flush()
            if not len(view):
                return

    def send_trailers(self, stream: int, trailers: list[tuple[str, str]]) -> None:
        """End the request with trailers."""
        self._h2.send_headers(stream, trailers, end_stream=True)
        self._flush()

    def reset(self, stream: int) -> None:
        """Cancel the request."""
        self._h2.reset_stream(stream, error_code=8)
        self._flush()

    def wait(self, stream: int) -> Response:
        """Await the end of the stream's response."""
        while not self._over(stream):
            self._receive()
        return self.responses[stream]

    def wait_headers(self, stream: int) -> Response:
        """Await the response's header section."""
        while not self.responses[stream].status and not self._over(stream):
            self._receive()
        return self.responses[stream]

    def wait_body(self, stream: int, size: int) -> None:
        """Await `size` octets of the response's body."""
        while len(self.responses[stream].body) < size and not self._over(stream):
            self._receive()

    def wait_reset(self, stream: int) -> int:
        """Await the stream's reset, after its response or instead of it, and return the error code."""
        while (code := self.responses[stream].reset) is None:
            self._receive()
        return code

    def _over(self, stream: int) -> bool:
        response = self.responses[stream]
        return response.ended or response.reset is not None

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the gateway closed the connection")
        for event in self._h2.receive_data(data):
            self._take(event)
        self._flush()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived(stream_id=stream, headers=headers):
                self.responses[stream].headers = list(headers)
                self.responses[stream].status = int(dict(headers)[":status"])
            case h2.events.DataReceived(stream_id=stream, data=data, flow_controlled_length=length):
                self.responses[stream].body += data
                self._h2.acknowledge_received_data(length, stream)
            case h2.events.TrailersReceived(stream_id=stream, headers=headers):
                self.responses[stream].trailers = list(headers)
            case h2.events.StreamEnded(stream_id=stream):
                self.responses[stream].ended = True
            case h2.events.StreamReset(stream_id=stream, error_code=code):
                self.responses[stream].reset = int(code)
            case _:
                pass

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())
