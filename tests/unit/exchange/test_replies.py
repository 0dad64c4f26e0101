import orjson
import pytest

from bbr import refusal
from bbr.exchange import replies
from bbr.exchange.convention import Ours
from bbr.exchange.replies import MAX_BODY_CHUNK_BYTES, Replies
from bbr.headers import BASE_MODEL_HEADER, DESTINATION_HEADER, MODEL_HEADER
from bbr.pb.ext_proc_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HeadersResponse,
    ProcessingResponse,
    StreamedBodyResponse,
)
from bbr.reading.head import Dialect
from bench.harness.messages import parse, set_headers


def by_protobuf(octets: bytes, *, end_of_stream: bool, response: bool) -> bytes:
    streamed = StreamedBodyResponse(body=octets, end_of_stream=end_of_stream)
    body = BodyResponse(response=CommonResponse(body_mutation=BodyMutation(streamed_response=streamed)))
    answer = ProcessingResponse(response_body=body) if response else ProcessingResponse(request_body=body)
    return answer.SerializeToString()


# Around each length at which one of the five nested lengths needs another octet.
SIZES = sorted({*range(1, 150), *range(16_340, 16_400), 61_999, 62_000})


@pytest.mark.parametrize("end_of_stream", [False, True])
@pytest.mark.parametrize("response", [False, True], ids=["request", "response"])
def test_body_messages_are_what_protobuf_would_encode(end_of_stream: bool, response: bool) -> None:
    make = replies.response_body if response else replies.request_body
    for size in SIZES:
        octets = bytes(size)
        expected = by_protobuf(octets, end_of_stream=end_of_stream, response=response)
        assert make(octets, end_of_stream=end_of_stream) == [expected], size


@pytest.mark.parametrize("end_of_stream", [False, True])
def test_an_empty_response_piece_is_a_message(end_of_stream: bool) -> None:
    expected = by_protobuf(b"", end_of_stream=end_of_stream, response=True)
    assert replies.response_body(b"", end_of_stream=end_of_stream) == [expected]


def test_pieces_of_more_sizes_than_are_remembered() -> None:
    for size in range(1, 600):
        for ended in (False, True):
            octets = b"x" * size
            expected = [by_protobuf(octets, end_of_stream=ended, response=False)]
            assert replies.request_body(octets, end_of_stream=ended) == expected
            assert len(replies._request_prefixes) <= 1_024


def test_an_empty_request_body_is_a_message_only_at_the_end() -> None:
    assert replies.request_body(b"", end_of_stream=False) == []
    assert replies.request_body(b"", end_of_stream=True) == [by_protobuf(b"", end_of_stream=True, response=False)]


@pytest.mark.parametrize("size", [62_001, 124_000, 124_001, 310_000])
def test_long_bodies_are_cut(size: int) -> None:
    octets = bytes(i % 251 for i in range(size))
    chunks = [octets[start : start + MAX_BODY_CHUNK_BYTES] for start in range(0, size, MAX_BODY_CHUNK_BYTES)]
    expected = [by_protobuf(chunk, end_of_stream=False, response=False) for chunk in chunks]
    assert replies.request_body(octets, end_of_stream=False) == expected
    expected[-1] = by_protobuf(chunks[-1], end_of_stream=True, response=False)
    assert replies.request_body(octets, end_of_stream=True) == expected


@pytest.mark.parametrize("size", [1, 100, 16_384, MAX_BODY_CHUNK_BYTES])
@pytest.mark.parametrize("ended", [False, True])
def test_a_chunk_in_parts(size: int, ended: bool) -> None:
    octets = bytes(i % 251 for i in range(size))
    expected = by_protobuf(octets, end_of_stream=ended, response=False)
    for cut in (0, size // 3, size):
        parts = [octets[:cut], memoryview(octets)[cut:]]
        assert replies.request_chunk(parts, size, end_of_stream=ended) == expected


def test_routes_are_built_once() -> None:
    made = Replies()
    assert made.route(("a", "b", None)) is made.route(("a", "b", None))
    assert made.route(("a", "b", None)) != made.route(("a", "c", None))
    assert made.decided_body(("a", "b", None), "routed") is made.decided_body(("a", "b", None), "routed")


def test_route_cache_is_bounded() -> None:
    made = Replies()
    first = made.route(("a", "b", None))
    for number in range(4096):
        made.route((f"model-{number}", "base", None))
    assert made.route(("a", "b", None)) is not first
    assert made.route(("a", "b", None)) == first


def test_long_names_are_not_kept() -> None:
    made = Replies()
    long = "x" * 257
    assert made.route((long, "b", None)) is not made.route((long, "b", None))
    assert made.decided_body((long, "b", None), "routed") is not made.decided_body((long, "b", None), "routed")
    assert made.route((long, "b", None)) == made.route((long, "b", None))


def test_header_names_can_be_chosen() -> None:
    made = Replies(Ours(model_headers=["X-M", "x-gateway-model-name"], base_model_headers=["X-B"]))
    mutation = parse(made.route(("m", "b", None))).request_headers.response.header_mutation
    assert set_headers(mutation) == {"X-M": b"m", "x-gateway-model-name": b"m", "X-B": b"b"}
    assert list(mutation.remove_headers) == [BASE_MODEL_HEADER, DESTINATION_HEADER]
    removed = parse(made.stripped()).request_headers.response.header_mutation.remove_headers
    assert list(removed) == ["X-M", "x-gateway-model-name", "X-B", BASE_MODEL_HEADER, DESTINATION_HEADER]


def test_headers_that_are_not_set_are_stripped_all_the_same() -> None:
    made = Replies(Ours(model_headers=()))
    mutation = parse(made.decided_body(("m", "b", None), "routed")).request_body.response.header_mutation
    assert set_headers(mutation) == {BASE_MODEL_HEADER: b"b"}
    assert list(mutation.remove_headers) == [MODEL_HEADER, DESTINATION_HEADER]


def test_non_ascii_model_stands_as_its_octets() -> None:
    mutation = parse(Replies().route(("モデル", "é", None))).request_headers.response.header_mutation
    assert set_headers(mutation) == {
        "X-Gateway-Model-Name": "モデル".encode(),
        "X-Gateway-Base-Model-Name": "é".encode(),
    }


class TestStripping:
    def test_further_headers(self) -> None:
        made = Replies(Ours(strip_headers=["x-tenant", "x-gateway-destination-endpoint"]))
        stripped = parse(made.stripped()).request_headers.response
        assert list(stripped.header_mutation.remove_headers)[2:] == ["x-tenant", "x-gateway-destination-endpoint"]
        for routed in (
            parse(made.route(("m", "b", None))).request_headers,
            parse(made.decided_body(("m", "b", None), "routed")).request_body,
        ):
            removed = routed.response.header_mutation.remove_headers
            assert list(removed) == ["x-tenant", "x-gateway-destination-endpoint"]

    def test_trusted_routing_headers_stay(self) -> None:
        made = Replies(Ours(trust_client_headers=True))
        for answer in (made.stripped(), made.stripped_unbuffered()):
            response = parse(answer).request_headers.response
            assert list(response.header_mutation.remove_headers) == [DESTINATION_HEADER]
            assert response.clear_route_cache

    def test_nothing_to_stripped(self) -> None:
        made = Replies(Ours(trust_client_headers=True, strip_headers=()))
        assert parse(made.stripped()) == ProcessingResponse(request_headers=HeadersResponse(response=CommonResponse()))
        assert parse(made.stripped_body()) == ProcessingResponse(request_body=BodyResponse(response=CommonResponse()))


def metadata(answer: bytes) -> dict[str, str]:
    fields = parse(answer).dynamic_metadata.fields
    assert set(fields) <= {"bbr"}
    return {name: value.string_value for name, value in fields["bbr"].struct_value.fields.items()} if fields else {}


class TestDynamicMetadata:
    MADE = Replies(metadata_namespace="bbr")

    def test_off_by_default(self) -> None:
        made = Replies()
        for answer in (
            made.route(("m", "b", None)),
            made.stripped("no-model"),
            made.refuse(refusal.model_not_found("m")),
        ):
            assert metadata(answer) == {}

    def test_routed(self) -> None:
        expected = {"outcome": "routed", "requested_model": "m", "base_model": "b"}
        assert metadata(self.MADE.route(("m", "b", None))) == expected
        assert metadata(self.MADE.decided_body(("m", "b", None), "routed")) == expected

    def test_passed(self) -> None:
        assert metadata(self.MADE.stripped("no-body")) == {"outcome": "no-body"}
        assert metadata(self.MADE.stripped_unbuffered("not-read")) == {"outcome": "not-read"}
        assert metadata(self.MADE.stripped_body("no-model")) == {"outcome": "no-model"}

    def test_not_before_the_outcome_is_known(self) -> None:
        assert metadata(self.MADE.stripped()) == {}
        assert metadata(self.MADE.stripped_body()) == {}

    def test_refused(self) -> None:
        refused = refusal.model_not_found("m")
        assert metadata(self.MADE.refuse(refused, model="m")) == {"outcome": "model-not-found", "requested_model": "m"}
        assert metadata(self.MADE.refuse(refusal.model_empty())) == {"outcome": "model-empty"}


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        (refusal.model_not_found("m"), "not_found_error"),
        (refusal.model_empty(), "invalid_request_error"),
        (refusal.body_too_large(1), "request_too_large"),
        (refusal.body_timeout(1), "invalid_request_error"),
        (refusal.headers_not_sent(), "api_error"),
    ],
)
def test_refusal_in_anthropic_shape(refused: refusal.Refusal, kind: str) -> None:
    answer = parse(Replies().refuse(refused, Dialect.ANTHROPIC)).immediate_response
    assert answer.details == f"bbr:{refused.reason}"
    assert set_headers(answer.headers) == {"content-type": b"application/json"}
    assert orjson.loads(answer.body) == {"type": "error", "error": {"type": kind, "message": refused.message}}


def test_refusal_in_openai_shape() -> None:
    answer = parse(Replies().refuse(refusal.model_not_found('a"b'))).immediate_response
    assert orjson.loads(answer.body) == {
        "error": {
            "message": 'The model `a"b` is not served here. Check its spelling (names are compared exactly).',
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


def test_refusal_with_headers_of_its_own() -> None:
    answer = parse(Replies().refuse(refusal.encoding_unknown("compress", "gzip, br"))).immediate_response
    assert set_headers(answer.headers) == {"content-type": b"application/json", "accept-encoding": b"gzip, br"}
