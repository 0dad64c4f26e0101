import pytest

from bbr.reading.beginning import LIST, MAX_BLANKS, MAX_BYTES, OBJECT, Beginning
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
        (b" \xef\xbb\xbf{", OBJECT),
        (b"\xef\xbb\xbf" * 2 + b"{", OBJECT),
        (b"\xef\xbb\xbf\xc2\xa0[", LIST),
        ("\xa0{".encode(), OBJECT),
        ("\u2028\u3000\x85{".encode(), OBJECT),
        ("\U000e0020{".encode(), OBJECT),
        ("\xa0".encode(), None),
        (b"\xf3\xa0\x80", None),
        (b"\x85{", 0),
        (b"\xa0{", 0),
        (b"\xc2\xa1{", 0),
        (b"\xe9{", 0),
        ("\u4f60{".encode(), 0),
        (b"\xff\xfe\x28\x20{\0", OBJECT),
        (b"\xff\xfb\x90", 0),
        (b"\xff", None),
        (b")]}'\n{", OBJECT),
        (b" /**/)]}'[", LIST),
        (b")]}'", None),
        (b")]", None),
        (b")]}x{", 0),
        (b")]}',\n{", 0),
        (LONG + b"x{", 0),
        (b"/**/{", OBJECT),
        (b"/* { */ [", LIST),
        (b"//x\n{", OBJECT),
        (b"// {", None),
        (b"#x\r\n{", OBJECT),
        (b"\x1e\x0b{", OBJECT),
        (b"/", None),
        (b"/x{", 0),
        (b"/*/{", None),
        (b"/***/{", OBJECT),
        (b"/***", None),
        (b"/* */ // /*\n#*/\n{", OBJECT),
        ("/*x*/{".encode("utf-16-le"), OBJECT),
        ("{}".encode("utf-32"), OBJECT),
        (b"# Title\n\nText", 0),
        (b"/**/x", 0),
    ],
)
def test_octet(body: bytes, octet: int | None) -> None:
    for pieces in cuts(body):
        beginning = Beginning()
        for piece in pieces:
            if beginning.octet is None:
                assert beginning.feed(piece) == beginning.octet
                assert len(beginning.begun) <= 10
        assert beginning.octet == octet


@pytest.mark.parametrize(
    ("body", "octet"),
    [
        (b" " * MAX_BYTES + b" {", OBJECT),
        (b" " * MAX_BYTES + b" [", LIST),
        (b" " * MAX_BYTES + b"x", 0),
        (b" " * MAX_BYTES + b"/**/x", OBJECT),
        (b" " * MAX_BYTES + b"\x1ex", OBJECT),
        (b" " * (MAX_BYTES + 99), None),
        (b" " * (MAX_BYTES + MAX_BLANKS - 1), None),
        (b" " * (MAX_BYTES + MAX_BLANKS - 1) + b"x", 0),
        (b" " * (MAX_BYTES + MAX_BLANKS) + b"x", OBJECT),
        (b"#" * (MAX_BYTES + 1), OBJECT),
        (b"#" * (MAX_BYTES - 2) + b"\nx", 0),
        (b"/*" + b"*" * MAX_BYTES, OBJECT),
    ],
)
@pytest.mark.parametrize("size", [1, 1000, MAX_BYTES, MAX_BLANKS, 1 << 20])
def test_comments_are_looked_for_in_so_many_bytes(body: bytes, octet: int | None, size: int) -> None:
    beginning = Beginning()
    for start in range(0, len(body), size):
        if beginning.octet is None:
            beginning.feed(body[start : start + size])
    assert beginning.octet == octet


@pytest.mark.parametrize("before", [b"/**/", b"#\n", b"\x0b", b"\0", b"\xc2\xa0", b")]}'", b" \xef\xbb\xbf"])
def test_what_strict_json_has_not_is_not_forgotten(before: bytes) -> None:
    beginning = Beginning()
    beginning.feed(before)
    assert beginning.begun.strip(b" \t\r\n")
