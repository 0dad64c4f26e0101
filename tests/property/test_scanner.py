"""A scanner says of a document in pieces what the parsers say of the whole, whatever the pieces and the budgets."""

import itertools
from typing import Any
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st

from bbr.reading import plain
from bbr.reading.scan import scalars, scanner
from bbr.reading.scan.scanner import BUDGET
from tests.corpus.nasty_bodies import BODIES
from tests.property.test_parsers_agree import documents, mutated
from tests.support.examples import examples
from tests.support.scanning import by_octet, check_difference, scan

budgets = st.sampled_from([1, 1_000, 20_000, BUDGET])

# Containers that nest deeper than a run takes in one go, with values of all kinds on the way up and down.
openings = st.sampled_from(
    ["[", "[1,", "[[],", '["[",[{}],', '{"a":', '{"":[],"model":', '{ "}" : {"b":1} , "a": ', " [ "]
)
fillings = st.sampled_from(
    ["1", "[]", "{}", '"]"', '"\\""', "1e300", "[[2]]", '{"model":[3]}', '"é"', "-0.5e-3", "[ ]"]
)
separators = st.sampled_from(["", "", " ", "\n\t"])

NASTY = [octet.encode("latin-1") for octet in ("", *'01[]{},:"\\! e\xc3')] + [b"1e999", b'"model":', b'model"']

TOKENS = [
    b"0",
    b"1,",
    b",2",
    b"[",
    b"]",
    b"[]",
    b"{",
    b"}",
    b"{}",
    b",",
    b'"":',
    b'"a"',
    b"true",
    b"-",
    b"e5",
    b".5",
    b" ",
]


@st.composite
def towers(draw: st.DrawFn) -> str:
    """Return a value that goes up and down again."""
    steps = draw(st.lists(openings, min_size=1, max_size=12))
    inner = draw(st.one_of(fillings, towers())) if draw(st.integers(0, 3)) == 0 else draw(fillings)
    for step in reversed(steps):
        in_array = step.strip().startswith("[")
        rest = "".join(
            draw(separators) + ("," if in_array else ',"q":') + value
            for value in draw(st.lists(fillings, max_size=2 if draw(st.booleans()) else 0))
        )
        inner = step + inner + rest + draw(separators) + ("]" if in_array else "}")
    return inner


@st.composite
def tall_documents(draw: st.DrawFn) -> bytes:
    """Return a document with towers in it, and perhaps one octet of another kind."""
    members = [f'"{key}":{draw(towers())}' for key in draw(st.lists(st.sampled_from(["x", "model", "y"]), max_size=3))]
    members.insert(draw(st.integers(0, len(members))), '"model":"a"')
    body = bytearray(("{" + ",".join(members) + "}").encode())
    if draw(st.booleans()):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.sampled_from(b'[]{},:"\\ 0\x01\xc3'))
    return bytes(body)


@st.composite
def long_documents(draw: st.DrawFn) -> bytes:
    """Return a document with many values, and perhaps a few octets more or less."""
    values = draw(st.lists(st.one_of(fillings, towers()), min_size=1, max_size=4)) * draw(st.integers(1, 30))
    body = bytearray(b'{"x":[' + ",".join(values).encode() + b'],"model":"a","y":' + values[0].encode() + b"}")
    if draw(st.booleans()):
        place = draw(st.integers(0, len(body) - 1))
        body[place : place + draw(st.integers(0, 2))] = draw(st.sampled_from(NASTY))
    return bytes(body)


@st.composite
def splits(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    """Return a document, whole and in pieces."""
    body = draw(bodies)
    if draw(st.integers(0, 3)) == 0:
        return body, by_octet(body)
    places = sorted(draw(st.lists(st.integers(0, len(body)), max_size=6)))
    edges = [0, *places, len(body)]
    return body, [body[start:end] for start, end in itertools.pairwise(edges)]


def check(body: bytes, pieces: list[bytes], budget: int) -> None:
    found = scan(pieces, budget)
    check_difference(body, found)
    assert found == scan([body])
    # Whatever is worth the while.
    with (
        mock.patch.object(scanner, "_FRAGMENT_BYTES", 1),
        mock.patch.object(scalars, "_TEXT_BYTES", 1),
        mock.patch.object(plain, "LEAST_BYTES", 1),
    ):
        assert found == scan(pieces, budget) == scan([body])


def corpus(test: Any) -> Any:
    for nasty in BODIES:
        if len(nasty.body) < 1000:
            test = example((nasty.body, by_octet(nasty.body)), 1)(test)
    return test


@corpus
@examples(100)
@given(splits(documents), budgets)
def test_documents(split: tuple[bytes, list[bytes]], budget: int) -> None:
    check(*split, budget)


@examples(150)
@given(splits(mutated()), budgets)
def test_mutated_documents(split: tuple[bytes, list[bytes]], budget: int) -> None:
    check(*split, budget)


@examples(150)
@given(splits(tall_documents()), budgets)
def test_tall_documents(split: tuple[bytes, list[bytes]], budget: int) -> None:
    check(*split, budget)


@examples(80)
@given(splits(long_documents()), budgets)
def test_long_documents(split: tuple[bytes, list[bytes]], budget: int) -> None:
    check(*split, budget)


@examples(300)
@given(
    splits(st.lists(st.sampled_from(TOKENS), max_size=6).map(lambda tokens: b"[" + b"".join(tokens) + b"]")), budgets
)
def test_tokens_in_any_order(split: tuple[bytes, list[bytes]], budget: int) -> None:
    check(*split, budget)


@examples(80)
@given(splits(st.binary(max_size=60)), budgets)
def test_anything(split: tuple[bytes, list[bytes]], budget: int) -> None:
    check(*split, budget)
