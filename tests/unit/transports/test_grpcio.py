"""What grpcio alone has; the rest is in tests/parity, over both transports."""

import asyncio
import socket

import h2.connection
import h2.events
import h2.settings
import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.rpc.messages import MessageReader, frame
from bbr.transports.grpcio import GrpcioServer
from bbr.transports.serving import Serving
from bench.harness.certificates import Authority, client_context, credentials, shown
from bench.harness.conversation import FDS, TABLE, echoed
from bench.harness.grpc_client import PROCESS
from bench.harness.messages import parse, request_body, request_headers
from tests.support.h2_client import TIMEOUT_SECONDS
from tests.support.loops import in_loop


@in_loop
async def test_largest_body_limit_fits_grpcios_integers():
    server = GrpcioServer(Serving(), max_body_bytes=2 << 30)
    assert await server.start("127.0.0.1", 0) > 0
    await server.stop(0)


@in_loop
async def test_new_credentials_are_for_the_next_handshake():
    authority = Authority()
    first, second = (credentials(authority.issue("localhost")) for _ in range(2))
    server = GrpcioServer(Serving(), max_body_bytes=1000, credentials=first)
    port = await server.start("127.0.0.1", 0)
    found = []
    for current in (first, second, second, first):
        server.use(current)
        found.append(await asyncio.to_thread(shown, port, client_context(authority.root_pem, "h2")))
    assert found[0] == found[3] != found[1] == found[2]
    await server.stop(0)


@in_loop
async def test_plaintext_has_no_credentials_to_change():
    server = GrpcioServer(Serving(), max_body_bytes=1000)
    with pytest.raises(AssertionError):
        server.use(credentials(Authority().issue("localhost")))
    await server.stop(0)


class Uploader:
    """A client that sends one long body, takes it back, and keeps what the server says of the connection.

    Attributes:
        windows: each INITIAL_WINDOW_SIZE that the server has told.
        pings: how many it has sent.
    """

    def __init__(self) -> None:
        self.windows: list[int] = []
        self.pings = 0

    def upload(self, port: int, messages: list[bytes]) -> bytes:
        """Send an exchange and return its answers, as they were on the wire."""
        client = h2.connection.H2Connection()
        client.initiate_connection()
        fields = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", PROCESS)]
        client.send_headers(1, [*fields, ("content-type", "application/grpc"), ("te", "trailers")])
        unsent, answers, ended = frame(messages), b"", False
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
            while not ended:
                while room := min(client.local_flow_control_window(1), client.max_outbound_frame_size, len(unsent)):
                    client.send_data(1, unsent[:room], end_stream=room == len(unsent))
                    unsent = unsent[room:]
                connection.sendall(client.data_to_send())
                for event in client.receive_data(connection.recv(1 << 16)):
                    if isinstance(event, h2.events.DataReceived):
                        answers += event.data
                        client.acknowledge_received_data(event.flow_controlled_length, 1)
                    elif isinstance(event, h2.events.RemoteSettingsChanged):
                        changed = event.changed_settings.get(h2.settings.SettingCodes.INITIAL_WINDOW_SIZE)
                        self.windows += [changed.new_value] if changed else []
                    self.pings += isinstance(event, h2.events.PingReceived)
                    ended = ended or isinstance(event, h2.events.StreamEnded)
        return answers


@in_loop
async def test_a_fast_upload_gets_no_wider_window():
    policy = Policy(Replies())
    server = GrpcioServer(Serving(), max_body_bytes=64 << 20, new_exchange=lambda call: Exchange(policy, TABLE))
    port = await server.start("127.0.0.1", 0)
    body = b'{"model":"qwen","x":"%b"}' % (b"y" * (8 << 20))
    pieces = [body[start : start + 500_000] for start in range(0, len(body), 500_000)]
    sent = [request_headers(mode=FDS), *(request_body(each, end_of_stream=each is pieces[-1]) for each in pieces)]
    client = Uploader()
    answers = await asyncio.to_thread(client.upload, port, sent)
    await server.stop(0)
    assert echoed([parse(each) for each in MessageReader(len(answers)).feed(answers)][1:])[0] == body
    assert client.windows[-1:] == [128 << 10]
    # With its probes, which are PINGs, it would be wider and wider.
    assert client.pings == 0
