"""Whatever a gateway sends, in whatever order, an exchange answers or ends; it never raises."""

from hypothesis import given
from hypothesis import strategies as st

from bbr.exchange import Exchange
from bbr.pb.ext_proc_pb2 import ProcessingResponse
from bbr.policy import BodyMode, Policy
from bbr.registry import Registry
from bbr.replies import Replies
from bbr.status import OK, Status
from tests.support import messages
from tests.support.exchanges import said

POLICY = Policy(Replies(), max_body_bytes=64)
modes = st.none() | st.sampled_from(BodyMode)
headers = st.lists(
    st.tuples(
        st.sampled_from([":method", "content-type", "content-length", "upgrade", "x"]),
        st.sampled_from([b"", b"CONNECT", b"application/json", b"audio/wav", b"7", b"70", b"\xff", b"9" * 40]),
    ),
    max_size=4,
)
octets = st.sampled_from([b"", b'{"model":"a"}', b'{"model":', b'"a"}', b"x" * 40]) | st.binary(max_size=20)
message = st.one_of(
    st.binary(max_size=30),
    st.builds(messages.request_headers, headers, end_of_stream=st.booleans(), mode=modes, response_mode=modes),
    st.builds(messages.request_body, octets, end_of_stream=st.booleans(), mode=modes),
    st.builds(messages.request_trailers, mode=modes),
    st.builds(messages.response_headers, mode=modes, response_mode=modes),
    st.builds(messages.response_body, octets, end_of_stream=st.booleans(), response_mode=modes),
    st.builds(messages.response_trailers, mode=modes),
)


@given(st.lists(message, max_size=12))
def test_any_messages(sent: list[bytes]) -> None:
    talk = Exchange(POLICY, Registry())
    for each in sent:
        before = talk.end
        for reply in said(talk, each):
            assert ProcessingResponse.FromString(reply).WhichOneof("response")
            assert before is None
    assert isinstance(talk.finish(), Status)
    if talk.end is not None and talk.end != OK:
        assert talk.verdict.reason


@given(st.lists(message, max_size=12))
def test_routing_headers_always_clear_the_route_cache(sent: list[bytes]) -> None:
    talk = Exchange(POLICY, Registry())
    for reply in (reply for each in sent for reply in said(talk, each)):
        answer = ProcessingResponse.FromString(reply)
        kind = answer.WhichOneof("response")
        if kind not in ("request_headers", "request_body"):
            continue
        common = getattr(answer, kind).response
        assert common.clear_route_cache or not common.HasField("header_mutation")
        if kind == "request_headers":  # a client's own routing headers are always overwritten or removed
            assert common.HasField("header_mutation")
