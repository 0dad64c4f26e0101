import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.exchange.times import Times, stopped
from bbr.exchange.verdict import Outcome
from bench.harness import messages
from bench.harness.conversation import FDS, TABLE
from tests.support.clock import Clock

HEADERS = messages.request_headers(mode=FDS)
WHOLE = messages.request_body(b'{"model": "foo"}', end_of_stream=True)
LONG = b'{"model": "qwen", "prompt": "' + b"x" * 600_000 + b'"}'


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0, step=1.0)


def exchange(clock: Clock, **policy: object) -> Exchange:
    return Exchange(Policy(Replies(), **policy), TABLE, clock)  # type: ignore[arg-type]


def test_what_was_spent_before_the_decision_adds_up(clock: Clock) -> None:
    times = Times(clock)  # 1
    times.busy_seconds = 3.0
    times.since = 5.0
    clock.now = 6.0
    times.decide()  # 7
    assert (times.began, times.decided, times.busy_seconds) == (1.0, 7.0, 5.0)


def test_a_response_is_timed_by_its_first_piece(clock: Clock) -> None:
    talk = exchange(clock)  # 1
    talk.receive(HEADERS)
    talk.receive(WHOLE)
    assert talk.times.responded is None
    talk.receive(messages.response_headers())
    assert talk.times.responded is None
    looks = clock.looks
    talk.receive(messages.response_body(b"data: 1\n\n"))
    assert (talk.times.responded, clock.looks) == (clock.now, looks + 1)
    talk.receive(messages.response_body(b"data: 2\n\n", end_of_stream=True))
    assert (talk.times.responded, clock.looks) == (clock.now, looks + 1)


def test_without_a_clock_no_time_goes_by() -> None:
    talk = Exchange(Policy(Replies()), TABLE)
    talk.receive(HEADERS)
    talk.receive(WHOLE)
    assert stopped() == 0.0
    assert (talk.times.began, talk.times.decided, talk.times.busy_seconds) == (0.0, 0.0, 0.0)


def test_a_short_body(clock: Clock) -> None:
    talk = exchange(clock)  # 1
    talk.receive(HEADERS)  # 2
    clock.now = 10.0
    talk.receive(WHOLE)  # 11, and 12 at the decision
    assert (talk.times.began, talk.times.decided, talk.times.busy_seconds) == (1.0, 12.0, 1.0)


def test_nobody_looks_at_the_clock_after_the_decision(clock: Clock) -> None:
    talk = exchange(clock)
    talk.receive(messages.request_headers(mode=FDS, end_of_stream=True))
    looks = clock.looks
    assert talk.verdict.outcome is Outcome.NO_BODY
    talk.receive(messages.request_body(b"late", end_of_stream=True))
    talk.work()
    assert clock.looks == looks


def test_a_long_body_adds_up_the_bits_of_work_until_the_decision(clock: Clock) -> None:
    talk = exchange(clock, stream_threshold_bytes=1000)
    talk.receive(HEADERS)
    talk.receive(messages.request_body(LONG[:10], end_of_stream=False))
    assert talk.times.decided is None
    talk.receive(messages.request_body(LONG[10:], end_of_stream=True))
    assert talk.pending
    bits = 0
    while talk.times.decided is None:
        talk.work()
        bits += 1
    assert talk.times.busy_seconds == bits
    while talk.pending:
        talk.work()
    assert talk.times.busy_seconds == bits
    assert talk.verdict.outcome is Outcome.ROUTED


def test_bits_of_work_that_decide_nothing_count(clock: Clock) -> None:
    talk = exchange(clock, stream_threshold_bytes=1000)
    talk.receive(HEADERS)
    talk.receive(messages.request_body(b'{"prompt": "' + b"x" * 2000, end_of_stream=False))
    bits = 0
    while talk.pending:
        talk.work()
        bits += 1
    assert bits
    assert talk.times.busy_seconds == bits
    assert talk.times.decided is None


def test_a_body_that_does_not_come_is_decided_by_its_expiry(clock: Clock) -> None:
    talk = exchange(clock)
    talk.receive(HEADERS)
    clock.now = 60.0
    talk.expire()
    assert (talk.times.decided, talk.times.busy_seconds) == (62.0, 1.0)
    talk.expire()
    assert talk.times.decided == 62.0
