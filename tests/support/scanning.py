"""What a scanner makes of a document in pieces, beside what the judge makes of the whole."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from bbr.reading.scan.grammar import MAX_DEPTH, MAX_NUMBER_BYTES
from bbr.reading.scan.scanner import BUDGET, Scanner
from bbr.refusal import Refusal
from tests.support.whole import judge

# What a scanner may hold: the stack, an unfinished number, the model's string in escapes.
MOST_HELD = MAX_DEPTH + MAX_NUMBER_BYTES + 6 * 256


class Verdict(NamedTuple):
    """A model, None if there is none, or the reason of a refusal with its byte offset and sentence."""

    model: str | None = None
    reason: str = ""
    offset: int | None = None
    message: str = ""


def refused(refusal: Refusal) -> Verdict:
    """Return the verdict that a refusal is."""
    offset = re.search(r"byte (\d+)", refusal.message)
    return Verdict(None, refusal.reason, int(offset[1]) if offset else None, refusal.message)


def read(body: bytes) -> Verdict:
    """Return the judge's verdict on the whole."""
    try:
        return Verdict(judge(body))
    except Refusal as refusal:
        return refused(refusal)


def scan(pieces: Iterable[bytes], budget: int = BUDGET) -> Verdict:
    """Return the verdict on the pieces, and see to it that every call gets on and that little is held."""
    scanner = Scanner()
    try:
        for piece in pieces:
            position = 0
            while position < len(piece):
                before, position = position, scanner.scan(piece, position, budget)
                assert before < position <= len(piece)
                assert scanner.held_bytes <= MOST_HELD
        return Verdict(scanner.finish())
    except Refusal as refusal:
        return refused(refusal)


def check_difference(body: bytes, got: Verdict) -> None:
    """Assert that a scanner's verdict is the judge's, but for the differences that its module names."""
    expected = read(body)
    if got == expected:
        return
    assert got.reason, f"{body!r} should be {expected}"
    if got.reason == "too-deep":
        bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", body[: got.offset])
        assert len(re.findall(rb"[\[{]", bare)) - len(re.findall(rb"[\]}]", bare)) == MAX_DEPTH
        return
    if "a number of more than" in got.message:
        assert re.match(rb"[-+.0-9eE]{%d}" % (MAX_NUMBER_BYTES + 1), body[got.offset :])
        return
    if expected.reason == "invalid-utf8" != got.reason:
        # There is another fault before it, which shows if there are valid octets instead.
        expected = read(body.decode(errors="replace").encode())
    if got.reason == "lone-surrogate" and expected.reason == "invalid-json":
        # It is the last thing in a string that does not end.
        assert got.offset is not None
        assert got.offset + len("\\udc00") == len(body) == expected.offset
        return
    if expected.reason == "too-deep" and len(re.findall(rb"[\[{]", body)) > 100:
        return  # what orjson calls a fault behind some hundred levels, when the memory that it reckoned with is used up
    assert got.reason == expected.reason, f"{body!r}: {got} should be {expected}"
    if got.offset != expected.offset:
        assert got.reason == "invalid-json", f"{body!r}: {got} should be {expected}"
        assert expected.offset is not None
        if "comma" in got.message:
            assert got.offset == len(body) - len(body[expected.offset + 1 :].lstrip(b" \t\r\n"))
        else:  # half of an escaped pair, and then the end
            assert re.fullmatch(rb"\\u[dD].{3}\\u.{,3}", body[expected.offset :], re.DOTALL)
            assert got.offset == len(body)


def by_octet(body: bytes) -> list[bytes]:
    """Return a body in pieces of one octet."""
    return [body[at : at + 1] for at in range(len(body))]
