import random

import pytest

from bbr.exchange.body import Body
from bbr.exchange.go_router import GoRouter
from bbr.exchange.ledger import Ledger
from bbr.exchange.policy import OverLimit, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.reading.coerced import CoercedReading
from bbr.refusal import Refusal
from bench.harness.conversation import BODY, BUFFERED, FDS, assert_routes, converse, echoed, exchange
from bench.harness.messages import JSON_POST, request_body, request_headers, set_headers


def body_of(ledger: Ledger | None = None, **policy: object) -> Body:
    made = Policy(Replies(), ledger or Ledger(1 << 20), **policy)  # type: ignore[arg-type]
    return Body(made, True, 0)


@pytest.mark.parametrize("pieces", [[b""], [BODY], [BODY[:9], BODY[9:]], [b"", BODY[:1], b"", BODY[1:], b""]])
def test_a_short_body_is_joined_once_it_has_ended(pieces: list[bytes]) -> None:
    body = body_of()
    for piece in pieces:
        assert body.add(piece) is None
    assert body.model() == ("qwen" if any(pieces) else None)
    assert (body.take(), body.size) == (b"".join(pieces), len(b"".join(pieces)))


def test_it_is_read_as_it_comes_from_the_threshold_on() -> None:
    body = body_of(stream_threshold_bytes=20)
    assert body.add(BODY[:20]) is None
    long = body.add(BODY[20:])
    assert long is body.long is body.add(b"")
    assert long is not None
    long.close()
    while not long.work():
        pass
    assert body.model() == "qwen"


def test_a_long_body_is_read_by_the_convention() -> None:
    body = Body(Policy(Replies(GoRouter()), stream_threshold_bytes=1), False, 0)
    long = body.add(b'{"model":7}')
    assert long is not None
    long.close()
    while not long.work():
        pass
    assert body.model() == "7"
    assert type(long._reading) is CoercedReading


def test_pieces_of_a_few_octets_are_joined() -> None:
    body = body_of()
    rng = random.Random(1)
    sent = b""
    while len(sent) < 50_000:
        piece = bytes(rng.randrange(0, 8))
        sent += piece
        body.add(piece)
    assert len(body._pieces) < 50
    with pytest.raises(Refusal):
        body.model()
    assert body.take() == sent


def test_a_message_that_is_too_large_is_refused_at_its_prefix() -> None:
    body = body_of(Ledger(10 << 20), max_body_bytes=1000)
    body.add(bytes(500))
    body.expect(500 + (1 << 20), read=True, in_flight=False)
    with pytest.raises(Refusal, match="1000"):
        body.expect(501 + (1 << 20), read=True, in_flight=False)
    body.expect(501 + (1 << 20), read=False, in_flight=False)
    body = body_of(Ledger(10 << 20), max_body_bytes=1000, over_limit=OverLimit.PASS)
    body.expect(5 << 20, read=True, in_flight=False)


def test_what_it_has_reserved_is_given_back() -> None:
    ledger = Ledger(1 << 20)
    body = body_of(ledger)
    body.add(BODY)
    body.settle()
    assert ledger.held_bytes == len(BODY)
    body.expect(1000, read=True, in_flight=False)
    assert ledger.held_bytes == len(BODY) + 1000
    body.drop()
    assert (ledger.held_bytes, ledger.peak_bytes) == (0, len(BODY) + 1000)
    body.drop()
    assert ledger.held_bytes == 0


class TestLedger:
    def test_no_room_for_a_short_body(self) -> None:
        ledger = Ledger(10)
        talk = exchange(ledger=ledger)
        answers = converse(talk, request_headers(mode=FDS), request_body(BODY))
        assert answers[-1].immediate_response.status.code == 503
        assert answers[-1].immediate_response.details == "bbr:no-room"
        assert set_headers(answers[-1].immediate_response.headers)["retry-after"] == b"1"
        assert (ledger.held_bytes, ledger.refused) == (0, 1)

    def test_a_body_whose_model_is_unknown_reserves_its_announced_length(self) -> None:
        ledger = Ledger(1000)
        talk = exchange(ledger=ledger, stream_threshold_bytes=10)
        converse(talk, request_headers({**JSON_POST, "content-length": "900"}, mode=FDS))
        converse(talk, request_body(b'{"x":"' + b"y" * 50))
        assert ledger.held_bytes == 900
        other = exchange(ledger=ledger, stream_threshold_bytes=10)
        answers = converse(
            other,
            request_headers({**JSON_POST, "content-length": "500"}, mode=FDS),
            request_body(b'{"x":"' + b"y" * 50),
        )
        assert answers[-1].immediate_response.details == "bbr:no-room"
        assert ledger.held_bytes == 900
        talk.over()
        assert ledger.held_bytes == 0

    def test_a_routed_body_finishes_though_there_is_no_room(self) -> None:
        ledger = Ledger(100)
        talk = exchange(ledger=ledger, stream_threshold_bytes=10)
        body = b'{"model":"qwen","x":"' + b"y" * 40
        assert_routes(converse(talk, request_headers(mode=FDS), request_body(body))[0], "qwen", "qwen")
        ledger.take(100)
        rest = b"z" * 500 + b'"}'
        answers = [*converse(talk, request_body(rest[:300])), *converse(talk, request_body(rest[300:]))]
        answers += converse(talk, request_body(b"", end_of_stream=True))
        assert echoed(answers)[1][-1]
        assert (talk.verdict.outcome, ledger.held_bytes) == (Outcome.ROUTED, 100)

    def test_a_long_message_is_reserved_before_it_comes(self) -> None:
        ledger = Ledger(1 << 20)
        talk = exchange(ledger=ledger)
        assert talk.expect(500_000) == ()  # no request yet
        converse(talk, request_headers(mode=BUFFERED))
        assert talk.expect(500_000) == ()
        assert ledger.held_bytes == 500_000
        other = exchange(ledger=ledger)
        converse(other, request_headers(mode=BUFFERED))
        assert len(other.expect(600_000)) == 1
        assert (other.verdict.reason, ledger.held_bytes) == ("no-room", 500_000)
        assert other.expect(1) == ()
        assert_routes(converse(talk, request_body(BODY, end_of_stream=True))[0], "qwen", "qwen")
        assert ledger.held_bytes == 0

    def test_a_message_over_the_limit_is_refused_at_its_prefix(self) -> None:
        talk = exchange(max_body_bytes=1000)
        converse(talk, request_headers(mode=BUFFERED))
        assert talk.expect(1_000_000) == ()
        assert len(talk.expect(1_100_000)) == 1
        assert talk.verdict.reason == "body-too-large"

    def test_messages_of_a_body_that_passes_are_counted_and_let_go(self) -> None:
        ledger = Ledger(100)
        talk = exchange(ledger=ledger)
        converse(talk, request_headers({**JSON_POST, "content-type": "audio/wav"}, mode=FDS))
        assert talk.expect(70_000) == ()
        assert ledger.held_bytes == 70_000
        assert echoed(converse(talk, request_body(b"x")))[0] == b"x"
        assert ledger.held_bytes == 0
