"""Whatever a gateway sends, in whatever order, an exchange answers or ends; it never raises."""

import gzip

from hypothesis import given
from hypothesis import strategies as st

from bbr.exchange.exchange import Exchange
from bbr.exchange.ledger import Ledger
from bbr.exchange.policy import BodyMode, InvalidJson, OverLimit, Policy
from bbr.exchange.replies import Replies
from bbr.models.registry import Registry
from bbr.pb.ext_proc_pb2 import ProcessingResponse
from bbr.reading.templates import parse_templates
from bbr.rpc.status import OK, Status
from bench.harness import messages
from bench.harness.conversation import said

policies = st.builds(
    lambda ledger_bytes, **fields: Policy(Replies(), Ledger(ledger_bytes), **fields),
    st.sampled_from([1, 30, 1 << 20]),
    max_body_bytes=st.sampled_from([1, 64, 1 << 20]),
    stream_threshold_bytes=st.sampled_from([1, 8, 1 << 20]),
    over_limit=st.sampled_from(OverLimit),
    on_invalid_json=st.sampled_from(InvalidJson),
    query_model_paths=st.sampled_from([frozenset(), frozenset([b"/q"])]),
    path_templates=st.sampled_from([(), parse_templates("/m/{model}/**")]),
)
modes = st.none() | st.sampled_from(BodyMode)
FORM, MULTIPART = b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=b"
VALUES = {
    ":method": [b"", b"CONNECT", b"POST", b"GET"],
    ":path": [b"", b"/q?model=a", b"/q?model=a&model=b", b"/q?model=%00", b"/m/a/x", b"/m/%2F/", b"/v1/messages", b"%"],
    "content-type": [b"application/json", b"audio/wav", FORM, MULTIPART, b"multipart/form-data", b"application/grpc"],
    "content-encoding": [b"gzip", b"gzip, br", b"deflate", b"zstd", b"identity", b"lzma", b"\xff"],
    "content-length": [b"7", b"70", b"\xff", b"9" * 40],
    "upgrade": [b"websocket", b"\xff"],
    "x": [b""],
}
header = st.sampled_from([(name, value) for name, values in VALUES.items() for value in values])
headers = st.lists(header, max_size=5)
PARTS = (
    b"", b'{"model":"a"}', b'{"model":', b'"a"}', b"x" * 40, b"model=a", b"&model=b", gzip.compress(b'{"model":"a"}'),
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n', b"--b--\r\n",
)  # fmt: skip
octets = st.sampled_from(PARTS) | st.binary(max_size=20)
message = st.one_of(
    st.binary(max_size=30),
    st.builds(messages.request_headers, headers, end_of_stream=st.booleans(), mode=modes, response_mode=modes),
    st.builds(messages.request_body, octets, end_of_stream=st.booleans(), mode=modes),
    st.builds(messages.request_trailers, mode=modes),
    st.builds(messages.response_headers, mode=modes, response_mode=modes),
    st.builds(messages.response_body, octets, end_of_stream=st.booleans(), response_mode=modes),
    st.builds(messages.response_trailers, mode=modes),
)


# Free orders find the protocol's edges; a request that begins as it must gets further.
first = st.builds(messages.request_headers, headers, mode=modes)
body = st.builds(messages.request_body, octets, end_of_stream=st.booleans())
request = st.builds(lambda begin, rest: [begin, *rest], first, st.lists(body, max_size=8))
conversations = st.lists(message, max_size=12) | request


@given(policies, conversations)
def test_any_messages(policy: Policy, sent: list[bytes]) -> None:
    talk = Exchange(policy, Registry())
    for each in sent:
        before = talk.end
        for reply in said(talk, each):
            assert ProcessingResponse.FromString(reply).WhichOneof("response")
            assert before is None
    assert isinstance(talk.finish(), Status)
    if talk.end is not None and talk.end != OK:
        assert talk.verdict.reason
    talk.over()
    assert policy.ledger.held_bytes == 0


@given(policies, conversations)
def test_routing_headers_always_clear_the_route_cache(policy: Policy, sent: list[bytes]) -> None:
    talk = Exchange(policy, Registry())
    for reply in (reply for each in sent for reply in said(talk, each)):
        answer = ProcessingResponse.FromString(reply)
        kind = answer.WhichOneof("response")
        if kind not in ("request_headers", "request_body"):
            continue
        common = getattr(answer, kind).response
        assert common.clear_route_cache or not common.HasField("header_mutation")
        if kind == "request_headers":  # a client's own routing headers are always overwritten or removed
            assert common.HasField("header_mutation")
