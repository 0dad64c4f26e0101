import pytest

from bbr.reading.path_readings import is_odd, readings


@pytest.mark.parametrize("path", [b"", b"/", b"/a/b", b"/a/.b", b"/a/b.", b"/a/...", b"/a:b,c@d", b"/\xff"])
def test_plain(path: bytes) -> None:
    assert not is_odd(path)
    assert {reading for reading, _ in readings(path)} == {path} or not path


@pytest.mark.parametrize(
    ("path", "others"),
    [
        (b"/a%62", {b"/ab"}),
        (b"/a//b", {b"/a/b"}),
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
    assert is_odd(path)
    assert {reading for reading, _ in readings(path)} == {path} | others
