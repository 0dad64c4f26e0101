import pytest

from bbr.http2.fields import FieldDecoder, FieldSection
from bbr.rpc import calls
from bbr.rpc.openings import Openings
from bbr.rpc.status import Status, StatusCode
from bench.harness.h2_frames import block
from bench.harness.rpc_client import PATH, Talk, fields

DECODER = FieldDecoder(4096, 8192, 128)


def new_talk(call: FieldSection) -> Talk:
    return Talk()


def section(**changes: str | None) -> FieldSection:
    return DECODER.decode(block(fields(**changes)))


@pytest.fixture
def openings() -> Openings:
    return Openings({PATH.encode(): new_talk})


def test_a_call_that_begins(openings):
    opening = openings.of(section(grpc_timeout="2S", grpc_encoding="identity"))
    assert (opening.new_handler, opening.seconds, opening.encoding) == (new_talk, 2.0, b"identity")
    plain = openings.of(section())
    assert (plain.new_handler, plain.seconds, plain.encoding) == (new_talk, None, None)


def trailers_only(code: StatusCode, message: str) -> bytes:
    return calls.trailers(Status(code, message), alone=True)


REFUSED = {
    "no gRPC": ({"content_type": "text/plain"}, calls.http_refusal(section(content_type="text/plain"))),
    "no method": ({"path": "/other"}, trailers_only(StatusCode.UNIMPLEMENTED, "no such method")),
    "no timeout": ({"grpc_timeout": "soon"}, trailers_only(StatusCode.INTERNAL, "grpc-timeout is malformed")),
}


@pytest.mark.parametrize(("changes", "refusal"), REFUSED.values(), ids=REFUSED)
def test_a_call_that_does_not(openings, changes, refusal):
    opening = openings.of(section(**changes))
    assert (opening.new_handler, opening.refusal) == (None, refusal)


def test_sections_that_are_alike_are_read_once(openings):
    one = section()
    assert openings.of(one) is openings.of(one)
    assert openings.of(section()) is not openings.of(one)
