from hashlib import sha256

from bbr.exchange.convention import Ours
from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.models.registry import Registry
from bbr.reading.fields import BodyField, BodyFields
from bbr.telemetry.access_log import record
from bbr.telemetry.field_counts import ABSENT, FOUND, LATE, REFUSED, FieldCounts, logged
from bench.harness.conversation import FDS, converse
from bench.harness.messages import request_body, request_headers

FIELDS = BodyFields(
    [
        BodyField("user", "X-User"),
        BodyField("metadata.id", "X-Id", hashed=True, logged=True),
        BodyField("stream", "x-s", early=True, logged=True),
    ],
    30,
)
POLICY = Policy(Replies(Ours(fields=FIELDS)), stream_threshold_bytes=30)


def ended(body: bytes | None) -> Exchange:
    talk = Exchange(POLICY, Registry())
    messages = [request_headers(mode=FDS, end_of_stream=body is None)]
    converse(talk, *messages, *([] if body is None else [request_body(body, end_of_stream=True)]))
    talk.over()
    return talk


def counted(*bodies: bytes | None) -> dict[tuple[int, str], int]:
    counts = FieldCounts(FIELDS)
    for body in bodies:
        counts.ended(ended(body))
    return {key: number for key, number in counts.requests.items() if number}


def test_found_absent_and_late() -> None:
    assert counted(b'{"user":"a","metadata":{"id":"b"},"stream":true}', b'{"stream":true}') == {
        (0, FOUND): 1,
        (1, FOUND): 1,
        (2, LATE): 1,
        (0, ABSENT): 1,
        (1, ABSENT): 1,
        (2, FOUND): 1,
    }


def test_refused_for_the_one_at_fault() -> None:
    assert counted(b'{"user":[]}', b'{"metadata":7}', b'{"metadata":{"id":[]}}') == {(0, REFUSED): 1, (1, REFUSED): 2}


def test_what_is_not_read_counts_nowhere() -> None:
    assert counted(None, b"{", b'{"model":7}') == {}


def test_the_access_log_tells_what_is_to_be_logged_as_the_header_has_it() -> None:
    talk = ended(b'{"user":"a","metadata":{"id":"b"}}')
    expected = {"x-id": sha256(b"b").hexdigest()}
    assert logged(talk) == record(talk, 256)["fields"] == expected
    for body in (None, b"{}", b'{"stream":[]}'):
        talk = ended(body)
        assert logged(talk) == {}
        assert "fields" not in record(talk, 256)
    early = ended(b'{"stream":true}')
    assert logged(early) == {"x-s": "true"}
