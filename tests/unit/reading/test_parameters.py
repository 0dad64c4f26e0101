import pytest

from bbr.reading.parameters import check_charset, is_utf8, parse
from bbr.refusal import Refusal


@pytest.mark.parametrize(
    ("value", "main", "found"),
    [
        (b"text/plain", b"text/plain", {}),
        (b" Text/PLAIN ", b"text/plain", {}),
        (b"form-data", b"form-data", {}),
        (b"a/b;c=d", b"a/b", {b"c": b"d"}),
        (b'a/b ; C="d;e" \t;f=g;', b"a/b", {b"c": b"d;e", b"f": b"g"}),
        (b'a/b;;c="\\"";', b"a/b", {b"c": b'\\"'}),
        (b'a/b;c=""', b"a/b", {b"c": b""}),
        (b'a/b;c="caf\xc3\xa9"', b"a/b", {b"c": b"caf\xc3\xa9"}),
        (b"a/b;filename*=utf-8''x", b"a/b", {b"filename*": b"utf-8''x"}),
    ],
)
def test_read(value: bytes, main: bytes, found: dict[bytes, bytes]) -> None:
    assert parse(value) == (main, found)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "not begin with a token"),
        (b"; a=b", "not begin with a token"),
        (b"a/b c", "not name=value"),
        (b"a/b, c/d", "not name=value"),
        (b"a/b; c", "not name=value"),
        (b"a/b; c =d", "not name=value"),
        (b"a/b; c= d", "not name=value"),
        (b"a/b; c=", "not name=value"),
        (b'a/b; c="d', "not name=value"),
        (b'a/b; c="d"e', "not name=value"),
        (b'a/b; c="\\', "not name=value"),
        (b'a/b; c="\n"', "not name=value"),
        (b"a/b; c=d/e", "not name=value"),
        (b"a/b; c=d; C=e", "`c` occurs twice"),
        (b"a/b" + b"".join(b";p%d=x" % number for number in range(17)), "more than 16 parameters"),
    ],
)
def test_no_value(value: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(value)


@pytest.mark.parametrize(
    "value",
    [
        *(b"a/b", b"a/b; charset=utf-8", b'a/b;CHARSET="UTF8"', b"a/b; charset=", b"a/b;charset=us-ascii"),
        *(b'a/b; charset = "utf-8" ;x', b"a/b; charset=utf-8, c/d", b"a/b; charset='utf-8'", b"a/b; charset"),
    ],
)
def test_charsets_that_are_read(value: bytes) -> None:
    check_charset(value)
    assert is_utf8(value)


@pytest.mark.parametrize(
    "value",
    [
        b"a/b; charset=utf-16",
        b"a/b; charset=utf-8; charset='utf-7'",
        b"a/b; charset*=utf-8''y",
        b'a/b; x="charset=utf-7"',
        b"a/b; charset*0=utf-; charset*1=7",
        b"a/b; charset*0*=utf-8''utf%2D7",
        b"a/b; Charset *12 = utf-8",
        b'a/b; charset=""utf-7""',
        b'a/b; charset="" utf-7',
        b"a/b; charset=utf-8 utf-7",
        b"a/b; charset='\"utf-7\"'",
    ],
)
def test_charsets_that_are_not(value: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        check_charset(value)
    assert (caught.value.status, caught.value.reason) == (415, "charset-unknown")
    assert not is_utf8(value)


def test_empty_parameters_need_not_be_taken() -> None:
    assert parse(b"a/b; c=d", allow_empty=False) == (b"a/b", {b"c": b"d"})
    for value in (b"a/b;", b"a/b;;c=d", b"a/b; c=d; "):
        with pytest.raises(ValueError, match="not name=value"):
            parse(value, allow_empty=False)
