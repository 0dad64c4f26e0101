"""The Go routers' own test cases (H: hermetic, U: unit; CONTRACT.md has them all), as far as they apply: with our
deliberate differences, and as they stand with --compat, message by message.

Different on purpose: no Content-Length in the header answer, OVERWRITE_IF_EXISTS_OR_ADD, routing headers stripped where
they are not set, an unknown model is a 404, a model that is no string a 400, response events are answered at once, and
headers without a body are stripped at once rather than answered emptily. H4, H8, H9, U3, U4 and the body-mutating part
of U7 do not apply: this router alters neither bodies nor responses. U5 is in test_store.py, U8 in test_flags.py.
With --compat theirs come back but for the last two: response events are answered at once. U9 is in test_image.py.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bbr.config import loading, policies
from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Compat, Policy
from bbr.exchange.replies import Replies
from bbr.models.entries import BaseModel
from bbr.pb.ext_proc_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    HeaderValue,
    HeaderValueOption,
    HttpStatus,
    ImmediateResponse,
    ProcessingResponse,
    StreamedBodyResponse,
    TrailersResponse,
)
from bench.harness import messages
from bench.harness.conversation import converse
from bench.harness.messages import request_body, request_headers, set_headers
from bench.harness.model_tables import merged
from tests.conformance.go import test_store

# The fixture of the hermetic tests: one ConfigMap.
TABLE, _ = merged([BaseModel("qwen", ("sql-lora-sheddable", "foo", "1"))])

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


# What the Go routers answer.


def theirs_in_headers(
    model: str | None = None, base: str | None = None, *, length: int | None = None
) -> ProcessingResponse:
    return ProcessingResponse(request_headers=HeadersResponse(response=their_mutation(model, base, length)))


def theirs_in_body(model: str | None = None, base: str | None = None) -> ProcessingResponse:
    return ProcessingResponse(request_body=BodyResponse(response=their_mutation(model, base, None)))


def their_mutation(model: str | None, base: str | None, length: int | None) -> CommonResponse:
    values = {
        "Content-Length": None if length is None else str(length),
        "X-Gateway-Base-Model-Name": base,
        "X-Gateway-Model-Name": model,
    }
    options = [
        HeaderValueOption(header=HeaderValue(key=key, raw_value=value.encode()))
        for key, value in values.items()
        if value is not None
    ]
    return CommonResponse(clear_route_cache=True, header_mutation=HeaderMutation(set_headers=options))


def their_body(octets: bytes, *, ended: bool = True) -> list[ProcessingResponse]:
    chunks = [octets[start : start + 62_000] for start in range(0, len(octets), 62_000)] or [b""]
    last = len(chunks) - 1
    pieces = [
        StreamedBodyResponse(body=chunk, end_of_stream=ended and number == last) for number, chunk in enumerate(chunks)
    ]
    common = [CommonResponse(body_mutation=BodyMutation(streamed_response=piece)) for piece in pieces]
    return [ProcessingResponse(request_body=BodyResponse(response=each)) for each in common]


def their_stream(octets: bytes, model: str | None = None, base: str | None = None) -> list[ProcessingResponse]:
    return [theirs_in_headers(model, base, length=len(octets)), *their_body(octets)]


def their_error(text: str) -> list[ProcessingResponse]:
    immediate = ImmediateResponse(status=HttpStatus(code=400), body=f"inference error: {text}".encode())
    return [ProcessingResponse(immediate_response=immediate)]


EMPTY_HEADERS = ProcessingResponse(request_headers=HeadersResponse())
EMPTY_RESPONSE_HEADERS = ProcessingResponse(response_headers=HeadersResponse())
EMPTY_RESPONSE_BODY = ProcessingResponse(response_body=BodyResponse())
EMPTY_TRAILERS = ProcessingResponse(request_trailers=TrailersResponse())
EMPTY_RESPONSE_TRAILERS = ProcessingResponse(response_trailers=TrailersResponse())


@dataclass
class Case:
    """Messages in; what each of our answers says in a few words; and the answers as the Go routers give them."""

    id: str
    mode: BodyMode
    sent: list[bytes]
    answers: list[str] = field(default_factory=list)
    theirs: list[ProcessingResponse] = field(default_factory=list)


def stream(*pieces: bytes, headers: dict[str, str] | None = None) -> list[bytes]:
    last = len(pieces) - 1
    sent = [request_body(piece, end_of_stream=number == last) for number, piece in enumerate(pieces)]
    return [request_headers(headers or {"hi": "mom"}), *sent]


def unary(octets: bytes) -> list[bytes]:
    return [request_body(octets, end_of_stream=True)]


def named(model: bytes) -> list[bytes]:
    return unary(b'{"model":%s}' % model)


NO_ANSWER: list[str] = []
CONTROL_CHARACTER = "`model` cannot be used as a model name: it holds a control character."
NOT_FOUND = ["immediate 404 bbr:model-not-found"]
NOT_A_STRING = ["immediate 400 bbr:model-not-string"]
RESPONSE = [
    messages.response_headers({"content-type": "application/json"}),
    messages.response_body(b'{"choices":[]}', end_of_stream=True),
]

CASES = [
    Case(
        "H1 unary success",
        UNARY,
        unary(H1_BODY),
        routed("request_body", "qwen", "qwen"),
        [theirs_in_body("qwen", "qwen")],
    ),
    Case("H2 unary, no model", UNARY, unary(H7_BODY), stripped("request_body"), [theirs_in_body()]),
    Case(
        "H3 unary full cycle",
        UNARY,
        unary(H1_BODY) + RESPONSE,
        [*routed("request_body", "qwen", "qwen"), "response_headers", "response_body"],
        [theirs_in_body("qwen", "qwen"), EMPTY_RESPONSE_HEADERS, EMPTY_RESPONSE_BODY],
    ),
    Case(
        "H5 stream, simple",
        STREAMING,
        stream(H5_BODY, headers=H5_HEADERS),
        routed("request_headers", "foo", "qwen") + body(64),
        their_stream(H5_BODY, "foo", "qwen"),
    ),
    Case(
        "H6 stream, split",
        STREAMING,
        stream(H6_BODY[:33], H6_BODY[33:]),
        routed("request_headers", "sql-lora-sheddable", "qwen") + body(79),
        their_stream(H6_BODY, "sql-lora-sheddable", "qwen"),
    ),
    Case(
        "H7 stream, no model", STREAMING, stream(H7_BODY), stripped("request_headers") + body(50), their_stream(H7_BODY)
    ),
    Case("U1 headers, unary", UNARY, [request_headers({"hi": "mom"})], stripped("request_headers"), [EMPTY_HEADERS]),
    Case("U1 headers, stream", STREAMING, [request_headers({"hi": "mom"})], NO_ANSWER),
    Case(
        "U1 headers, stream, end",
        STREAMING,
        [request_headers({"hi": "mom"}, end_of_stream=True)],
        stripped("request_headers"),
        [EMPTY_HEADERS],
    ),
    Case("U1 empty header map", STREAMING, [request_headers({})], NO_ANSWER),
    Case(
        "U2 no model, unary", UNARY, unary(b'{"prompt":"Tell me a joke"}'), stripped("request_body"), [theirs_in_body()]
    ),
    Case(
        "U2 no model, stream",
        STREAMING,
        stream(b'{"prompt":"Tell me a joke"}'),
        stripped("request_headers") + body(27),
        their_stream(b'{"prompt":"Tell me a joke"}'),
    ),
    Case("U2 empty model", UNARY, unary(b'{"model":""}'), ["immediate 400 bbr:model-empty"], [theirs_in_body(base="")]),
    Case("U2 model 1", UNARY, unary(b'{"model":1}'), NOT_A_STRING, [theirs_in_body("1", "qwen")]),
    Case(
        "U2 model 1 as a string",
        UNARY,
        unary(b'{"model":"1"}'),
        routed("request_body", "1", "qwen"),
        [theirs_in_body("1", "qwen")],
    ),
    Case("U2 unknown, unary", UNARY, unary(b'{"model":"bar"}'), NOT_FOUND, [theirs_in_body("bar", "")]),
    Case(
        "U2 unknown, stream",
        STREAMING,
        stream(b'{"model":"bar"}'),
        NOT_FOUND,
        their_stream(b'{"model":"bar"}', "bar", ""),
    ),
    Case(
        "U2 a long prompt",
        STREAMING,
        stream(LONG_BODY),
        routed("request_headers", "foo", "qwen") + body(len(LONG_BODY)),
        their_stream(LONG_BODY, "foo", "qwen"),
    ),
    Case(
        "U6 base model",
        UNARY,
        named(b'"qwen"'),
        routed("request_body", "qwen", "qwen"),
        [theirs_in_body("qwen", "qwen")],
    ),
    Case("U6 adapter", UNARY, named(b'"foo"'), routed("request_body", "foo", "qwen"), [theirs_in_body("foo", "qwen")]),
    Case("U6 unknown", UNARY, named(b'"bar"'), NOT_FOUND, [theirs_in_body("bar", "")]),
    Case("U6 missing", UNARY, unary(b"{}"), stripped("request_body"), [theirs_in_body()]),
    Case("U6 empty", UNARY, named(b'""'), ["immediate 400 bbr:model-empty"], [theirs_in_body(base="")]),
    Case("U6 integer", UNARY, named(b"123"), NOT_A_STRING, [theirs_in_body("123", "")]),
    Case("U6 boolean", UNARY, named(b"true"), NOT_A_STRING, [theirs_in_body("true", "")]),
    Case("U6 null", UNARY, named(b"null"), NOT_A_STRING, [theirs_in_body("<nil>", "")]),
    Case(
        "U6 trimmed", UNARY, named(b'" foo "'), ["immediate 400 bbr:model-illegal"], [theirs_in_body(" foo ", "qwen")]
    ),
    Case(
        "U7 string",
        STREAMING,
        stream(H5_BODY),
        routed("request_headers", "foo", "qwen") + body(64),
        their_stream(H5_BODY, "foo", "qwen"),
    ),
    Case("U7 integer", STREAMING, stream(b'{"model":1}'), NOT_A_STRING, their_stream(b'{"model":1}', "1", "qwen")),
    Case("U7 float", STREAMING, stream(b'{"model":1.5}'), NOT_A_STRING, their_stream(b'{"model":1.5}', "1.5", "")),
    Case(
        "U7 boolean", STREAMING, stream(b'{"model":false}'), NOT_A_STRING, their_stream(b'{"model":false}', "false", "")
    ),
    Case("U7 missing", STREAMING, stream(b"{}"), stripped("request_headers") + body(2), their_stream(b"{}")),
    Case(
        "U7 empty",
        STREAMING,
        stream(b'{"model":""}'),
        ["immediate 400 bbr:model-empty"],
        their_stream(b'{"model":""}', base=""),
    ),
    # What the Go routers' tests lack, by the same fixture.
    Case(
        "duplicate end of stream",
        STREAMING,
        [*stream(H5_BODY), request_body(H5_BODY[-9:], end_of_stream=True)],
        routed("request_headers", "foo", "qwen") + body(64),
        their_stream(H5_BODY, "foo", "qwen"),
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
        [EMPTY_HEADERS, EMPTY_RESPONSE_HEADERS, EMPTY_RESPONSE_TRAILERS],
    ),
    Case(
        "body ended by trailers",
        STREAMING,
        [request_headers({"hi": "mom"}), request_body(H5_BODY), messages.request_trailers()],
        [*routed("request_headers", "foo", "qwen"), "request_body streamed 64", "request_trailers"],
        [theirs_in_headers("foo", "qwen"), *their_body(H5_BODY, ended=False), EMPTY_TRAILERS],
    ),
    Case(
        "control character",
        UNARY,
        unary(b'{"model":"a\\u0001"}'),
        ["immediate 400 bbr:model-illegal"],
        their_error(f"BadRequest - {CONTROL_CHARACTER} (At byte 9 of the body.)"),
    ),
    Case(
        "broken JSON",
        UNARY,
        unary(b'{"model":'),
        ["immediate 400 bbr:invalid-json"],
        their_error("BadRequest - failed to parse request body: unexpected end of data at byte 9."),
    ),
    Case("an empty body", STREAMING, stream(b""), stripped("request_headers") + body(0), their_stream(b"")),
    Case(
        "multipart",
        STREAMING,
        [
            request_headers({"content-type": "multipart/form-data; boundary=x"}),
            request_body(b"--x", end_of_stream=True),
        ],
        ["immediate 400 bbr:multipart-cut-off"],
        their_error("BadRequest - The multipart body ended before its closing boundary."),
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


def as_they_do(mode: BodyMode, compat: Compat = Compat.GIE) -> Policy:
    """Return the policy of a server with --compat, for a gateway that tells no body mode."""
    settings = loading.load({"compat": compat.value}, {})
    return dataclasses.replace(policies.policy(settings), assume_body_mode=mode)


def in_order(answer: ProcessingResponse) -> ProcessingResponse:
    """Return an answer with the fields that it sets in the order of their names: which is first does not matter."""
    kind = answer.WhichOneof("response") or ""
    if kind in ("request_headers", "request_body") and getattr(answer, kind).HasField("response"):
        getattr(answer, kind).response.header_mutation.set_headers.sort(key=lambda option: option.header.key)
    return answer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case: Case) -> None:
    talk = Exchange(Policy(Replies(), assume_body_mode=case.mode), TABLE)
    assert [words(answer) for answer in converse(talk, *case.sent)] == case.answers


@pytest.mark.parametrize("compat", [Compat.GIE, Compat.IPP])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case_as_it_stands(case: Case, compat: Compat) -> None:
    talk = Exchange(as_they_do(case.mode, compat), TABLE)
    assert [in_order(answer) for answer in converse(talk, *case.sent)] == case.theirs


# By the reason for which they are not here.
NOT_APPLICABLE = dict.fromkeys(("H4", "H8", "H9", "U3", "U4"), "the router alters neither bodies nor responses")


def test_every_case_of_theirs_is_here_or_does_not_apply() -> None:
    here = {case.id.split()[0] for case in CASES} | {test_store.ID}
    for name in ("test_flags.py", "test_image.py"):
        here |= {found.upper() for found in re.findall(r"def test_(u\d)_", Path(__file__).with_name(name).read_text())}
    rows = re.findall(
        r"^\| ([HU]\d) \| .+ \| (.+) \|$", Path(__file__).with_name("CONTRACT.md").read_text(), re.MULTILINE
    )
    theirs = {case for case, _ in rows}
    assert len(theirs) == len(rows) == 18
    assert {case for case, here in rows if here.startswith("not applicable")} == NOT_APPLICABLE.keys()
    assert theirs - here == NOT_APPLICABLE.keys()
