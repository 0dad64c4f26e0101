"""The steps by themselves; what they make of whole documents is in test_scanner.py."""

import pytest

from bbr.reading.scan import fragment
from bbr.reading.scan.fault import Fault
from bbr.reading.scan.member import ModelMember
from bbr.reading.scan.tokens import Tokens


def tokens() -> Tokens:
    return Tokens(ModelMember(256))


def walk(made: Tokens, piece: bytes, position: int = 0) -> list[int]:
    """Take steps until one needs more bytes; return where each has ended."""
    made.plain = fragment.unescaped(piece)
    ends = []
    while True:
        step = made.step
        end = step(made, piece, position)
        if end == position and made.step is step:
            return ends
        ends.append(end)
        position = end


def test_a_step_takes_a_token() -> None:
    made = tokens()
    assert not made.begun
    assert walk(made, b'{"a":[1,true]} ') == [1, 1, 5, 6, 6, 7, 8, 12, 13, 14, 15]
    assert made.complete
    assert (made.closing, bytes(made.stack)) == (13, b"")


def test_a_step_that_needs_more_stays() -> None:
    made = tokens()
    assert walk(made, b'["a') == [1, 1, 2, 3]
    assert (made.begun, made.complete, made.closing, bytes(made.stack)) == (True, False, None, b"[")
    assert walk(made, b'b",') == [2, 3]
    assert walk(made, b"1") == []
    assert walk(made, b"1]") == [1, 2]


def test_offsets_are_those_of_the_document() -> None:
    made = tokens()
    made.offset = 100
    walk(made, b"[]")
    assert made.closing == 101


@pytest.mark.parametrize(
    ("piece", "place", "reason"),
    [
        (b"[}", 1, "invalid-json"),
        (b"[1}", 2, "invalid-json"),
        (b"[" * 901, 900, "too-deep"),
        (b"1 x", 2, "trailing-bytes"),
    ],
)
def test_a_fault_says_where_it_is(piece: bytes, place: int, reason: str) -> None:
    with pytest.raises(Fault) as caught:
        walk(tokens(), piece)
    assert (caught.value.place, caught.value.reason) == (place, reason)


def test_a_fault_that_has_to_wait_comes_again() -> None:
    made = tokens()
    made.fail(Fault(7, "why", "reason"))
    for piece in (b"N", b"Na"):
        with pytest.raises(Fault, match="why") as caught:
            walk(made, piece)
        assert (caught.value.place, caught.value.reason) == (0, "reason")


def test_a_fragment_takes_many_tokens_and_ends_before_the_model() -> None:
    made = tokens()
    assert made.take_fragment(b'{"a":[1]', 0, 8_192) is None  # no bracket is open
    assert walk(made, b'{"a":') == [1, 1, 5]
    made.plain = piece = b'[1,2,{"b":[]}],"model":"m"}'
    taken = made.take_fragment(piece, 0, 8_192)
    assert taken is not None
    assert piece[taken.size :] == b'"model":"m"}'
    assert made.take_fragment(piece, taken.size, 8_192) is None
    assert walk(made, piece, taken.size) == [22, 23, 24, 26, 27]
