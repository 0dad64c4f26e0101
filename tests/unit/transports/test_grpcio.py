"""What grpcio alone has; the rest is in tests/parity, over both transports."""

import asyncio

import pytest

from bbr.transports.grpcio import GrpcioServer
from bbr.transports.serving import Serving
from bench.harness.certificates import Authority, client_context, credentials, shown
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
