import logging

import pytest

from bbr import server
from bbr.config import loading
from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.models.entries import BaseModel
from bbr.telemetry import access_log, observed
from bbr.telemetry.access_log import AccessLog, trace_id
from bench.harness import messages
from bench.harness.model_tables import merged

TABLE, _ = merged([BaseModel("qwen", ("sql-lora",))])
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
ROUTED, REFUSED, NO_MODEL = b'{"model": "sql-lora"}', b'{"model": "made-up"}', b"{}"


def ended(body=ROUTED, **fields):
    exchange = Exchange(Policy(Replies()), TABLE, observed.clock)
    headers = {**messages.JSON_POST, **{name.replace("_", "-"): value for name, value in fields.items()}}
    headers[":path"] = headers.pop("path", headers[":path"])
    exchange.receive(messages.request_headers(headers, mode=BodyMode.FULL_DUPLEX_STREAMED))
    if body is not None:
        exchange.receive(messages.request_body(body, end_of_stream=True))
    exchange.over()
    return exchange


def broken():
    exchange = ended()
    exchange.receive(messages.request_headers())
    return exchange


class Later:
    """What is to be called later."""

    def __init__(self):
        self.calls = []

    def __call__(self, seconds, call):
        self.calls.append((seconds, call))


@pytest.fixture
def later():
    return Later()


@pytest.fixture
def written(caplog):
    caplog.set_level(logging.INFO, "bbr.access")
    return lambda: [each.outcome for each in caplog.records if hasattr(each, "outcome")]


def log_of(later, **flags):
    return server.access_log(loading.load(flags, {}), later)


def test_errors_are_logged_and_others_not(written, later):
    log = log_of(later)
    for exchange in (ended(), ended(REFUSED), ended(NO_MODEL), broken(), ended(None)):
        log.ended(exchange)
    assert written() == ["refused", "fault"]


def test_all(written, later):
    log = log_of(later, access_log="all")
    for exchange in (ended(), ended(REFUSED), ended(NO_MODEL), broken(), ended(None)):
        log.ended(exchange)
    assert written() == ["routed", "refused", "no-model", "fault", "pending"]


def test_off(later):
    assert log_of(later, access_log="off") is None


def test_a_sample(written, later, monkeypatch):
    draws = iter((0.3, 0.1, 0.25, 0.2))
    monkeypatch.setattr(access_log.random, "random", lambda: next(draws))
    log = log_of(later, access_log="0.25")
    for body in (ROUTED, ROUTED, REFUSED, NO_MODEL, NO_MODEL):
        log.ended(ended(body))
    assert written() == ["routed", "refused", "no-model"]


def test_a_sample_is_as_large_as_it_is_said_to_be(written, later, monkeypatch):
    generator = access_log.random.Random(7)
    monkeypatch.setattr(access_log.random, "random", generator.random)
    log = log_of(later, access_log="0.1", access_log_rate="0")
    exchange = ended()
    for _ in range(5000):
        log.ended(exchange)
    assert 440 <= len(written()) <= 560


def test_the_trace_is_the_gateways_if_it_names_one():
    exchange = ended(traceparent=TRACEPARENT)
    exchange.call = {b"traceparent": b"00-%s-%s-00" % (b"1" * 32, b"2" * 16)}
    assert access_log.record(exchange, 256)["trace_id"] == "1" * 32
    exchange.call = {}
    assert access_log.record(exchange, 256)["trace_id"] == TRACE


def test_record_of_a_routed_request(caplog, later):
    caplog.set_level(logging.INFO)
    exchange = ended(x_request_id="1b9d-7", traceparent=TRACEPARENT, path="/v1/chat/completions?api_key=secret")
    exchange.times.began, exchange.times.decided, exchange.times.busy_seconds = 5.0, 5.0123456, 0.00002345
    log_of(later, access_log="all").ended(exchange)
    (record,) = caplog.records
    assert (record.levelname, record.name, record.getMessage()) == ("INFO", "bbr.access", "request routed")
    assert access_log.record(exchange, 256) == {
        "outcome": "routed",
        "model": "sql-lora",
        "base_model": "qwen",
        "method": "POST",
        "path": "/v1/chat/completions",
        "body_bytes": 21,
        "early": False,
        "duration_ms": 12.346,
        "busy_us": 23.4,
        "request_id": "1b9d-7",
        "trace_id": TRACE,
    }


def test_record_of_a_request_in_a_scope():
    exchange = ended()
    assert "scope" not in access_log.record(exchange, 256)
    exchange.verdict.scope = "team-a"
    assert access_log.record(exchange, 256)["scope"] == "team-a"


def test_record_of_a_refused_request_has_its_reason(caplog, later):
    caplog.set_level(logging.INFO)
    log_of(later).ended(ended(REFUSED))
    (record,) = caplog.records
    assert (record.outcome, record.reason, record.model) == ("refused", "model-not-found", "made-up")
    assert not hasattr(record, "base_model")
    assert not hasattr(record, "trace_id")


def test_a_broken_stream_is_a_warning(caplog, later):
    log_of(later).ended(broken())
    (record,) = caplog.records
    assert (record.levelname, record.reason) == ("WARNING", "headers-twice")


def test_what_was_never_decided_has_no_duration():
    fields = access_log.record(ended(None), 256)
    assert fields["outcome"] == "pending"
    assert not {"duration_ms", "busy_us", "model", "reason", "request_id", "trace_id"} & fields.keys()


def test_what_a_client_writes_is_bounded():
    fields = access_log.record(
        ended(b'{"model": "%s"}' % (b"m" * 200), path="/" + "p" * 5000, x_request_id="r" * 5000), 100
    )
    assert (len(fields["model"]), len(fields["path"]), len(fields["request_id"])) == (100, 256, 128)


PATHS = [
    pytest.param("/v1/models", "/v1/models", id="as it is"),
    pytest.param("/v1/x?key=secret", "/v1/x", id="a query"),
    pytest.param("/v1/x#secret", "/v1/x", id="a fragment"),
    pytest.param("/v1/x;key=secret", "/v1/x", id="a parameter"),
    pytest.param("/v1/x%3Fkey=secret", "/v1/x", id="an escaped question mark"),
    pytest.param("/v1/x%3fkey=secret", "/v1/x", id="an escaped question mark, small"),
    pytest.param("/v1/x%3bkey=secret", "/v1/x", id="an escaped semicolon"),
    pytest.param("/v1/x%23secret", "/v1/x", id="an escaped number sign"),
    pytest.param("https://user:secret@host/v1", None, id="an absolute form"),
    pytest.param("?key=secret", None, id="a query alone"),
    pytest.param("/é\n", "/\\xc3\\xa9\n", id="no ASCII"),
    pytest.param("/" + "é" * 30_000, "/" + "\\xc3\\xa9" * 31 + "\\xc3\\xa9"[:7], id="a long one that is no ASCII"),
]


@pytest.mark.parametrize(("path", "logged"), PATHS)
def test_path(path, logged):
    assert access_log.record(ended(path=path), 256).get("path") == logged


TRACES = [
    pytest.param(TRACEPARENT, TRACE, id="as it must be"),
    pytest.param(f"00-{TRACE}-00f067aa0ba902b7-00", TRACE, id="not sampled"),
    pytest.param(f"01-{TRACE}-00f067aa0ba902b7-01-more", TRACE, id="a later version with more"),
    pytest.param(f"01-{TRACE}-00f067aa0ba902b7-01", TRACE, id="a later version"),
    pytest.param("", "", id="none"),
    pytest.param(f"ff-{TRACE}-00f067aa0ba902b7-01", "", id="the version that is none"),
    pytest.param(f"00-{TRACE}-00f067aa0ba902b7-01-more", "", id="more than version 00 has"),
    pytest.param(f"01-{TRACE}-00f067aa0ba902b7-01more", "", id="more without a dash"),
    pytest.param(f"00-{'0' * 32}-00f067aa0ba902b7-01", "", id="a trace of zeros"),
    pytest.param(f"00-{TRACE}-{'0' * 16}-01", "", id="a parent of zeros"),
    pytest.param(f"00-{TRACE.upper()}-00f067aa0ba902b7-01", "", id="capitals"),
    pytest.param(f"00-{TRACE[:-1]}-00f067aa0ba902b7-01", "", id="too short"),
    pytest.param(f"00-{TRACE}-00f067aa0ba902b7-01\n", "", id="a line's end"),
    pytest.param("Bearer secret", "", id="something else"),
]


@pytest.mark.parametrize(("field", "found"), TRACES)
def test_trace_id(field, found):
    assert trace_id(field) == found


def test_lines_of_a_second_are_bounded_and_what_is_left_out_is_told(written, later, caplog, monkeypatch):
    now = 100.0
    monkeypatch.setattr(observed, "clock", lambda: now)
    log = AccessLog(1.0, 3, 256, later)
    refused, routed = ended(REFUSED), ended()
    for _ in range(5):
        log.ended(refused)
    for _ in range(4):
        log.ended(routed)
    assert written() == ["refused"] * 3 + ["routed"] * 3
    ((seconds, tell),) = later.calls
    assert seconds == 1.0
    tell()
    sentence = "records of {} requests were left out: more than --access-log-rate in a second"
    assert caplog.messages[6:] == [f"2 {sentence.format('refused')}", f"1 {sentence.format('other')}"]
    assert [each.left_out for each in caplog.records[6:]] == [2, 1]
    now = 101.0
    for _ in range(4):
        log.ended(refused)
    assert written()[6:] == ["refused"] * 3
    assert len(later.calls) == 2
    log.close()
    assert caplog.records[-1].left_out == 1
    before = len(caplog.records)
    log.close()
    assert len(caplog.records) == before


def test_without_a_bound_all_are_written(written, later):
    log = log_of(later, access_log="all", access_log_rate="0")
    exchange = ended()
    for _ in range(500):
        log.ended(exchange)
    log.close()
    assert len(written()) == 500
    assert later.calls == []
