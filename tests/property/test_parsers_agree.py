"""No other parser reads a model out of a body that differs from ours, and what is refused is refused for a true reason.

Judges: the standard library with a hook that sees every pair, and msgspec. orjson is no judge of keys: it can be made
to take another one for `model` (see bbr/reading/json_body.py), and tests/corpus/twins.py does that.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bbr.reading import members
from bbr.reading.json_body import ABSENT, UNSETTLED, find_model, settled_by_two
from bbr.reading.one_pass import name_in
from bbr.reading.scan.grammar import MAX_DEPTH
from bbr.refusal import Refusal
from tests.corpus.nasty_bodies import BODIES
from tests.support.examples import examples
from tests.support.whole import find

MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
LONG = '"messages":"' + "x" * (33 << 10) + '"'  # of such a length that find_model looks for quotes
LETTERS = {letter: [letter, f"\\u{ord(letter):04x}", f"\\u{ord(letter):04X}"] for letter in "model"}
blanks = st.sampled_from(["", "", "", " ", "\n\t", "\r "])


@st.composite
def model_keys(draw: st.DrawFn) -> str:
    """Return a spelling of the key `model`."""
    if draw(st.integers(0, 3)):
        return draw(st.sampled_from(['"model"', '"model"', '"model"', '"Model"', '"model\\u0000x"']))
    return '"' + "".join(draw(st.sampled_from(LETTERS[letter])) for letter in "model") + '"'


texts = st.one_of(
    st.text(max_size=6).map(json.dumps),
    st.text(max_size=6).map(lambda text: orjson.dumps(text).decode()),
    st.sampled_from(
        ['"model"', '"\\u0022model"', '"\\"model\\""', '"x\\"model"', '"\\\\"', '"\\\\\\"model"', '"\\u006dodel"', '""']
    ),
)
scalars = st.one_of(
    texts, st.sampled_from(["0", "-1.5e3", "true", "null", "NaN", "Infinity", "1e999", '"\\ud800"', "1" * 30])
)


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return objects as text, keys repeated and spelled as they like."""
    pair = st.tuples(blanks, st.one_of(texts, model_keys()), blanks, blanks, values, blanks)
    texts_of_pairs = pair.map(lambda parts: f"{parts[0]}{parts[1]}{parts[2]}:{parts[3]}{parts[4]}{parts[5]}")
    return st.lists(texts_of_pairs, max_size=4).map(lambda pairs: "{" + ",".join(pairs) + "}")


def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return arrays as text."""
    return st.lists(values, max_size=3).map(lambda items: "[" + ",".join(items) + "]")


values = st.recursive(scalars, lambda inner: st.one_of(objects(inner), arrays(inner)), max_leaves=6)
documents = st.one_of(objects(values), objects(values), values).map(lambda text: text.encode("utf-8", "surrogatepass"))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a document with a few octets deleted, doubled, replaced or inserted."""
    body = bytearray(draw(documents))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(["delete", "insert", "double", "replace"])):
            case "delete":
                del body[place : place + draw(st.integers(1, 4))]
            case "insert":
                body[place:place] = draw(st.sampled_from([b'"', b"{", b"}", b",", b"\\", b":", b"\x00", b"\xff", b" "]))
            case "double":
                body[place:place] = body[place : place + draw(st.integers(1, 12))]
            case _:
                body[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
    return bytes(body)


class Pairs(list[tuple[str, Any]]):
    """An object with every pair it was written with."""


def by_pairs(body: bytes) -> list[Any] | None:
    """Return the values of every top-level `model`, as the standard library sees them; None if it reads no object."""
    try:
        document = json.loads(body.decode(), object_pairs_hook=Pairs)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, Pairs):
        return None
    return [value for key, value in document if key.split("\0")[0].lower() == "model"]


def check(body: bytes) -> None:
    check_found(body, find_model(body))
    check_found(body, settled_by_two(body))
    name = name_in(body)
    if name is not None:
        assert find(body) == (name or ABSENT)


def check_found(body: bytes, found: object) -> None:
    try:
        judged = find(body)
    except Refusal as refused:
        assert found is UNSETTLED
        check_refusal(body, refused)
        return
    if found is UNSETTLED:  # it is read otherwise, because it has many members, or escapes in keys
        found = judged
    assert found == judged
    models = by_pairs(body)
    decoded = msgspec.json.decode(body)
    if found is ABSENT:
        assert not models
        assert not (isinstance(decoded, dict) and "model" in decoded)
    else:
        assert models is not None
        for read in (*models, decoded["model"]):
            assert read == found if isinstance(found, str) else not isinstance(read, str)
        assert len(models) == 1


def check_refusal(body: bytes, refused: Refusal) -> None:
    match refused.reason:
        case "model-duplicate":
            assert len(by_pairs(body) or []) > 1
        case "model-spelling":
            assert len(by_pairs(body) or []) == 1
            assert "model" not in msgspec.json.decode(body)
        case "invalid-utf8":
            assert not is_utf8(body)
        case "byte-order-mark":
            assert body.startswith(b"\xef\xbb\xbf")
        case "non-finite-number":
            assert any(word in body for word in (b"NaN", b"Infinity", b"e", b"E", b"1111"))
            assert not is_strict_json(body)
        case "lone-surrogate":
            assert b"\\u" in body
            assert not is_strict_json(body)
        case "trailing-bytes":
            offset = int(refused.message.rpartition(" ")[2].rstrip("."))
            assert is_strict_json(body[:offset])
            assert body[offset:].strip(b" \t\r\n")
        case reason:
            assert reason in ("invalid-json", "too-deep")
            # From Python 3.13 on, msgspec takes deeper documents than the router does.
            assert not is_strict_json(body) or body.count(b"[") + body.count(b"{") > MAX_DEPTH


def is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_strict_json(body: bytes) -> bool:
    """Ask a judge that is not the parser we use."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return is_utf8(body)


def corpus(test: Any) -> Any:
    for nasty in BODIES:
        if len(nasty.body) < 5000:
            test = example(nasty.body)(test)
    return test


@corpus
@examples(150)
@given(documents)
def test_documents(body: bytes) -> None:
    check(body)


@examples(150)
@given(mutated())
def test_mutated_documents(body: bytes) -> None:
    check(body)


def taken(parse: Callable[[bytes], object], body: bytes) -> bool:
    try:
        parse(body)
    except (ValueError, RecursionError):
        return False
    return True


def in_range(number: str) -> float:
    if math.isinf(value := float(number)):
        raise OverflowError
    return value


@examples(300)
@given((documents | mutated()).filter(lambda body: body.lstrip(b" \t\r\n")[:1] == b"{"))
@example(b'{"a":[1e309]}')
@example(b'{"a":"\xff"}')
def test_orjson_refuses_two_things_that_msgspec_passes_over(body: bytes) -> None:
    """Bad UTF-8, and numbers that no double holds: for these each body is read twice."""
    judged = taken(orjson.loads, body)
    if judged == taken(MEMBERS.decode, body):
        return
    assert not judged
    if taken(bytes.decode, body):
        with pytest.raises(OverflowError):
            json.loads(body, parse_float=in_range, parse_int=in_range)


@examples(150)
@given(objects(values), st.booleans())
def test_long_documents_whose_members_are_found_by_their_quotes(text: str, first: bool) -> None:
    other = text.strip()[1:-1]
    joined = ",".join(part for part in ((LONG, other) if first else (other, LONG)) if part.strip())
    body = ("{" + joined + "}").encode("utf-8", "surrogatepass")
    check(body)
    try:
        decoded = MEMBERS.decode(body)
        orjson.loads(body)
    except (msgspec.DecodeError, orjson.JSONDecodeError):
        return
    placed = members.places(body)
    if placed is not None:
        found = {key: body[start:end].rstrip() for key, (start, end) in placed.items()}
        assert found == {key: bytes(value).rstrip() for key, value in decoded.items()}


@examples(150)
@given(documents | mutated(), st.sampled_from([b"", b"", b"\x1f", b"\xff", b"\\", b"\\n", "é".encode()]), st.data())
def test_long_text_in_any_place(body: bytes, end: bytes, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from([0, *(at + 1 for at, octet in enumerate(body) if octet == ord('"'))]))
    body = body[:place] + b"x" * (33 << 10) + end + body[place:]
    check(body)
    rest = members.without_plain_text(body)
    if rest is not None:
        assert len(rest) < len(body) / 4
        assert taken(orjson.loads, rest) == taken(orjson.loads, body)
