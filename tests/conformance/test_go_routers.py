"""The Go routers' own test cases (H: hermetic, U: unit), as far as they apply, with our deliberate differences.

Different on purpose: no Content-Length in the header answer, OVERWRITE_IF_EXISTS_OR_ADD, routing headers stripped where
they are not set, an unknown model is a 404, a model that is no string a 400, response events are answered at once, and
headers without a body are stripped at once rather than answered emptily. H4, H8, H9, U3, U4 and the body-mutating part
of U7 do not apply: this router alters neither bodies nor responses. U5, U6 and U8 are in tests/unit (registry, config).
"""

from dataclasses import dataclass, field

import pytest

from bbr.exchange import Exchange
from bbr.pb.ext_proc_pb2 import ProcessingResponse
from bbr.policy import BodyMode, Policy
from bbr.registry import BaseModel, Registry
from bbr.replies import Replies
from tests.support import messages
from tests.support.exchanges import converse
from tests.support.messages import request_body, request_headers, set_headers

# The fixture of the hermetic tests: one ConfigMap.
TABLE, _ = Registry.merge([BaseModel("qwen", ("sql-lora-sheddable", "foo", "1"))])

STREAMING, UNARY = BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED
ROUTING = {"X-Gateway-Model-Name", "X-Gateway-Base-Model-Name"}

H1_BODY = b'{"max_tokens":100,"model":"qwen","prompt":"test","temperature":0}'
H5_BODY = b'{"max_tokens":100,"model":"foo","prompt":"test","temperature":0}'
H6_BODY = b'{"max_tokens":100,"model":"sql-lora-sheddable","prompt":"test","temperature":0}'
H7_BODY = b'{"max_tokens":100,"prompt":"test","temperature":0}'
LONG_BODY = b'{"model":"foo","prompt":"%s"}' % (b"a" * 70_000)
H5_HEADERS = {
    "hi": "mom",
    "x-request-id": "1",
    "x-gateway-inference-objective": "foo",
    "x-gateway-model-name-rewrite": "bar",
}


def routed(kind: str, model: str, base_model: str) -> list[str]:
    return [f"{kind} clear X-Gateway-Base-Model-Name={base_model} X-Gateway-Model-Name={model}"]


def stripped(kind: str) -> list[str]:
    return [f"{kind} clear stripped"]


def body(size: int) -> list[str]:
    sizes = [min(62_000, size - start) for start in range(0, size, 62_000)] or [0]
    return [f"request_body streamed {each}" for each in sizes[:-1]] + [f"request_body streamed {sizes[-1]} end"]


@dataclass
class Case:
    """Messages in, and what each answer says in a few words."""

    id: str
    mode: BodyMode
    sent: list[bytes]
    answers: list[str] = field(default_factory=list)


def stream(*pieces: bytes, headers: dict[str, str] | None = None) -> list[bytes]:
    last = len(pieces) - 1
    sent = [request_body(piece, end_of_stream=number == last) for number, piece in enumerate(pieces)]
    return [request_headers(headers or {"hi": "mom"}), *sent]


def unary(octets: bytes) -> list[bytes]:
    return [request_body(octets, end_of_stream=True)]


NO_ANSWER: list[str] = []
RESPONSE = [
    messages.response_headers({"content-type": "application/json"}),
    messages.response_body(b'{"choices":[]}', end_of_stream=True),
]

CASES = [
    Case("H1 unary success", UNARY, unary(H1_BODY), routed("request_body", "qwen", "qwen")),
    Case("H2 unary, no model", UNARY, unary(H7_BODY), stripped("request_body")),
    Case(
        "H3 unary full cycle",
        UNARY,
        unary(H1_BODY) + RESPONSE,
        [*routed("request_body", "qwen", "qwen"), "response_headers", "response_body"],
    ),
    Case(
        "H5 stream, simple",
        STREAMING,
        stream(H5_BODY, headers=H5_HEADERS),
        routed("request_headers", "foo", "qwen") + body(64),
    ),
    Case(
        "H6 stream, split",
        STREAMING,
        stream(H6_BODY[:33], H6_BODY[33:]),
        routed("request_headers", "sql-lora-sheddable", "qwen") + body(79),
    ),
    Case("H7 stream, no model", STREAMING, stream(H7_BODY), stripped("request_headers") + body(50)),
    Case("U1 headers, unary", UNARY, [request_headers({"hi": "mom"})], stripped("request_headers")),
    Case("U1 headers, stream", STREAMING, [request_headers({"hi": "mom"})], NO_ANSWER),
    Case(
        "U1 headers, stream, end",
        STREAMING,
        [request_headers({"hi": "mom"}, end_of_stream=True)],
        stripped("request_headers"),
    ),
    Case("U1 empty header map", STREAMING, [request_headers({})], NO_ANSWER),
    Case("U2 no model, unary", UNARY, unary(b'{"prompt":"Tell me a joke"}'), stripped("request_body")),
    Case(
        "U2 no model, stream",
        STREAMING,
        stream(b'{"prompt":"Tell me a joke"}'),
        stripped("request_headers") + body(27),
    ),
    Case("U2 empty model", UNARY, unary(b'{"model":""}'), ["immediate 400 bbr:model-empty"]),
    Case("U2 model 1 as a number", UNARY, unary(b'{"model":1}'), ["immediate 400 bbr:model-not-string"]),
    Case("U2 model 1 as a string", UNARY, unary(b'{"model":"1"}'), routed("request_body", "1", "qwen")),
    Case("U2 unknown, unary", UNARY, unary(b'{"model":"bar"}'), ["immediate 404 bbr:model-not-found"]),
    Case("U2 unknown, stream", STREAMING, stream(b'{"model":"bar"}'), ["immediate 404 bbr:model-not-found"]),
    Case(
        "U2 a long prompt",
        STREAMING,
        stream(LONG_BODY),
        routed("request_headers", "foo", "qwen") + body(len(LONG_BODY)),
    ),
    # What the Go routers' tests lack, by the same fixture.
    Case(
        "duplicate end of stream",
        STREAMING,
        [*stream(H5_BODY), request_body(H5_BODY[-9:], end_of_stream=True)],
        routed("request_headers", "foo", "qwen") + body(64),
    ),
    Case(
        "bodyless GET through all response events",
        STREAMING,
        [
            request_headers({":method": "GET"}, end_of_stream=True),
            messages.response_headers(),
            messages.response_trailers(),
        ],
        [*stripped("request_headers"), "response_headers", "response_trailers"],
    ),
    Case(
        "body ended by trailers",
        STREAMING,
        [request_headers({"hi": "mom"}), request_body(H5_BODY), messages.request_trailers()],
        [*routed("request_headers", "foo", "qwen"), "request_body streamed 64", "request_trailers"],
    ),
    Case("control character", UNARY, unary(b'{"model":"a\\u0001"}'), ["immediate 400 bbr:model-illegal"]),
    Case("broken JSON", UNARY, unary(b'{"model":'), ["immediate 400 bbr:invalid-json"]),
    Case(
        "multipart",
        STREAMING,
        [
            request_headers({"content-type": "multipart/form-data; boundary=x"}),
            request_body(b"--x", end_of_stream=True),
        ],
        ["immediate 400 bbr:multipart-cut-off"],
    ),
]


def words(answer: ProcessingResponse) -> str:
    kind = answer.WhichOneof("response") or "nothing"
    if kind == "immediate_response":
        return f"immediate {answer.immediate_response.status.code} {answer.immediate_response.details}"
    if kind.endswith("trailers"):
        return kind
    common = getattr(answer, kind).response
    said = [kind]
    if common.clear_route_cache:
        said.append("clear")
    fields = set_headers(common.header_mutation)
    said += [f"{name}={value.decode()}" for name, value in sorted(fields.items())]
    if set(common.header_mutation.remove_headers) >= ROUTING:
        said.append("stripped")
    if common.HasField("body_mutation"):
        streamed = common.body_mutation.streamed_response
        said.append(f"streamed {len(streamed.body)}" + (" end" if streamed.end_of_stream else ""))
    return " ".join(said)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case: Case) -> None:
    talk = Exchange(Policy(Replies(), assume_body_mode=case.mode), TABLE)
    assert [words(answer) for answer in converse(talk, *case.sent)] == case.answers


def test_every_applicable_case_is_here() -> None:
    here = {case.id.split()[0] for case in CASES}
    assert {"H1", "H2", "H3", "H5", "H6", "H7", "U1", "U2"} <= here
