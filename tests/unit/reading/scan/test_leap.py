import pytest

from bbr.reading import one_pass
from bbr.reading.scan.leap import LEAST_BYTES, beginning, behind_object, into_text, is_dense, text_bytes

# The scanner makes no leap without it.
pytestmark = pytest.mark.skipif(not one_pass.AVAILABLE, reason="there is no simdjson for this version of Python")

# The inside of a string, with all that it may have, up to a blank.
TEXT = 'So "it" is\\n é \\u00e9 \\ud83d\\ude00 \\\\'.replace('"', '\\"').encode() * 100
MESSAGE = b'{"role":"user","content":"%b"}' % TEXT
MESSAGES = b'{"":[1,'


def test_text() -> None:
    assert len(TEXT) > LEAST_BYTES
    assert text_bytes(TEXT + b" rest") == len(TEXT)
    assert text_bytes(TEXT + b" rest\\") == len(TEXT)


@pytest.mark.parametrize(
    "fault", [b'"', b'",', b'","', b'"],["', b'",["x"],"', b"\\x", b"\x01", b"\xff", b"\\ud83d", b"\xc3", b'":"']
)
def test_what_is_no_text(fault: bytes) -> None:
    assert text_bytes(TEXT + fault + b" " + TEXT) == 0


def test_short_text_is_not_tried() -> None:
    assert text_bytes(b"x" * LEAST_BYTES * 2) == text_bytes(b"x" * (LEAST_BYTES - 1) + b" x") == 0


def test_the_beginnings() -> None:
    assert beginning(b"{", b'{"":1,') == b'{"":1,'
    assert beginning(b"{[{[", b"[1,") == b'{"":[{"":[1,'


@pytest.mark.parametrize(
    ("begun", "text", "stack", "size"),
    [
        (MESSAGES, MESSAGE + b"," + MESSAGE[:-9], b"{[{", None),
        (b'{"":[{"":"', TEXT + b'"},' + MESSAGE[:-9], b"{[{", None),
        (b'{"":[{"":"', TEXT + b'"},' + MESSAGE[:-9], b"{[", 0),  # not so many brackets are open
        (b'{"":[{"":"', TEXT + b'"},' + MESSAGE[:-9], b"{{{", 0),  # nor of these kinds
        (MESSAGES, MESSAGE + b', {"a":1', b"{[{", 0),  # no string
        (MESSAGES, MESSAGE + b',{"a": 1,"b b', b"{[{", 0),  # a key
        (MESSAGES, MESSAGE + b'],"model":"a","x":[' + MESSAGE[:-9], b"{[{", 0),  # a member of the root
        (MESSAGES, MESSAGE + b']}{"x":[' + MESSAGE[:-9], b"{[{", 0),  # two documents
        (MESSAGES, MESSAGE + b',{"a":nul},' + MESSAGE[:-9], b"{[{", 0),
    ],
)
def test_up_to_within_a_string(begun: bytes, text: bytes, stack: bytes, size: int | None) -> None:
    assert into_text(text, begun, stack) == (text.rfind(b" ") if size is None else size)


@pytest.mark.parametrize("separator", [b",", b", "])
def test_up_to_behind_an_object(separator: bytes) -> None:
    text = MESSAGE + separator + MESSAGE[:100]
    assert behind_object(text, MESSAGES, b"{[") == len(MESSAGE)
    assert behind_object(text, b'{"":[{"":[1,', b"{[{[") == len(MESSAGE)
    assert behind_object(text, MESSAGES, b"{[{[") == 0
    assert behind_object(MESSAGE, MESSAGES, b"{[") == 0
    assert behind_object(MESSAGE[:-1] + b',"a":"},' + separator[1:] + b'{"', MESSAGES, b"{[") == 0


@pytest.mark.parametrize(("levels", "taken"), [(100, True), (896, True), (897, False), (1_100, False)])
def test_levels(levels: int, taken: bool) -> None:
    deep = b"[" * levels + b"]" * levels
    text = MESSAGE + b"," + deep + b"," + MESSAGE + b',{"'
    assert (behind_object(text, MESSAGES, b"{[") > 0) is taken
    # Many brackets that are not deep.
    wide = MESSAGE + b"," + b"[]," * levels * 3 + MESSAGE + b',{"'
    assert behind_object(wide, MESSAGES, b"{[") > 0


def test_what_takes_long() -> None:
    assert not is_dense(TEXT)
    assert is_dense(TEXT + b"0.12345678901234567890")
