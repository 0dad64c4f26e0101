"""What of a body goes on while its end is unknown never holds a whole document, however it is encoded and cut.

Held against foreign decoders: what an upstream could make of the octets that have left so far.
"""

import dataclasses
import gzip
import itertools
import random
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.models.registry import Registry
from bbr.reading.zstd import zstd
from bench.harness.conversation import said
from bench.harness.messages import parse, request_body, request_headers

POLICY = Policy(Replies(), stream_threshold_bytes=16)


def flushed(body: bytes, cut: int) -> bytes:
    """Return a gzip body in two flushed blocks: all before the cut can be decoded before the rest has come."""
    compressor = zlib.compressobj(wbits=31)
    first = compressor.compress(body[:cut]) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return first + compressor.compress(body[cut:]) + compressor.flush()


Decode = Callable[[bytes], bytes]


def by_zlib(wbits: int) -> Decode:
    return lambda octets: zlib.decompressobj(wbits).decompress(octets)


# How a client encodes a document, and what an upstream makes of the first octets of that.
CODINGS: dict[str, tuple[str, Callable[[bytes, int], bytes], Decode]] = {
    "none": ("identity", lambda body, _: body, bytes),
    "gzip": ("gzip", lambda body, _: gzip.compress(body), by_zlib(31)),
    "gzip, flushed": ("gzip", flushed, by_zlib(31)),
    "gzip, stored": ("gzip", lambda body, _: gzip.compress(body, 0), by_zlib(31)),
    "deflate": ("deflate", lambda body, _: zlib.compress(body), by_zlib(15)),
    "br": (
        "br",
        lambda body, _: brotli.compress(body, quality=3),
        lambda octets: brotli.Decompressor().process(octets),
    ),
    "zstd": ("zstd", lambda body, _: zstd.compress(body), lambda octets: zstd.ZstdDecompressor().decompress(octets)),
}


def document(seed: int, size: int) -> bytes:
    """Return a document that names its model at once, and goes on with octets that compress badly."""
    return b'{"model":"phi","prompt":"%s"}' % random.Random(seed).randbytes(size // 2).hex().encode()


@given(
    st.sampled_from(sorted(CODINGS)),
    st.builds(document, st.integers(0, 1 << 32), st.integers(0, 200_000)),
    st.integers(0, 40),
    st.lists(st.integers(0, 1 << 20), max_size=8),
)
def test_the_end_of_a_document_waits_for_the_end_of_the_body(
    coding: str, text: bytes, blanks: int, places: list[int]
) -> None:
    name, encode, decode = CODINGS[coding]
    body = encode(text + b" " * blanks, len(text) - 1)
    edges = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    talk = Exchange(POLICY, Registry())
    headers = {"content-type": "application/json", "content-encoding": name}
    replies = said(talk, request_headers(headers, mode=BodyMode.FULL_DUPLEX_STREAMED))
    for start, end in itertools.pairwise(edges):
        replies += said(talk, request_body(body[start:end]))
        left = octets(replies)
        assert body.startswith(left)
        assert text[:-1].startswith(decode(left))
    replies += said(talk, request_body(b"", end_of_stream=True))
    assert talk.verdict.outcome is Outcome.ROUTED
    assert octets(replies) == body


@given(
    st.sampled_from(sorted(set(CODINGS) - {"none"})),
    st.builds(document, st.integers(0, 1 << 32), st.integers(0, 200_000)),
    st.integers(0, 40),
    st.lists(st.integers(0, 1 << 20), max_size=8),
)
def test_a_body_that_goes_on_decoded_keeps_its_end_back_too(
    coding: str, text: bytes, blanks: int, places: list[int]
) -> None:
    name, encode, _ = CODINGS[coding]
    body = encode(text + b" " * blanks, len(text) - 1)
    edges = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    talk = Exchange(dataclasses.replace(POLICY, forward_decoded=True), Registry())
    headers = {"content-type": "application/json", "content-encoding": name}
    replies = said(talk, request_headers(headers, mode=BodyMode.FULL_DUPLEX_STREAMED))
    for start, end in itertools.pairwise(edges):
        replies += said(talk, request_body(body[start:end]))
        assert text[:-1].startswith(octets(replies))
    replies += said(talk, request_body(b"", end_of_stream=True))
    assert octets(replies) == text + b" " * blanks


@given(st.sampled_from(sorted(CODINGS)), st.builds(document, st.integers(0, 99), st.integers(0, 200_000)))
def test_a_document_with_another_behind_it_never_leaves_whole(coding: str, text: bytes) -> None:
    name, encode, decode = CODINGS[coding]
    body = encode(text + b'{"model":"other"}', len(text))
    talk = Exchange(POLICY, Registry())
    headers = {"content-type": "application/json", "content-encoding": name}
    replies = said(talk, request_headers(headers, mode=BodyMode.FULL_DUPLEX_STREAMED))
    for start in range(0, len(body), 16 << 10):
        replies += said(talk, request_body(body[start : start + (16 << 10)]))
    replies += said(talk, request_body(b"", end_of_stream=True))
    assert talk.verdict.outcome is Outcome.REFUSED
    assert text[:-1].startswith(decode(octets(replies)))


def octets(replies: list[bytes]) -> bytes:
    """Return what of the body has gone back."""
    answers = (parse(reply) for reply in replies)
    return b"".join(answer.request_body.response.body_mutation.streamed_response.body for answer in answers)


@pytest.mark.parametrize("coding", sorted(CODINGS))
def test_most_of_a_long_document_leaves_before_its_end(coding: str) -> None:
    name, encode, _ = CODINGS[coding]
    body = encode(document(1, 400_000), 300_000)
    talk = Exchange(POLICY, Registry())
    headers = {"content-type": "application/json", "content-encoding": name}
    replies = said(talk, request_headers(headers, mode=BodyMode.FULL_DUPLEX_STREAMED))
    for start in range(0, len(body), 16 << 10):
        replies += said(talk, request_body(body[start : start + (16 << 10)]))
    assert len(body) > len(octets(replies)) > len(body) / 2
