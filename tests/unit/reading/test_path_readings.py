import pytest

from bbr.reading.path_readings import MAX_ODD_PATH_BYTES, MAX_READ_BYTES, MAX_READINGS, readings


@pytest.mark.parametrize("path", [b"", b"/", b"/a/b", b"/a/.b", b"/a/b.", b"/a/...", b"/a:b,c@d", b"/\xff"])
def test_plain(path: bytes) -> None:
    assert readings(path) == {(path, False)}


@pytest.mark.parametrize(
    ("path", "others"),
    [
        (b"/a%62", {b"/ab"}),
        (b"/a//b", {b"/a/b"}),
        (b"//a/b/c", {b"/a/b/c", b"/b/c"}),
        (b"/a/./b", {b"/a/b"}),
        (b"/a/../b", {b"/b"}),
        (b"/a/..", {b"/"}),
        (b"/a/%2e%2E/b", {b"/a/../b", b"/b"}),
        (b"/a;x/b", {b"/a/b"}),
        (b"/a\\b", {b"/a/b"}),
        (b"/a#b", {b"/a"}),
    ],
)
def test_odd(path: bytes, others: set[bytes]) -> None:
    assert {reading for reading, _ in readings(path) or ()} == {path} | others


def test_what_has_too_many_ways_is_not_read() -> None:
    assert readings(b"/" + b"a" * 5_000) == {(b"/" + b"a" * 5_000, False)}
    assert len(readings(b"/" + b"a" * (MAX_ODD_PATH_BYTES - 3) + b"//") or ()) == 4
    assert readings(b"/" + b"a" * (MAX_ODD_PATH_BYTES - 2) + b"//") is None
    every = b"/%41//.;a\\"
    found = readings(every) or set()
    assert MAX_READINGS // 2 < len(found) <= MAX_READINGS
    assert sum(len(reading) for reading, _ in found) <= MAX_READ_BYTES
    assert readings(every + b"%2525#") is None  # by their number
    assert readings(b"/" + b"a" * 600 + every) is None  # by their bytes
