import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.models.registry import BaseModel, Registry
from bbr.telemetry import observed
from bbr.telemetry.observed import ObservedExchange
from bench.harness import messages

TABLE, _ = Registry.merge([BaseModel("qwen", ("sql-lora",))])
HEADERS = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)
LONG = b'{"model": "qwen", "prompt": "' + b"x" * 600_000 + b'"}'


@pytest.fixture
def clock(monkeypatch):
    """Time that goes on by a second with each look at it."""

    class Clock:
        now = 0.0
        looks = 0

        def __call__(self) -> float:
            self.looks += 1
            self.now += 1.0
            return self.now

    found = Clock()
    monkeypatch.setattr(observed, "clock", found)
    return found


def exchange(**policy):
    return ObservedExchange(Policy(Replies(), **policy), TABLE)


def test_it_answers_as_an_exchange(clock):
    plain, timed = Exchange(Policy(Replies()), TABLE), exchange()
    for message in (HEADERS, messages.request_body(b'{"model": "sql-lora"}', end_of_stream=True)):
        assert plain.receive(message) == timed.receive(message)
    assert timed.verdict == plain.verdict


def test_short_body(clock):
    timed = exchange()  # 1
    timed.receive(HEADERS)  # 2
    clock.now = 10.0
    timed.receive(messages.request_body(b'{"model": "sql-lora"}', end_of_stream=True))  # 11, and 12 at the decision
    assert (timed.began, timed.decided, timed.busy_seconds) == (1.0, 12.0, 1.0)


def test_after_the_decision_it_looks_at_no_clock(clock):
    timed = exchange()
    timed.receive(messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED, end_of_stream=True))
    looks = clock.looks
    assert timed.verdict.outcome is Outcome.NO_BODY
    timed.receive(messages.request_body(b"late", end_of_stream=True))
    timed.work()
    assert clock.looks == looks


def test_long_body_adds_up_the_bits_of_work_until_the_decision(clock):
    timed = exchange(stream_threshold_bytes=1000)
    timed.receive(HEADERS)
    timed.receive(messages.request_body(LONG[:10], end_of_stream=False))
    assert timed.decided is None
    timed.receive(messages.request_body(LONG[10:], end_of_stream=True))
    assert timed.pending
    bits = 0
    while timed.decided is None:
        timed.work()
        bits += 1
    assert timed.busy_seconds == bits
    while timed.pending:
        timed.work()
    assert timed.busy_seconds == bits
    assert timed.verdict.outcome is Outcome.ROUTED


def test_bits_of_work_that_decide_nothing_count(clock):
    timed = exchange(stream_threshold_bytes=1000)
    timed.receive(HEADERS)
    timed.receive(messages.request_body(b'{"prompt": "' + b"x" * 2000, end_of_stream=False))
    bits = 0
    while timed.pending:
        timed.work()
        bits += 1
    assert bits
    assert timed.busy_seconds == bits
    assert timed.decided is None


def test_a_body_that_does_not_come_is_decided_by_its_expiry(clock):
    timed = exchange()
    timed.receive(HEADERS)
    clock.now = 60.0
    timed.expire()
    assert (timed.decided, timed.busy_seconds) == (62.0, 1.0)
    timed.expire()
    assert timed.decided == 62.0


def test_the_call_comes_before_the_request_for_a_trace(clock):
    fields = {**messages.JSON_POST, "traceparent": "of the request", "tracestate": "a=1"}
    timed = exchange()
    assert timed.traced()[0] == ""
    timed.receive(messages.request_headers(fields, mode=BodyMode.FULL_DUPLEX_STREAMED))
    for call, traceparent, state in (
        (None, "of the request", "a=1"),
        ({}, "of the request", "a=1"),
        ({"traceparent": "of the call"}, "of the call", ""),
    ):
        timed.call_field = None if call is None else lambda name, call=call: call.get(name, "")
        found, field = timed.traced()
        assert (found, field("tracestate")) == (traceparent, state)
