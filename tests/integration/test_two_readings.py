"""Through a real Envoy: requests that would be routed as one model and read as another reach no model server."""

import gzip
from collections.abc import Callable, Iterator, Sequence

import brotli
import httpx
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
PROTOCOLS = ["HTTP/1.1", "HTTP/2"]
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


def within(boundary: bytes, hidden: bytes) -> bytes:
    """Return a multipart body of one boundary, of which a part holds a body of another, and the next is the model."""
    part = b"--%b" % boundary + PART[3:]
    return part % (b"x", hidden) + part % (b"model", b"sql-lora") + b"--%b--\r\n" % boundary


def send(
    setup: Setup,
    protocol: str,
    path: str,
    content_type: str | None,
    body: bytes,
    encodings: Sequence[str] = (),
    method: str = "POST",
) -> int:
    """Send a request, perhaps without a type, and return its status."""
    headers = [("content-encoding", each) for each in encodings]
    if content_type is not None:
        headers.append(("content-type", content_type))
    if protocol == "HTTP/1.1":
        return http1.request(setup.port, method, path, headers, body).status
    with httpx.Client(http1=False, http2=True, trust_env=False) as client:
        return client.request(method, f"http://127.0.0.1:{setup.port}{path}", content=body, headers=headers).status_code


def odd_boundary(content_type: str, boundary: bytes) -> tuple[str, str, bytes, str]:
    """Return a case whose boundary others may take for b: what is one part's body then has a model of its own."""
    return CHAT, content_type, within(boundary, PART % (b"model", b"b") + b"--b--"), "multipart-boundary"


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
    "a charset of JSON in pieces": (
        CHAT,
        "application/json; charset*0=utf-; charset*1=7",
        b'{"model":"sql-lora","+AG0-odel":"b"}',
        "charset-unknown",
    ),
    "JSON without a type": (CHAT, None, b'{"model":"sql-lora","x":"&model=b&y="}', "form-model"),
    "JSON of an empty type": (
        "/model/sql-lora/invoke",
        "",
        b'{"model":"sql-lora","x":"&model=b&y="}',
        "form-model",
    ),
    "a form of an empty type": ("/model/sql-lora/invoke", "", b"model=%b" % OTHER, "model-disagrees"),
    "a semicolon before a part's name": (
        CHAT,
        MULTIPART,
        PART % (b"model", b"sql-lora") + PART % (b";model", b"b") + b"--b--",
        "multipart-model",
    ),
    "a part without a name": (
        CHAT,
        MULTIPART,
        PART % (b"model", b"sql-lora") + PART % (b'"; filename="model', b"b") + b"--b--",
        "multipart-model",
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
    "a charset within quotes of a part": (
        CHAT,
        MULTIPART,
        PART.replace(b"\r\n\r\n", b'\r\nContent-Type: text/plain; x=";charset=utf-7;y="\r\n\r\n') % (b"model", b"+AEI-")
        + b"--b--",
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
    "a URL beside guarded JSON": ("/model/sql-lora/invoke", "text/plain", b")]}'\n" + NAMED, "invalid-json"),
    "a URL beside two marks": ("/model/sql-lora/invoke", "text/plain", b"\xef\xbb\xbf" * 2 + NAMED, "byte-order-mark"),
    "a URL beside multipart without a boundary": (
        "/model/sql-lora/invoke",
        "multipart/mixed",
        b"model=%b" % OTHER,
        "model-disagrees",
    ),
    "JSON of a multipart type without a boundary": (
        CHAT,
        'multipart/form-data; x=", application/json"',
        b'{"model":"sql-lora","x":"&model=b&y="}',
        "form-model",
    ),
    "a form behind another blank": (CHAT, FORM, b'\xc2\xa0{"model":"b","x":"&model=sql-lora&y="}', "form-model"),
    "a URL beside a list": ("/model/sql-lora/invoke", "application/json", b'["%b"]' % OTHER, "model-in-list"),
    "other letters in a template": ("/Model/sql-lora/invoke", "application/json", NAMED, "path-ambiguous"),
    "an invisible character": (CHAT, "application/json", '{"model":"sql\u200b-lora"}'.encode(), "model-illegal"),
    "a query beside JSON": (f"{CHAT}?model=b", "application/json", NAMED, "model-disagrees"),
    "a query beside a form": (f"{CHAT}?x=1&model=b", FORM, b"model=sql-lora", "model-disagrees"),
    "a query beside parts": (
        f"{CHAT}?model=b",
        MULTIPART,
        PART % (b"model", b"sql-lora") + b"--b--",
        "model-disagrees",
    ),
    "a query in another spelling": (f"{CHAT}?Model=b", FORM, b"model=sql-lora", "form-model"),
    "a query beside a path": ("/model/sql-lora/invoke?model=b", "application/json", b"{}", "model-disagrees"),
    "a blank before a boundary": odd_boundary('multipart/form-data; boundary=" b"', b" b"),
    "a blank behind a boundary": odd_boundary('multipart/form-data; boundary="b "', b"b "),
    "a boundary within quotes": odd_boundary('multipart/form-data; x="; boundary=b"; boundary=Y', b"Y"),
    "a boundary in another charset": odd_boundary("multipart/form-data; boundary=Y; boundary*=utf-8''b", b"Y"),
    "a comma in a boundary": odd_boundary('multipart/form-data; boundary="b,"', b"b,"),
    "two boundaries": odd_boundary("multipart/form-data; boundary=Y; Boundary=b", b"Y"),
    "a boundary amid a line": (
        CHAT,
        MULTIPART,
        PART % (b"x", b"--b" + PART[3:] % (b"model", b"b")) + PART % (b"model", b"sql-lora") + b"--b--",
        "multipart-invalid",
    ),
    "a boundary behind a bare LF": (
        CHAT,
        MULTIPART,
        PART % (b"x", b"y\n" + PART % (b"model", b"b")) + PART % (b"model", b"sql-lora") + b"--b--",
        "multipart-invalid",
    ),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("path", "content_type", "body", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(setup: Setup, protocol: str, path: str, content_type: str, body: bytes, reason: str) -> None:
    assert send(setup, protocol, path, content_type, body) in (400, 415)
    (verdict,) = setup.router.verdicts()
    assert verdict.reason == reason
    assert not any(got.complete for got in setup.upstreams.received)


def commented(decoded: bytes, comment: bytes) -> bytes:
    """Return a body in gzip, with something else to read in a comment that decoders skip."""
    member = gzip.compress(decoded, mtime=0)
    return member[:3] + b"\x10" + member[4:10] + comment + b"\0" + member[10:]


HIDDEN = {
    "a form": (FORM, commented(b"model=sql-lora", b"&model=b&")),
    "parts": (
        MULTIPART,
        commented(PART % (b"model", b"sql-lora") + b"--b--", b"\r\n" + PART % (b"model", b"b") + b"--b--"),
    ),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("encodings", [["gzip, gzip"], ["gzip", "gzip"], ["gzip"]], ids=" and ".join)
@pytest.mark.parametrize(("content_type", "once"), HIDDEN.values(), ids=HIDDEN)
def test_nothing_hides_between_two_codings(
    setup: Setup, protocol: str, encodings: list[str], content_type: str, once: bytes
) -> None:
    body = once if encodings == ["gzip"] else gzip.compress(once)
    assert send(setup, protocol, CHAT, content_type, body, encodings) in (400, 415)
    (verdict,) = setup.router.verdicts()
    assert verdict.reason == ("encoding-ambiguous" if encodings == ["gzip"] else "encoding-layers")
    assert not any(got.complete for got in setup.upstreams.received)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_hides_in_what_a_decoder_skips(setup: Setup, protocol: str) -> None:
    body = b'\x0c\x16\x03{"model":"b"}' + b'\x98\x00\x08{"model":"sql-lora"}' + b"\x03"
    assert brotli.decompress(body) == b'{"model":"sql-lora"}'
    assert send(setup, protocol, CHAT, "application/json", body, ["br"]) == 400
    (verdict,) = setup.router.verdicts()
    assert verdict.reason == "encoding-ambiguous"
    assert not any(got.complete for got in setup.upstreams.received)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_parts_of_no_post_are_no_urlencoded_form(setup: Setup, protocol: str, method: str) -> None:
    named = PART % (b"model", b"sql-lora")
    assert send(setup, protocol, CHAT, MULTIPART, named + PART % (b"x", b"&model=b") + b"--b--", (), method) == 400
    (verdict,) = setup.router.verdicts()
    assert verdict.reason == "content-type-ambiguous"
    assert not any(got.complete for got in setup.upstreams.received)
    assert send(setup, protocol, CHAT, MULTIPART, named + PART % (b"x", b"b") + b"--b--", (), method) == 200


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
    "a query that names none": (f"{CHAT}?api-version=1&models=b", "application/json", NAMED),
    "a query that names the same": (f"{CHAT}?model=sql%2Dlora", FORM, b"model=sql-lora"),
    "a boundary of odd characters": (
        CHAT,
        'multipart/form-data; boundary="--\'(b):/?=.+_"',
        within(b"--'(b):/?=.+_", PART % (b"other", b"b") + b"--b--"),
    ),
    "a URL beside the same model": ("/model/sql-lora/invoke", "text/plain", NAMED),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("path", "content_type", "body"), ROUTED.values(), ids=ROUTED)
def test_routed(setup: Setup, protocol: str, path: str, content_type: str, body: bytes) -> None:
    assert send(setup, protocol, path, content_type, body) == 200
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
