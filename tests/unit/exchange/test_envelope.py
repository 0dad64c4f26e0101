import pytest
from google.protobuf.message import DecodeError

from bbr.exchange import envelope
from bbr.exchange.envelope import LONG_BYTES, MAX_FIELDS, MAX_SECTION_BYTES
from bbr.exchange.verdict import Outcome
from bbr.pb.ext_proc_pb2 import ProcessingRequest
from bbr.refusal import Refusal
from bbr.rpc.status import StatusCode
from bench.harness.conversation import BODY, BUFFERED, FDS, assert_refused, assert_routes, converse, exchange, kinds
from bench.harness.messages import parse, request_body, request_headers
from tests.support.steps import lines

BODY_TAG = b"\x22"


def varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*octets, value))


def with_fields(count: int) -> bytes:
    """Return a message of so many header fields, which are empty."""
    message = ProcessingRequest()
    message.request_headers.headers.headers.extend([b""] * count)
    return message.SerializeToString()


@pytest.mark.parametrize(
    "message",
    [
        request_body(bytes(1 << 20), end_of_stream=True),
        request_headers({"x": "y" * 60_000}, mode=FDS),
        request_body(BODY) + b"\x50\x01" + b"\x59" + bytes(8) + b"\x5d" + bytes(4),
        b"\x50\x01" * MAX_FIELDS,
        b"",
    ],
    ids=["a body", "headers", "other kinds", "as many fields as may be", "nothing"],
)
def test_what_gateways_send_passes(message: bytes) -> None:
    envelope.check(message)


@pytest.mark.parametrize("name", ["request_headers", "response_headers", "request_trailers", "response_trailers"])
def test_a_header_section_has_a_bound(name: str) -> None:
    message = ProcessingRequest()
    part = getattr(message, name)
    (part.headers if "headers" in name else part.trailers).headers.append(b"x" * MAX_SECTION_BYTES)
    with pytest.raises(Refusal, match=f"larger than {MAX_SECTION_BYTES} bytes") as caught:
        envelope.check(message.SerializeToString())
    assert (caught.value.status, caught.value.reason) == (431, "headers-too-large")


def test_all_that_stands_beside_bodies_has_one_bound() -> None:
    half = b"x" * (MAX_SECTION_BYTES // 2)
    body = request_body(bytes(1 << 20), end_of_stream=True)
    for one in ({"attributes": [half]}, {"metadata_context": half}):
        envelope.check(ProcessingRequest(**one).SerializeToString() + body)
    both = ProcessingRequest(attributes=[half], metadata_context=half + b"x")
    for message in (both, ProcessingRequest(attributes=[half, half, b"x"])):
        with pytest.raises(Refusal, match=f"larger than {MAX_SECTION_BYTES} bytes"):
            envelope.check(message.SerializeToString() + body)


def test_nothing_within_a_message_is_decoded_for_each_of_its_parts() -> None:
    """Messages in a list or a map take protobuf 50 to 100 ns for two bytes: five times as long as bytes in a list."""
    found, waiting = set(), [ProcessingRequest.DESCRIPTOR]
    while waiting:
        kind = waiting.pop()
        found.add(kind.full_name)
        for field in kind.fields:
            assert field.message_type is None or not field.is_repeated, field.full_name
            if field.message_type is not None and field.message_type.full_name not in found:
                waiting.append(field.message_type)
    assert len(found) > 5


@pytest.mark.parametrize(
    "message",
    [
        b"\x50\x01" * (MAX_FIELDS + 1),
        BODY_TAG + varint(2 * (MAX_FIELDS + 1)) + b"\x50\x01" * (MAX_FIELDS + 1),
        BODY_TAG + b"\x05" + b"1234",
        BODY_TAG + b"\x02" + b"\x0a\x05" + b"12345",
        BODY_TAG,
        BODY_TAG + b"\x80",
        b"\xff" * 11,
        b"\x59" + bytes(7),
        b"\x5d" + bytes(3),
        b"\x53\x54",
    ],
    ids=[
        "many fields",
        "many fields in a body",
        "a body that is cut off",
        "a field that is longer than its body",
        "no length",
        "half a length",
        "a long number",
        "half of 8 bytes",
        "half of 4 bytes",
        "a group",
    ],
)
def test_what_no_gateway_sends_is_no_message(message: bytes) -> None:
    with pytest.raises(DecodeError):
        envelope.check(message)


@pytest.mark.parametrize("mode", [FDS, BUFFERED])
def test_long_messages_are_read_as_ever(mode: object) -> None:
    body = b'{"model":"qwen","x":"%b"}' % (b"x" * (LONG_BYTES + 1))
    talk = exchange()
    answers = converse(talk, request_headers(mode=mode), request_body(body, end_of_stream=True))
    assert_routes(answers[mode == BUFFERED], "qwen", "qwen")


def test_an_exchange_refuses_long_header_sections_undecoded() -> None:
    talk = exchange()
    message = with_fields(1_000_000)
    answers = [parse(each) for each in talk.receive(message)]
    assert_refused(answers, 431, "headers-too-large")
    assert (talk.verdict.outcome, talk.request_field(":path")) == (Outcome.REFUSED, "")
    assert lines(lambda: exchange().receive(message)) < 600


def test_an_exchange_ends_for_what_is_no_message() -> None:
    talk = exchange()
    assert kinds([parse(each) for each in talk.receive(b"\x50\x01" * LONG_BYTES)]) == []
    assert talk.end is not None
    assert talk.end.code is StatusCode.INVALID_ARGUMENT
    assert talk.verdict.reason == "undecodable-message"


def test_many_fields_are_refused_before_any_is_looked_at() -> None:
    message = with_fields(60_000)
    assert len(message) < LONG_BYTES
    talk = exchange()
    assert_refused([parse(each) for each in talk.receive(message)], 431, "headers-too-many")
    assert talk.request_field(":path") == ""
    assert lines(lambda: exchange().receive(message)) < 600
