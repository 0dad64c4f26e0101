"""The HTTP/2 core behind a plain socket, for conformance tools from outside: every request is answered 200 + 16 octets.

    python -m tests.conformance.http2.h2spec_app 8443 &
    h2spec -p 8443 -o 1

h2spec never sends the table size update that a HEADER_TABLE_SIZE of 0 demands, so this one says 4,096; and some of its
header sections are larger than the 8 KiB that the router takes.
"""

import asyncio
import sys

from bbr.http2.connection import Connection
from bbr.http2.events import DataReceived, RequestReceived, TrailersReceived
from bbr.http2.fields import encode
from bbr.http2.settings import Settings

SETTINGS = Settings(header_table_size=4096, max_field_section_bytes=64 << 10)
HEAD = encode([(b":status", b"200"), (b"content-type", b"text/plain"), (b"content-length", b"16")])
BODY = b"sixteen octets.\n"


class App(asyncio.Protocol):
    """One connection; it answers a request when it has ended."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the peer our SETTINGS, which is a server's preface."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._heads: set[int] = set()  # their answers have no body
        self._connection = Connection(SETTINGS, self._loop.time())
        self._transport.write(self._connection.take_output())

    def data_received(self, data: bytes) -> None:
        """Receive, answer, and close after a GOAWAY."""
        for event in self._connection.receive(data, self._loop.time()):
            if isinstance(event, RequestReceived) and event.section.get(b":method") == b"HEAD":
                self._heads.add(event.stream_id)
            match event:
                case RequestReceived(stream_id, _, True) | DataReceived(stream_id, _, True):
                    self._answer(stream_id)
                case TrailersReceived(stream_id, _):
                    self._answer(stream_id)
        self._transport.write(self._connection.take_output())
        if self._connection.closed:
            self._transport.close()

    def _answer(self, stream_id: int) -> None:
        is_head = stream_id in self._heads
        self._heads.discard(stream_id)
        self._connection.send_headers(stream_id, HEAD, end_stream=is_head)
        self._connection.send_data(stream_id, BODY, end_stream=True)


async def serve(port: int) -> None:
    """Serve until cancelled; tell the port, which is a free one if it is 0."""
    server = await asyncio.get_running_loop().create_server(App, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
