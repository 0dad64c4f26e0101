"""Through a real Envoy: requests that would be routed as one model and read as another reach no model server."""

from collections.abc import Callable, Iterator

import pytest

from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.reading.paths import PathFilter, PathPattern
from bbr.reading.templates import parse_templates
from bench.harness import http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from tests.integration.conftest import Setup
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]
CHAT = "/v1/chat/completions"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
NAMED = b'{"model":"sql-lora"}'
OTHER = b"microsoft/Phi-3-mini-4k-instruct"


@pytest.fixture(scope="module")
def router(request: pytest.FixtureRequest, background: Background) -> Iterator[Router]:
    policy = Policy(
        Replies(),
        path_templates=parse_templates("/model/{model}/invoke /**/models/{model}:*"),
        paths=PathFilter((PathPattern(CHAT), PathPattern("/model/**"), PathPattern("/**/models/**"))),
    )
    router = Router(background, policy=policy, transport=request.param)
    yield router
    router.stop()


@pytest.fixture(params=MODES)
def setup(request: pytest.FixtureRequest, gateways: Callable[..., Setup]) -> Setup:
    return gateways(request.param)


REFUSED = {
    "a comma in a type": (
        CHAT,
        f"{FORM}; x=a,application/json",
        b'{"model":"sql-lora","x":"&model=b&y="}',
        "form-model",
    ),
    "a charset of JSON": (
        CHAT,
        "application/json; charset=utf-7",
        b'{"model":"sql-lora","+AG0-odel":"b"}',
        "charset-unknown",
    ),
    "brackets in JSON by curl": (CHAT, FORM, b'{"model":"sql-lora","x":"&[model]=b&y="}', "form-model"),
    "brackets in a form": (CHAT, FORM, b"model=sql-lora&[model]=b", "form-model"),
    "an eighth bit": (CHAT, FORM, b"x=\xa6model=b&model=sql-lora", "form-model"),
    "encoded twice": (CHAT, FORM, b"model=sql-lora&%256dodel=b", "form-model"),
    "a mark before a part's name": (
        CHAT,
        MULTIPART,
        PART % (b"model", b"sql-lora") + PART % (b"\xef\xbb\xbfmodel", b"b") + b"--b--",
        "multipart-model",
    ),
    "a mark before a part's value": (
        CHAT,
        MULTIPART,
        PART % (b"model", b"\xef\xbb\xbfsql-lora") + b"--b--",
        "model-illegal",
    ),
    "letter case": (CHAT, "application/json", b'{"model":"sql-lora","Model":"b"}', "model-duplicate"),
    "letter case alone": (CHAT, "application/json", b'{"MODEL":"b"}', "model-spelling"),
    "a URL beside text": ("/model/sql-lora/invoke", "text/plain", b'{"model":"%b"}' % OTHER, "model-disagrees"),
    "a URL beside no type": ("/model/sql-lora/invoke", "x", b'\n {"model":"%b"}' % OTHER, "model-disagrees"),
    "a URL beside a list": ("/model/sql-lora/invoke", "application/json", b'["%b"]' % OTHER, "model-in-list"),
    "other letters in a template": ("/Model/sql-lora/invoke", "application/json", NAMED, "path-ambiguous"),
    "an invisible character": (CHAT, "application/json", '{"model":"sql\u200b-lora"}'.encode(), "model-illegal"),
}


@pytest.mark.parametrize(("path", "content_type", "body", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(setup: Setup, path: str, content_type: str, body: bytes, reason: str) -> None:
    reply = http1.request(setup.port, "POST", path, [("content-type", content_type)], body)
    assert reply.status in (400, 415)
    (verdict,) = setup.router.verdicts()
    assert verdict.reason == reason
    assert not any(got.complete for got in setup.upstreams.received)


ROUTED = {
    "JSON by curl, in Chinese and German": (
        CHAT,
        FORM,
        '{"model":"sql-lora","x":"\u4e26 Gr\u00f6\u00dfe & model"}'.encode(),
    ),
    "a form with bytes from 0x80 on": (CHAT, FORM, "x=Gr\u00f6\u00dfe&model=sql-lora".encode()),
    "a charset that is UTF-8": (CHAT, "application/json; charset=UTF-8", NAMED),
    "other letters": ("/V1/Chat/Completions", "application/json", NAMED),
    "escapes of escapes": ("/v1/%2563hat/completions", "application/json", NAMED),
    "a URL beside sound": ("/model/sql-lora/invoke", "audio/wav", b"RIFF" * 1000),
    "a URL beside the same model": ("/model/sql-lora/invoke", "text/plain", NAMED),
}


@pytest.mark.parametrize(("path", "content_type", "body"), ROUTED.values(), ids=ROUTED)
def test_routed(setup: Setup, path: str, content_type: str, body: bytes) -> None:
    assert http1.request(setup.port, "POST", path, [("content-type", content_type)], body).status == 200
    (got,) = setup.upstreams.received
    assert (got.pool, got.size, got.complete) == (QWEN, len(body), True)


STRAYS = [
    "X_Gateway_Model_Name",
    "x-gateway_base-model_name",
    "X.Gateway.Base.Model.Name",
    "x_gateway_destination_endpoint",
]


def test_other_spellings_of_our_headers_are_removed(setup: Setup) -> None:
    headers = [("content-type", "application/json"), *((name, PHI) for name in STRAYS), ("x_other", "kept")]
    assert http1.request(setup.port, "POST", CHAT, headers, NAMED).status == 200
    (got,) = setup.upstreams.received
    assert not any(got.header(name) for name in STRAYS)
    assert (got.header("x_other"), got.header("x-gateway-model-name")) == (["kept"], ["sql-lora"])


def test_they_are_removed_where_nothing_is_read(setup: Setup) -> None:
    headers = [("content-type", "text/plain"), *((name, PHI) for name in STRAYS)]
    assert http1.request(setup.port, "POST", "/other", headers, b"x").status == 200
    (got,) = setup.upstreams.received
    assert not any(got.header(name) for name in STRAYS)


HOSTILE = {
    "colons": ("GET", "/models/" + ":" * 50_000 + "/x", []),
    "segments": ("POST", "/x" + "/models" * 7_000, []),
    "commas": ("POST", CHAT, [("content-type", "," * 50_000)]),
}


@pytest.mark.parametrize(("method", "path", "headers"), HOSTILE.values(), ids=HOSTILE)
def test_long_fields_are_answered_at_once(setup: Setup, method: str, path: str, headers: list[tuple[str, str]]) -> None:
    reply = http1.request(setup.port, method, path, headers, b"x" if method == "POST" else b"")
    assert reply.status in (200, 400, 414)
