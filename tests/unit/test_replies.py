import orjson
import pytest

from bbr import refusal, replies
from bbr.pb.ext_proc_pb2 import BodyMutation, BodyResponse, CommonResponse, ProcessingResponse, StreamedBodyResponse
from bbr.replies import MAX_BODY_CHUNK_BYTES, Replies
from tests.support.messages import parse, set_headers


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


def test_routes_are_built_once() -> None:
    made = Replies()
    assert made.route("a", "b") is made.route("a", "b")
    assert made.route("a", "b") != made.route("a", "c")
    assert made.route_body("a", "b") is made.route_body("a", "b")


def test_route_cache_is_bounded() -> None:
    made = Replies()
    for number in range(10_000):
        made.route(f"model-{number}", "base")
    assert made.route.cache_info().currsize == made.route.cache_info().maxsize == 4096


def test_header_names_can_be_chosen() -> None:
    made = Replies(model_header="X-M", base_model_header="X-B")
    mutation = parse(made.route("m", "b")).request_headers.response.header_mutation
    assert set_headers(mutation) == {"X-M": b"m", "X-B": b"b"}
    assert list(parse(made.strip).request_headers.response.header_mutation.remove_headers) == ["X-M", "X-B"]


def test_non_ascii_model_stands_as_its_octets() -> None:
    mutation = parse(Replies().route("モデル", "é")).request_headers.response.header_mutation
    assert set_headers(mutation) == {
        "X-Gateway-Model-Name": "モデル".encode(),
        "X-Gateway-Base-Model-Name": "é".encode(),
    }


def test_refusal_in_openai_shape() -> None:
    answer = parse(replies.refuse(refusal.model_not_found('a"b'))).immediate_response
    assert orjson.loads(answer.body) == {
        "error": {
            "message": 'The model `a"b` is not served here. Check its spelling (names are compared exactly).',
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
