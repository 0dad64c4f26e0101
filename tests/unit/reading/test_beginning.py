import pytest

from bbr.reading.beginning import LIST, OBJECT, Beginning
from tests.support.readings import cuts

LONG = b" " * 100


@pytest.mark.parametrize(
    ("body", "octet"),
    [
        (b"{", OBJECT),
        (b' \t\r\n{"a', OBJECT),
        (LONG + b"{", OBJECT),
        (b"\n" * 9 + b"[", LIST),
        (b"\xef\xbb\xbf{", OBJECT),
        (b"\xef\xbb\xbf \n[", LIST),
        ("{}".encode("utf-16"), OBJECT),
        ("{}".encode("utf-16-be"), OBJECT),
        ("{}".encode("utf-32-be"), OBJECT),
        (b"a={", 0),
        (b"", None),
        (b" \n", None),
        (LONG, None),
        (b"\xef\xbb", None),
        (b"\xef\xbc\xbf{", 0),
        (b"\xff{", 0),
        (b" \xef\xbb\xbf{", 0),
        (LONG + b"x{", 0),
    ],
)
def test_octet(body: bytes, octet: int | None) -> None:
    for pieces in cuts(body):
        beginning = Beginning()
        for piece in pieces:
            if beginning.octet is None:
                assert beginning.feed(piece) == beginning.octet
                assert len(beginning.begun) <= 4
        assert beginning.octet == octet
