import time

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.models.registry import Registry
from bbr.telemetry import observed
from bench.harness import messages

FIELDS = {**messages.JSON_POST, "traceparent": "of the request", "tracestate": "a=1"}


def test_the_clock_is_pythons_finest():
    assert observed.clock is time.perf_counter


def test_a_request_without_a_trace():
    assert observed.traced(Exchange(Policy(Replies()), Registry()))[0] == ""


def test_the_call_comes_before_the_request_for_a_trace():
    exchange = Exchange(Policy(Replies()), Registry())
    exchange.receive(messages.request_headers(FIELDS, mode=BodyMode.FULL_DUPLEX_STREAMED))
    for call, traceparent, state in (
        (None, "of the request", "a=1"),
        ({}, "of the request", "a=1"),
        ({b"traceparent": b"of the call"}, "of the call", ""),
        ({b"traceparent": b"of the call", b"tracestate": b"b=\xff"}, "of the call", "b=\\xff"),
    ):
        exchange.call = call
        found, field = observed.traced(exchange)
        assert (found, field("tracestate")) == (traceparent, state)
