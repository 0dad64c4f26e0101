"""A long document has one result, whether much of it is passed over at once or not; in any pieces, with any faults."""

import json
from collections.abc import Sequence

from hypothesis import assume, given
from hypothesis import strategies as st

from bbr.reading import one_pass
from bbr.reading.scan.scanner import Scanner
from bbr.refusal import Refusal
from tests.support.examples import examples

NEVER = 1 << 60
LONG = 60_000

words = st.sampled_from(
    ["word ", "a\\b ", 'said "so" ', "\n", "é ", "你好 ", "}, {", '},{"', "[1] ", "{} ", "x" * 50, "12 "]
)
texts = st.lists(words, min_size=1, max_size=30).flatmap(
    lambda parts: st.integers(1, 60).map(lambda times: "".join(parts) * times)
)
parts = st.fixed_dictionaries({"type": st.just("text"), "text": texts}, optional={"n": st.just([1, 2.5, {"z": None}])})
contents = texts | st.lists(parts, min_size=1, max_size=3)
messages = st.fixed_dictionaries({"role": st.sampled_from(["user", "tool"]), "content": contents})
deep = st.sampled_from([10, 450, 880, 899, 905]).map(lambda levels: "[" * levels + "]" * levels)
insertions = st.sampled_from(
    [
        *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b'\\"', b"\\\\", b"\x01", b"\xff", b"\xc3", b"nul"),
        *(b"1e999", b"12345678901234567890123", b"\\ud800", b"\\ud83d\\ude00", b'"model":"z",', b'"Model":1,'),
        *(b'],"model":"b","y":[{"a":1},', b'"}],"model":"b","m":[{"content":"', b'},{"', b"}, {", b'"}},{"x":{"y":"'),
    ]
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Return a conversation, with a few faults in it or none."""
    turns = draw(st.lists(messages, min_size=2, max_size=12))
    document = {"system": draw(texts), "messages": turns * draw(st.integers(1, 8))}
    document = {**document, "model": "a"} if draw(st.booleans()) else {"model": "a", **document}
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    text = json.dumps(document, separators=separators, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 3)) == 0:
        text = text.replace('"role"', f'"x":{draw(deep)},"role"', draw(st.integers(1, 3)))
    body = bytearray(text.encode())
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(body)))
        body[place:place] = draw(insertions)
        del body[place : place + draw(st.integers(0, 2))]
    return bytes(body)


def result(pieces: Sequence[bytes], leap_from: int) -> list[object]:
    scanner = Scanner(leap_from=leap_from)
    try:
        for piece in pieces:
            at = 0
            while at < len(piece):
                at = scanner.scan(piece, at)
        return [scanner.finish(), scanner.closing, scanner.scanned_bytes, scanner.value_offset]
    except Refusal as refused:
        return [refused.reason, refused.message, refused.offset, str(scanner.model)]


@examples(150)
@given(documents(), st.lists(st.sampled_from([3, 700, 5_000, 16_384, LONG]), min_size=1, max_size=4))
def test_a_document_has_one_result(body: bytes, sizes: list[int]) -> None:
    assume(len(body) < 400_000)
    pieces = []
    at = 0
    while at < len(body):
        size = sizes[len(pieces) % len(sizes)] if len(pieces) < 40 else LONG
        pieces.append(body[at : at + size])
        at += size
    assert result(pieces, 0) == result(pieces, NEVER)


def test_leaps_are_made() -> None:
    turn = {"role": "user", "content": 'He said: "so" \\ é\n' * 20}
    body = json.dumps({"model": "a", "messages": [turn] * 200}).encode()
    left, right = Scanner(), Scanner(leap_from=NEVER)
    # With so small a budget a call ends after one step.
    calls = [0, 0]
    for number, scanner in enumerate((left, right)):
        at = 0
        while at < len(body):
            at = scanner.scan(body, at, 1)
            calls[number] += 1
        assert scanner.finish() == "a"
    assert (calls[0] < calls[1]) is one_pass.AVAILABLE
