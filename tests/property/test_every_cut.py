"""Every place where a gateway can cut a body, for each way to read one: what comes of the request is the same."""

import gzip
import itertools
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import brotli
import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.reading.templates import parse_templates
from bbr.reading.zstd import zstd
from bench.harness.conversation import said
from bench.harness.messages import parse, request_body, request_headers
from tests.property.test_splits import TABLE, assert_never_completed

# Shorter bodies are also cut at each two places.
TWICE_BYTES: Final = 40

PART: Final = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
FORM: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data; boundary=b"
PLAIN_PATH, NAMING_PATH = "/v1/chat/completions", "/model/qwen/invoke"


class Kind(NamedTuple):
    """A body, what its header section says of it, and what comes of it: a model, or why it is refused."""

    body: bytes
    content_type: str | None
    result: str | None
    encoding: str = ""
    path: str = PLAIN_PATH
    method: str = "POST"


def raw_deflate(body: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(body) + encoder.flush()


DOCUMENT: Final = b'{"x":["\\u00e9",1.5e3],"model":"q\\u0077en"}'
FILE: Final = PART.replace(b"\r\n\r\n", b'; filename="f"\r\n\r\n') % (b"file", b"RIFF\r\n--\r\n-")
PARTS: Final = FILE + PART % (b"model", b"qwen") + b"--b--\r\n"
PLAIN: Final = {
    "JSON": Kind(DOCUMENT, "application/json", "qwen"),
    "JSON that names two": Kind(b'{"model":"qwen","model":"phi"}', "application/json", "model-duplicate"),
    "JSON in other letters": Kind(b'{"mod\\u0045l":"qwen"}', "application/json", "model-spelling"),
    "JSON that has no end": Kind(b'{"model":"qwen"', "application/json", "invalid-json"),
    "JSON without a type": Kind(DOCUMENT, None, "qwen"),
    "JSON that is a form as well": Kind(b'{"model":"qwen","x":"&model=phi"}', None, "form-model"),
    "JSON in a form": Kind(DOCUMENT, FORM, "qwen"),
    "a form": Kind(b"x=%26&m%6fdel=qw%65n&y=\xc3\xa9", FORM, "qwen"),
    "a form that names two": Kind(b"model=qwen&x&model=phi", FORM, "model-duplicate"),
    "a form for who clears a bit": Kind(b"model=qwen&x=\xa6model=phi", FORM, "form-model"),
    "a form in brackets": Kind(b"model=qwen&[model]=phi", FORM, "form-model"),
    "multipart": Kind(PARTS, MULTIPART, "qwen"),
    "multipart that is not posted": Kind(PARTS, MULTIPART, "qwen", method="PUT"),
    "multipart that names two": Kind(PART % (b"model", b"qwen") + PARTS, MULTIPART, "model-duplicate"),
    "multipart in another boundary": Kind(
        PARTS.replace(b"--b", b"--a=b"), 'multipart/form-data; boundary="a=b"', "qwen"
    ),
    "JSON of an unsure type": Kind(DOCUMENT, f"{MULTIPART}, application/json", "qwen"),
    "multipart of an unsure type": Kind(PARTS, f"{MULTIPART}; x=json", "qwen"),
    "bytes beside a URL": Kind(b"\x00\xfe--", "application/octet-stream", "qwen", path=NAMING_PATH),
    "JSON beside a URL": Kind(b' {"model":"phi"}', "audio/wav", "model-disagrees", path=NAMING_PATH),
    "a comment before JSON beside a URL": Kind(b"/* \xc2\xa0*/{}", "text/plain", "invalid-json", path=NAMING_PATH),
    "a part beside a URL": Kind(PARTS, "multipart/mixed; boundary=b", "multipart-model", path=NAMING_PATH),
    "a list beside a URL": Kind(b' ["phi"]', "application/json", "model-in-list", path=NAMING_PATH),
}
CODINGS: Final = {
    "gzip": lambda body: gzip.compress(body, mtime=0),
    "deflate": zlib.compress,
    "raw deflate": raw_deflate,
    "br": brotli.compress,
    "zstd": zstd.compress,
    "gzip, br": lambda body: brotli.compress(gzip.compress(body, mtime=0)),
}
# Long enough that no encoder stores them as they are, in which a server that does not decode them would find a model.
TEXT: Final = b"".join(b"%d bottles of beer on the wall, " % number for number in range(40))
LONG: Final = {
    "JSON": PLAIN["JSON"]._replace(body=b'{"x":"%b",' % TEXT + DOCUMENT[1:]),
    "JSON that names two": PLAIN["JSON that names two"]._replace(body=b'{"x":"%b","model":"qwen","model":""}' % TEXT),
    "a form": PLAIN["a form"]._replace(body=b"x=%b&" % TEXT + PLAIN["a form"].body),
    "multipart": PLAIN["multipart"]._replace(body=PART % (b"x", TEXT) + PARTS),
}
ENCODED: Final = {
    f"{name} in {coding}": kind._replace(body=encode(kind.body), encoding=coding.removeprefix("raw "))
    for coding, encode in CODINGS.items()
    for name, kind in LONG.items()
    if "," not in coding or name.startswith("JSON")  # a form may have only one coding
}
KINDS: Final = PLAIN | ENCODED

# Of the first, short JSON is read whole; of the second, everything as it comes.
POLICIES: Final = [
    Policy(
        Replies(),
        path_templates=parse_templates("/model/{model}/invoke"),
        stream_threshold_bytes=threshold,
        forward_decoded=decoded,
    )
    for threshold in (256 << 10, 1)
    for decoded in (False, True)
]


def cuts(body: bytes) -> Iterator[list[bytes]]:
    size = len(body)
    places: Iterator[tuple[int, ...]] = ((place,) for place in range(size + 1))
    if size <= TWICE_BYTES:
        places = itertools.chain(places, itertools.combinations(range(size + 1), 2))
    for edges in itertools.chain(places, [tuple(range(1, size))]):
        yield [body[start:end] for start, end in itertools.pairwise((0, *edges, size))]


def came_of(kind: Kind, policy: Policy, pieces: list[bytes], mode: BodyMode) -> str | None:
    """Return the model that a request is routed as, or why it is refused; a refused one is never completed."""
    fields = [(":method", kind.method), (":path", kind.path)]
    fields += [] if kind.content_type is None else [("content-type", kind.content_type)]
    fields += [("content-encoding", kind.encoding)] if kind.encoding else []
    talk = Exchange(policy, TABLE)
    got = list(said(talk, request_headers(fields, mode=mode)))
    for piece in pieces[:-1]:
        got += said(talk, request_body(piece))
    got += said(talk, request_body(pieces[-1], end_of_stream=True))
    if talk.verdict.outcome is Outcome.ROUTED:
        assert all(parse(reply).WhichOneof("response") != "immediate_response" for reply in got)
        return talk.verdict.model
    assert talk.verdict.outcome is Outcome.REFUSED
    assert_never_completed(got)
    return talk.verdict.reason


@pytest.mark.parametrize("policy", POLICIES, ids=["whole", "whole, decoded", "as it comes", "as it comes, decoded"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_comes_of_it_is_the_same(kind: Kind, policy: Policy) -> None:
    assert came_of(kind, policy, [kind.body], BodyMode.BUFFERED) == kind.result
    for pieces in cuts(kind.body):
        assert came_of(kind, policy, pieces, BodyMode.FULL_DUPLEX_STREAMED) == kind.result, pieces
