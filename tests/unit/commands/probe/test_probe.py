import json
from dataclasses import replace

import pytest

from bbr.commands.probe import probe
from bbr.commands.probe.probe import ProbeOptions
from bbr.commands.probe.wire import Address, Tls
from bbr.models.registry import Registry
from bbr.pb.ext_proc_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    HeaderValue,
    HeaderValueOption,
    ImmediateResponse,
    ProcessingResponse,
    StreamedBodyResponse,
)
from bench.harness.background import Background
from bench.harness.in_process_router import QWEN, Router
from bench.harness.ports import REFUSING_PORT
from tests.support.scripted_servers import grpc_server, speaking
from tests.support.uv_server import CREDENTIALS


@pytest.fixture(scope="module")
def background():
    with Background() as running:
        yield running


@pytest.fixture(params=["uv", "grpcio"])
def transport(request):
    return request.param


@pytest.fixture
def router(background, transport):
    running = Router(background, transport=transport)
    yield running
    running.stop()


def at(port, **more):
    return ProbeOptions(address=Address("127.0.0.1", port), **more)


@pytest.mark.parametrize("mode", probe.MODES)
def test_a_model_that_is_routed(router, mode):
    report = probe.probe(at(router.port, model="sql-lora", mode=mode))
    assert report.problems == []
    assert report.health == "SERVING"
    assert report.exchange.sets == [
        ("X-Gateway-Model-Name", b"sql-lora"),
        ("X-Gateway-Base-Model-Name", QWEN.encode()),
    ]
    assert "x-gateway-destination-endpoint" in report.exchange.removes
    assert (report.exchange.clears, report.exchange.intact) == (True, True)
    assert router.verdicts()[0].model == "sql-lora"


def test_without_a_model_an_unknown_one_is_a_healthy_answer(router):
    report = probe.probe(at(router.port))
    assert report.problems == []
    assert report.exchange.immediate.status.code == 404


def test_a_model_that_is_asked_for_must_be_routed(router):
    report = probe.probe(at(router.port, model="nobody"))
    assert report.problems == [f"127.0.0.1:{router.port}: it answered 404 (bbr:model-not-found) and routed nothing"]


def test_tls(background, transport):
    router = Router(background, Registry(), transport=transport, credentials=CREDENTIALS)
    try:
        asked = at(router.port, tls=Tls(), model="any")
        report = probe.probe(asked)
        assert report.problems == []
        assert report.handshake == ("TLSv1.3", "h2", CREDENTIALS.fingerprint)
        shown = probe.text(report)
        assert "TLSv1.3, ALPN h2; the certificate is NOT VERIFIED, since no --tls-ca is given" in shown
        assert CREDENTIALS.fingerprint in shown
        assert json.loads(probe.as_json(report))["tls"]["verified"] is False
        assert "give --tls" in probe.probe(replace(asked, tls=None)).problems[0]
    finally:
        router.stop()


def common(*fields, clear=True, removes=(), **more):
    options = [HeaderValueOption(header=HeaderValue(key=name, raw_value=value)) for name, value in fields]
    mutation = HeaderMutation(set_headers=options, remove_headers=removes)
    return CommonResponse(header_mutation=mutation, clear_route_cache=clear, **more)


def to_headers(*fields, **more):
    return ProcessingResponse(request_headers=HeadersResponse(response=common(*fields, **more)))


def to_body(octets=None, *fields, end=True, **more):
    if octets is not None:
        streamed = StreamedBodyResponse(body=octets, end_of_stream=end)
        more["body_mutation"] = BodyMutation(streamed_response=streamed)
    return ProcessingResponse(request_body=BodyResponse(response=common(*fields, clear=False, **more)))


MODEL = ("X-Gateway-Model-Name", b"m")
BASE = ("X-Gateway-Base-Model-Name", b"b")
SENT = probe._chat("m")
REFUSED = ProcessingResponse(immediate_response=ImmediateResponse(status={"code": 503}, body=b"\x1b full"))
ALL_OF_IT = BodyMutation(body=SENT)

# What a server answers to a request for model m, in full duplex, and what is to be said of it.
FULL_DUPLEX = {
    "as the Go routers": ([to_headers(("Content-Length", b"9"), MODEL, BASE), to_body(SENT)], ""),
    "in pieces": ([to_headers(MODEL, BASE), to_body(SENT[:9], end=False), to_body(SENT[9:])], ""),
    "in one message": (
        [to_headers(MODEL, BASE, status=CommonResponse.CONTINUE_AND_REPLACE, body_mutation=ALL_OF_IT)],
        "",
    ),
    "under a name of the operator's": ([to_headers(("x-model", b"m")), to_body(SENT)], ""),
    "an empty base model": ([to_headers(MODEL, (BASE[0], b"")), to_body(SENT)], "m is not routed"),
    "no header": ([to_headers(), to_body(SENT)], "m is not routed"),
    "another header": ([to_headers(("x-other", b"x")), to_body(SENT)], "m is not routed"),
    "no clear_route_cache": ([to_headers(MODEL, clear=False), to_body(SENT)], "without clear_route_cache"),
    "another body": ([to_headers(MODEL), to_body(SENT + b" ")], "the body did not come back as it was sent"),
    "a body without end": (
        [to_headers(MODEL), to_body(bytes(60_000), end=False), to_body(bytes(60_000), end=False)],
        "it gave back more than 120000 bytes of a body of",
    ),
    "the body first": (
        [to_body(SENT)],
        "its first answer is request_body, where an answer to the headers was expected",
    ),
    "nothing": ([ProcessingResponse()], "its first answer is not a message of an ext_proc server"),
    "the headers twice": ([to_headers(MODEL), to_headers(MODEL)], "it answered the body with request_headers"),
    "as in buffered": ([to_headers(), to_body(None, MODEL)], "it does not speak full duplex"),
    "a refusal": ([REFUSED], "it answered 503 (without details) and routed nothing"),
    "a late refusal": ([to_headers(MODEL), REFUSED], "it answered 503"),
    "an early end": ([to_headers(MODEL)], "the call ended with gRPC status 0"),
}


def answering(answers, *, awaited=False):
    """Return a server's method; `awaited`, each answer waits for a message."""

    def process(requests, _context):
        for answer in answers:
            if awaited:
                next(requests)
            yield answer if isinstance(answer, bytes) else answer.SerializeToString()

    return process


def judged(answers, mode="full-duplex", **more):
    with grpc_server(answering(answers, awaited=mode == "buffered")) as port:
        report = probe.probe(at(port, model="m", mode=mode, **more))
    return report.problems


def assert_judged(problems, said):
    assert len(problems) == bool(said)
    assert all(said in problem for problem in problems)


@pytest.mark.parametrize(("answers", "said"), FULL_DUPLEX.values(), ids=FULL_DUPLEX)
def test_full_duplex_of_another_server(answers, said):
    assert_judged(judged(answers), said)


BUFFERED = {
    "as the Go routers": ([to_headers(clear=False), to_body(None, MODEL, BASE)], "without clear_route_cache"),
    "headers with the body's answer": ([to_headers(), to_body(None, MODEL, BASE)], ""),
    "the body written again": ([to_headers(MODEL), to_body(None, body_mutation=ALL_OF_IT)], ""),
    "another body": (
        [to_headers(MODEL), to_body(None, body_mutation=BodyMutation(clear_body=True))],
        "did not come back",
    ),
    "as in full duplex": ([to_headers(MODEL), to_body(SENT)], "it does not speak buffered"),
}


@pytest.mark.parametrize(("answers", "said"), BUFFERED.values(), ids=BUFFERED)
def test_buffered_of_another_server(answers, said):
    assert_judged(judged(answers, "buffered"), said)


def test_an_answer_that_is_no_message():
    assert_judged(judged([b"\xff"]), "its answer is not a ProcessingResponse")


GOOD = [to_headers(MODEL, BASE), to_body(SENT)]
HEALTH = {
    "SERVING": ("SERVING", "SERVING", ""),
    "NOT_SERVING": ("NOT_SERVING", "NOT_SERVING", "its health is NOT_SERVING"),
    "broken": ("broken", "failed", r"the health check failed: the call ended with gRPC status 13: out of order\n"),
    "none": (None, "not offered", ""),
}


@pytest.mark.parametrize(("health", "found", "said"), HEALTH.values(), ids=HEALTH)
def test_health(health, found, said):
    with grpc_server(answering(GOOD), health) as port:
        report = probe.probe(at(port, model="m"))
    assert report.health == found
    assert report.exchange.intact
    assert_judged(report.problems, said)
    assert f"health      {found} (" in probe.text(report)


def test_health_at_an_address_of_its_own():
    with grpc_server(answering(GOOD), None) as port, grpc_server(answering([]), "NOT_SERVING") as other:
        asked = at(port, model="m", health_address=Address("127.0.0.1", other))
        assert probe.probe(asked).problems == [f"127.0.0.1:{other}: its health is NOT_SERVING"]
        none = probe.probe(replace(asked, health_address=asked.address))
        assert_judged(none.problems, f"127.0.0.1:{port}: the health check failed: the call ended with gRPC status 12")


def test_health_alone():
    with grpc_server(answering([]), "SERVING") as port, grpc_server(answering([]), "NOT_SERVING") as sick:
        report = probe.probe(ProbeOptions(health_address=Address("127.0.0.1", port)))
        other = probe.probe(ProbeOptions(health_address=Address("127.0.0.1", sick)))
    assert (report.health, report.problems, report.exchange) == ("SERVING", [], None)
    lines = [line.split(" (")[0] for line in probe.text(report).splitlines()]
    assert lines == [f"127.0.0.1:{port}: healthy", "  health      SERVING"]
    found = json.loads(probe.as_json(report))
    assert (found["address"], found["health"]["status"], found["exchange"]) == (f"127.0.0.1:{port}", "SERVING", None)
    assert other.problems == [f"127.0.0.1:{sick}: its health is NOT_SERVING"]


def test_a_dead_port_is_named_with_its_reason():
    port = REFUSING_PORT
    report = probe.probe(at(port))
    assert report.problems == [f"127.0.0.1:{port}: can't connect: Connection refused"]
    assert probe.text(report) == f"127.0.0.1:{port}: unhealthy\n  {report.problems[0]}.\n"
    assert json.loads(probe.as_json(report))["exchange"] is None


def test_a_server_that_never_answers():
    with speaking(b"") as port:
        report = probe.probe(at(port, timeout_seconds=0.1))
    assert report.problems == [f"127.0.0.1:{port}: no answer within 0.1 s"]


def test_text(router):
    report = probe.probe(at(router.port, model="sql-lora"))
    lines = [line.split(" (")[0] for line in probe.text(report).splitlines()]
    assert lines[0] == f"127.0.0.1:{router.port}: healthy"
    assert lines[2:] == [
        "  health      SERVING",
        "  exchange    full-duplex, for model sql-lora",
        "  sets        X-Gateway-Model-Name: sql-lora",
        f"  sets        X-Gateway-Base-Model-Name: {QWEN}",
        "  removes     x-gateway-destination-endpoint",
        "  route cache cleared",
        "  body        66 of 66 bytes came back, intact",
    ]


def test_a_refusal_is_shown_without_control_characters():
    with grpc_server(answering([REFUSED])) as port:
        report = probe.probe(at(port))
    assert "  answered    503\n  with        \\x1b full\n" in probe.text(report)


def test_json(router):
    found = json.loads(probe.as_json(probe.probe(at(router.port))))
    assert (found["healthy"], found["problems"], found["tls"]) == (True, [], None)
    assert found["health"]["status"] == "SERVING"
    assert found["exchange"]["immediate_response"]["status"] == 404
    assert found["exchange"]["body_intact"] is None


def test_an_unreadable_health_answer(monkeypatch):
    with grpc_server(answering(GOOD)) as port:
        monkeypatch.setattr(probe, "_check", lambda _client: b"\xff")
        assert_judged(probe.probe(at(port, model="m")).problems, "its health is unreadable")
