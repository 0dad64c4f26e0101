import errno
import os
import socket
import stat
import threading

import pytest

from bbr.system import files
from bbr.system.files import FileError


def refusal(path, max_bytes=100):
    with pytest.raises(FileError) as caught:
        files.read(path, max_bytes)
    with pytest.raises(FileError) as checked:
        files.check(path, max_bytes)
    assert str(checked.value) == str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 99, 100])
def test_a_file_up_to_the_limit_is_read(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    files.check(path, 100)
    assert files.read(path, 100) == files.read(str(path), 100) == b"x" * size


def test_a_file_in_several_pieces_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PIECE_BYTES", 7)
    octets = bytes(range(100))
    (tmp_path / "file").write_bytes(octets)
    assert files.read(tmp_path / "file", 100) == octets


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "file").write_bytes(b"octets")
    (tmp_path / "link").symlink_to("file")
    assert files.read(tmp_path / "link", 100) == b"octets"


def test_a_larger_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 101)
    assert refusal(tmp_path / "file") == "is larger than 100 bytes"


def test_a_file_that_does_not_tell_its_size_is_read_up_to_the_limit(tmp_path, monkeypatch):
    """As those of /proc, or one that grows while it is read."""
    (tmp_path / "file").write_bytes(b"x" * 101)
    monkeypatch.setattr(files, "_check", lambda _found, _max_bytes: None)
    with pytest.raises(FileError, match=r"^is larger than 100 bytes$"):
        files.read(tmp_path / "file", 100)
    assert files.read(tmp_path / "file", 101) == b"x" * 101


def fifo(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def dangling(path):
    path.symlink_to("nowhere")


def loop(path):
    path.symlink_to(path.name)


KINDS = {
    "a FIFO": (fifo, "is a FIFO (a named pipe), not a regular file"),
    "a socket": (listening, "is a socket, not a regular file"),
    "a directory": (lambda path: path.mkdir(), "is a directory, not a regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a character device, not a regular file"),
    "a link to a FIFO": (
        lambda path: (fifo(path.parent / "fifo"), path.symlink_to("fifo")),
        "is a FIFO (a named pipe), not a regular file",
    ),
    "a link to nothing": (dangling, "is a link to a file that does not exist"),
    "a link to itself": (loop, "Too many levels of symbolic links"),
    "nothing": (lambda _path: None, "No such file or directory"),
}


@pytest.mark.parametrize(("make", "why"), KINDS.values(), ids=KINDS)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, monkeypatch, make, why):
    monkeypatch.chdir(tmp_path)  # a socket's path has a limit
    make(tmp_path / "file")
    assert refusal(tmp_path / "file") == why


def test_other_kinds_are_named_too(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    found = os.stat(tmp_path / "file")
    for kind, why in ((stat.S_IFBLK, "is a block device"), (0, "is something else")):
        odd = os.stat_result((kind | 0o600, *found[1:]))
        monkeypatch.setattr(os, "stat", lambda _path, odd=odd: odd)
        with pytest.raises(FileError, match=f"^{why}, not a regular file$"):
            files.check(tmp_path / "file", 100)


def test_a_fifo_that_takes_the_files_place_is_not_waited_for(tmp_path, monkeypatch):
    fifo(tmp_path / "file")
    monkeypatch.setattr(files, "check", lambda _path, _max_bytes: None)
    found = []
    reader = threading.Thread(target=lambda: found.append(refused(tmp_path / "file")), daemon=True)
    reader.start()
    reader.join(30)
    assert found == ["is a FIFO (a named pipe), not a regular file"]


def refused(path):
    try:
        files.read(path, 100)
    except FileError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("call", ["stat", "open", "read"])
@pytest.mark.parametrize(("number", "why"), [(errno.EACCES, "Permission denied"), (None, "it can't be read")])
def test_what_the_system_says_is_the_reason(tmp_path, monkeypatch, call, number, why):
    def refuse(*_arguments):
        raise OSError(number, "whatever") if number else OSError("whatever")

    (tmp_path / "file").touch()
    monkeypatch.setattr(os, call, refuse)  # file modes don't stop a test that runs as root
    with pytest.raises(FileError, match=f"^{why}$"):
        files.read(tmp_path / "file", 100)


@pytest.mark.parametrize(
    ("octets", "words"), [(32 << 20, "32 MiB"), (64 << 10, "64 KiB"), (1500, "1500 bytes"), (0, "0 bytes")]
)
def test_a_limit_in_words(octets, words):
    assert files.size_of(octets) == words
