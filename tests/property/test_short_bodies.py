"""A short JSON body has one result, whether the parsers settle it at once or it is read a bit at a time.

And no bit of the reading takes long, whatever the body holds.
"""

import gc
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bbr.exchange import body as exchange_body
from bbr.exchange import duplex
from bbr.exchange.convention import Convention, Ours
from bbr.exchange.exchange import Exchange
from bbr.exchange.go_router import GoRouter
from bbr.exchange.policy import BodyMode, InvalidJson, Policy
from bbr.exchange.replies import Replies
from bbr.models.registry import Registry
from bbr.reading import go_model, name
from bbr.reading.json_body import UNSETTLED, find_model
from bench.harness.conversation import echoed, said
from bench.harness.messages import parse, request_body, request_headers, request_trailers
from tests.corpus.nasty_bodies import BODIES
from tests.property.test_parsers_agree import documents, mutated
from tests.property.test_scanner import long_documents, tall_documents
from tests.support import steps
from tests.support.examples import examples

FDS, BUFFERED, STREAMED = BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED, BodyMode.STREAMED
MODES = st.sampled_from([FDS, BUFFERED, STREAMED])
CONVENTIONS: st.SearchStrategy[Convention] = st.sampled_from([Ours(), GoRouter()])
KIB = 1 << 10

# In front of the members of a document: dense ones. One of them has a key twice, so that it is not settled at once.
DENSE = b'"p":[%b0],' % (b"{}," * 6_000)
PADDING = st.sampled_from([b"", b"", DENSE, b'"p":0,' + DENSE, b'"p":{%b"":0},' % (b'"":[[]],' * 3_000)])


@st.composite
def padded(draw: st.DrawFn) -> bytes:
    """Return a document, perhaps with much in front of its first member, perhaps with a few octets changed."""
    body = draw(documents | mutated() | tall_documents() | long_documents())
    if body[:1] == b"{" and body[1:2] == b'"':
        body = b"{" + draw(PADDING) + body[1:]
    return body


def result(
    convention: Convention, mode: BodyMode, body: bytes, *, trailers: bool = False, invalid: InvalidJson
) -> list[object]:
    """Return what an exchange makes of a body, and all that it answers."""
    talk = Exchange(Policy(Replies(convention), on_invalid_json=invalid), Registry())
    sent = [request_headers(mode=mode), request_body(body, end_of_stream=not trailers)]
    if trailers:
        sent.append(request_trailers())
    answers = [parse(answer) for message in sent for answer in said(talk, message)]
    verdict = talk.verdict
    back, ends = echoed([answer for answer in answers if answer.WhichOneof("response") == "request_body"])
    others = [answer for answer in answers if mode != FDS or answer.WhichOneof("response") != "request_body"]
    return [verdict.outcome, verdict.reason, verdict.model, verdict.early, talk.end, back, any(ends), others]


def sliced() -> ExitStack:
    """Let no body be settled at once."""
    stack = ExitStack()
    for module in (name, go_model):
        stack.enter_context(mock.patch.object(module, "find_model", return_value=UNSETTLED))
    for module in (exchange_body, duplex):
        stack.enter_context(mock.patch.object(module, "AT_ONCE_BYTES", -1))
    return stack


def corpus(test):  # type: ignore[no-untyped-def]
    for nasty, mode in itertools.product(BODIES, (FDS, BUFFERED)):
        # Of short bodies parsers take a few levels more.
        if len(nasty.body) < 20_000 and b"[" * 900 not in nasty.body and b'{"x":' * 900 not in nasty.body:
            test = example(nasty.body, mode, Ours(), False, InvalidJson.REJECT)(test)
    return test


@corpus
@examples(60)
@given(padded(), MODES, CONVENTIONS, st.booleans(), st.sampled_from(InvalidJson))
def test_every_way_to_read_a_short_body_gives_the_same_result(
    body: bytes, mode: BodyMode, convention: Convention, trailers: bool, invalid: InvalidJson
) -> None:
    trailers = trailers and mode == FDS
    found = result(convention, mode, body, trailers=trailers, invalid=invalid)
    with sliced():
        assert result(convention, mode, body, trailers=trailers, invalid=invalid) == found


@pytest.mark.interpreted("replaces a function")
def test_these_documents_are_read_in_both_ways() -> None:
    bodies = [b'{"model":"a"}', b'{"p":0,%b"model":"a"}' % DENSE, b'{"model":"a","x":nul}']
    assert [find_model(body) is UNSETTLED for body in bodies] == [False, True, True]
    with sliced():
        assert name.model_at_once(bodies[0], 256) is UNSETTLED


def filled(unit: bytes, begin: bytes = b'{"x":[', end: bytes = b'0],"model":"a"}', size: int = 256 * KIB) -> bytes:
    """Return a document of a size."""
    return begin + unit * ((size - len(begin + end)) // len(unit)) + end


def members(separator: bytes, size: int = 256 * KIB, key: bytes = b'"%x":0', begin: bytes = b"{") -> bytes:
    """Return a document with as many keys as there is room for, all of them different."""
    end = b'"model":"a"}'
    keys = (key % number + separator for number in itertools.count())
    taken: list[bytes] = []
    left = size - len(begin + end)
    while (left := left - len(each := next(keys))) >= 0:
        taken.append(each)
    return begin + b"".join(taken) + end


TEXT = filled(b"Well, what is it? ", b'{"messages":[{"role":"user","content":"', b'"}],"model":"a"}')

# The slowest that a search through the grammar found, and what was attacked with; at several lengths, because what is
# looked at depends on it.
SHAPES = {
    "the one that was found": filled(b"{},", b'{"\\u006dodel":"","x":[', b'{}],"model":""}'),
    "a wrong model at the end": filled(b"{},", end=b'{}],"model":""}'),
    "a fault at the end": filled(b"{},", end=b'{}],"model":"a"'),
    "two models": filled(b"[],", b'{"model":"a","x":[', b'0],"model":"a"}'),
    "another spelling": filled(b"{},", b'{"Model":1,"x":['),
    "objects": filled(b"{},"),
    "lists": filled(b"[],"),
    "towers": filled(b"[[[[[[[[]]]]]]]],"),
    "deep objects": filled(b'{"":{"":{"":{}}}},'),
    "short strings": filled(b'"a",'),
    "short strings with escapes": filled(b'"\\n",'),
    "short strings of other letters": filled('"é",'.encode()),
    "numbers": filled(b"1,"),
    "numbers with exponents": filled(b"1e23,"),
    "long numbers": filled(b"2.2250738585072011360574097967091319759348195463516456480234261e-308,"),
    "keys": members(b","),
    "keys and blanks": members(b" , "),
    "keys with escapes": members(b",", key=b'"\\n%x":0'),
    "keys of an inner object": members(b",", begin=b'{"model":"a","x":{')[:-12] + b'"y":0}}',
    "equal keys": filled(b'"":0,', b"{", b'"model":"a"}'),
    "equal keys and blanks": filled(b'"":0 ,', b"{", b'"model":"a"}'),
    "escapes": filled(b"\\u00e9", b'{"x":"', b'","model":"a"}'),
    "pairs of escapes": filled(b"\\ud83d\\ude00", b'{"x":"', b'","model":""}'),
    "mixed letters": filled("éa😀".encode(), b'{"x":"', b'","model":"a"}'),
    "almost a NUL": filled(b"\\u000", b'{"x":"', b'"}'),
    "no UTF-8 at the end": filled("é".encode(), b'{"x":"', b'\xff","model":"a"}'),
    "blanks": filled(b" ", b'{"x":[', b'0],"model":""}'),
    "text": TEXT,
}
# The tests' own are higher, and a collection of so many objects takes a millisecond.
PYTHONS_THRESHOLDS = (700, 10, 10)
SIZES = [16 * KIB, 99 * KIB, 120 * KIB, 256 * KIB]


def turns(body: bytes, convention: Convention, mode: BodyMode) -> Iterator[float]:
    """Give the processor time of each call of an exchange."""
    talk = Exchange(Policy(Replies(convention)), Registry())
    talk.receive(request_headers(mode=mode))
    message = request_body(body, end_of_stream=True)
    yield steps.seconds(lambda: talk.receive(message), 1)
    while talk.pending:
        yield steps.seconds(talk.work, 1)


def cut(shape: str, size: int) -> bytes:
    """Return a shape at a size, its middle cut out."""
    body = SHAPES[shape]
    return body if len(body) <= size else body[: size // 2] + body[len(body) - size // 2 :]


@pytest.mark.parametrize("mode", [FDS, BUFFERED])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_short_body_takes_long_at_a_time(shape: str, size: int, mode: BodyMode) -> None:
    body = cut(shape, size)
    assert steps.is_within(1.5, lambda: max(turns(body, Ours(), mode)))


@pytest.fixture(autouse=True, scope="module")
def _frozen() -> Iterator[None]:
    """Let collections be a server's: of few objects at a time, and not of what all the tests have left."""
    of_tests = gc.get_threshold()
    gc.set_threshold(*PYTHONS_THRESHOLDS)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    gc.set_threshold(*of_tests)
