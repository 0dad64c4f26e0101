import pytest

from bbr.reading.scan.fault import NOT_FINITE, Fault


@pytest.mark.parametrize(
    ("rest", "offset", "reason", "sentence"),
    [
        (b"x]", 7, "invalid-json", "a JSON value"),
        (b"NaN]", 1, *NOT_FINITE),
        (b"-Infinity", 1, *NOT_FINITE),
        (b"\xef\xbb\xbf{}", 0, "byte-order-mark", "byte order mark"),
        (b"\xef\xbb\xbf{}", 3, "invalid-json", "a JSON value"),
    ],
)
def test_refusal_names_what_the_bytes_are(rest: bytes, offset: int, reason: str, sentence: str) -> None:
    refused = Fault(2, "unexpected character, expected a JSON value").refusal(rest, offset)
    assert (refused.status, refused.reason) == (400, reason)
    assert sentence in refused.message
    assert f"byte {offset}" in refused.message


def test_a_reason_of_its_own_is_kept() -> None:
    assert Fault(0, "nested too deep", "too-deep").refusal(b"[", 900).reason == "too-deep"


@pytest.mark.parametrize("rest", [b"", b"N", b"Na", b"-", b"-Infinit", b"I", b"Infinit"])
def test_the_beginning_of_a_word_may_become_the_word(rest: bytes) -> None:
    assert Fault(0, "").may_change(rest)


@pytest.mark.parametrize("rest", [b"NaN", b"Nan", b"x", b"Infinity", b"-Infinity", b"Na\xff", b"N]"])
def test_nothing_else_changes(rest: bytes) -> None:
    assert not Fault(0, "").may_change(rest)
