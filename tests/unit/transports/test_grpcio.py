"""What grpcio alone has; the rest is in tests/parity, over both transports."""

from bbr.transports.grpcio import GrpcioServer
from bbr.transports.serving import Serving
from tests.support.loops import in_loop


@in_loop
async def test_largest_body_limit_fits_grpcios_integers():
    server = GrpcioServer(Serving(), max_body_bytes=2 << 30)
    assert await server.start("127.0.0.1", 0) > 0
    await server.stop(0)
