"""A gRPC client on python-hyper/h2 that can break off as no library would: resets and closes at any point."""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Iterator
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.settings

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


def framed(message: bytes) -> bytes:
    """Return a message with its 5-octet prefix."""
    return struct.pack(">BI", 0, len(message)) + message


class Stream:
    """What came back on one stream: `headers` holds those of the trailers too."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.reset: int | None = None
        self.ended = False
        self._data = b""

    def take(self, event: h2.events.Event) -> None:
        """Note what an event of this stream says."""
        match event:
            case h2.events.ResponseReceived(headers=headers) | h2.events.TrailersReceived(headers=headers):
                self.headers |= dict(headers)
            case h2.events.DataReceived(data=data):
                self._data += data
            case h2.events.StreamReset(error_code=code):
                self.reset = int(code)
                self.ended = True
            case h2.events.StreamEnded():
                self.ended = True

    @property
    def messages(self) -> list[bytes]:
        """The complete messages received so far."""
        found, rest = [], self._data
        while len(rest) >= 5 and len(rest) >= 5 + (size := int.from_bytes(rest[1:5])):
            found.append(rest[5 : 5 + size])
            rest = rest[5 + size :]
        return found


class GrpcFrames:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._h2.initiate_connection()
        self.streams: dict[int, Stream] = {}
        self.closed = False
        self._rest = b""
        self.last_stream: int | None = None

    @property
    def port(self) -> int:
        """Our own port."""
        return int(self._writer.get_extra_info("sockname")[1])

    @classmethod
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None) -> Self:
        """Connect to a port of the loopback interface, by TLS to a server that calls itself localhost."""
        # A grpcio server never answers a close_notify.
        more = {"ssl": tls, "server_hostname": "localhost", "ssl_shutdown_timeout": 0.05} if tls else {}
        client = cls(*await asyncio.open_connection("127.0.0.1", port, **more))
        client.flush()
        return client

    def open_windows(self) -> None:
        """Give the server credit for 1 GiB on the connection and on each stream."""
        self._h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 30})
        self._h2.increment_flow_control_window(1 << 30)

    def call(self, path: str = PROCESS) -> int:
        """Open a stream and return its id; nothing is sent before `flush`, so that frames can share a packet."""
        stream = self._h2.get_next_available_stream_id()
        pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "router.test"), (":path", path)]
        self._h2.send_headers(stream, [*pseudo, ("content-type", "application/grpc"), ("te", "trailers")])
        self.streams[stream] = Stream()
        return stream

    def send(self, stream: int, octets: bytes, *, end_stream: bool = False) -> None:
        """Send DATA: a framed message, or only a part of one."""
        self._h2.send_data(stream, octets, end_stream=end_stream)

    def reset(self, stream: int, code: int) -> None:
        """Send RST_STREAM."""
        self._h2.reset_stream(stream, code)

    def flush(self) -> None:
        """Write what has been queued."""
        self._writer.write(self._h2.data_to_send())

    async def receive(self) -> None:
        """Take what the server sends next."""
        data = await self._reader.read(65536)
        self.closed = not data
        for event in self._events(data):
            if (stream := self.streams.get(getattr(event, "stream_id", 0) or 0)) is not None:
                stream.take(event)
        self.flush()

    def _events(self, data: bytes) -> Iterator[h2.events.Event]:
        """Give the events of octets, frame by frame: of a GOAWAY the library would make the connection's end.

        It would send nothing more, and take what follows for an error, as if a client could not finish what it has
        begun.
        """
        data, self._rest = self._rest + data, b""
        while len(data) >= 9 and len(data) >= (size := 9 + int.from_bytes(data[:3], "big")):
            for event in self._h2.receive_data(data[:size]):
                if isinstance(event, h2.events.ConnectionTerminated):
                    self.last_stream = event.last_stream_id
                    self._h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
                yield event
            data = data[size:]
        self._rest = data

    async def messages(self, stream: int, count: int) -> list[bytes]:
        """Await `count` messages of a stream."""
        while len(self.streams[stream].messages) < count:
            assert not self.streams[stream].ended, "the stream ended first"
            assert not self.closed, "the server closed the connection"
            await self.receive()
        return self.streams[stream].messages

    async def goaway(self, last: int) -> None:
        """Await the GOAWAY whose last stream is `last`."""
        while self.last_stream != last:
            assert not self.closed, "the server closed the connection"
            await self.receive()

    async def ended(self, stream: int) -> Stream:
        """Await a stream's end."""
        while not self.streams[stream].ended:
            assert not self.closed, "the server closed the connection"
            await self.receive()
        return self.streams[stream]

    async def ping(self) -> None:
        """Await the answer to a PING: the server has read all that was sent before it."""
        self._h2.ping(b"an octet")
        self.flush()
        answered = False
        while not answered:
            data = await self._reader.read(65536)
            assert data, "the server closed the connection"
            answered = any(isinstance(event, h2.events.PingAckReceived) for event in self._events(data))

    def abort(self) -> None:
        """Close the connection with a TCP reset."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        with contextlib.suppress(TimeoutError):
            await self._writer.wait_closed()
