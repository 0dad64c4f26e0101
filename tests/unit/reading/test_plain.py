import pytest

from bbr.reading import plain
from bbr.reading.plain import LEAST_BYTES

TEXT = bytes(octet for octet in range(0x20, 0x80) if octet not in b'"\\')
LONG = TEXT * 100


@pytest.mark.parametrize("octet", range(256))
def test_plain_text_has_nothing_that_json_escapes_and_is_ascii(octet: int) -> None:
    for place in (0, 1, 500, len(LONG)):
        text = LONG[:place] + bytes((octet,)) + LONG[place:]
        assert plain.is_plain(text) == (octet in TEXT)


def test_utf8_is_not_plain() -> None:
    assert not plain.is_plain("é".encode())
    assert plain.is_plain(b"")


@pytest.mark.parametrize("kind", [bytes, memoryview])
@pytest.mark.parametrize(
    ("octets", "size"),
    [
        (LONG, len(LONG)),
        (LONG + b'"' + LONG, len(LONG)),
        (LONG + b"\\n" + LONG, len(LONG)),
        (LONG + b'\\"' + LONG, len(LONG)),
        (LONG + b'"\\' + LONG, len(LONG)),
        (LONG + b"\x1f" + LONG, 0),
        (LONG + b"\xff" + LONG, 0),
        (LONG + b'"\x00', len(LONG)),
        (b'"' + LONG, 0),
        (b"x" * LEAST_BYTES, LEAST_BYTES),
        (b"x" * LEAST_BYTES + b'"', LEAST_BYTES),
        (b"x" * (LEAST_BYTES - 1), 0),
        (b"x" * (LEAST_BYTES - 1) + b'"', 0),
        (b"", 0),
    ],
)
def test_the_size_of_what_is_plain(kind: type[bytes] | type[memoryview], octets: bytes, size: int) -> None:
    assert plain.size(kind(octets)) == size
