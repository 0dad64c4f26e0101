import contextlib
import os
import select

import pytest

from bbr.system import writer as unblocked
from bbr.system.writer import UnblockedWriter

LINE = b"x" * 999 + b"\n"


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for each in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(each)


def fill(writer):
    """Write lines until one is not taken; return how many were."""
    for number in range(1000):
        try:
            writer.write(LINE)
        except BlockingIOError:
            return number
    raise AssertionError("a pipe of a megabyte")


def test_lines_of_any_length_are_written_whole(pipe):
    reader, writer = pipe
    UnblockedWriter(writer).write(b"y" * 20_000 + b"\n")
    assert os.read(reader, 100_000) == b"y" * 20_000 + b"\n"


def test_a_reader_that_has_stopped_is_waited_for_once_in_a_while(pipe, monkeypatch):
    monkeypatch.setattr(unblocked, "PATIENCE_SECONDS", 0.001)
    now, waits = [0.0], []
    writer = UnblockedWriter(pipe[1], lambda: now[0])
    poll = select.poll()
    poll.register(pipe[1], select.POLLOUT)

    class Poll:
        def poll(self, milliseconds):
            waits.extend([milliseconds] if milliseconds else [])
            return poll.poll(milliseconds)

    writer._poll = Poll()
    fill(writer)
    assert waits == [1.0]
    for _ in range(10):
        with pytest.raises(BlockingIOError):
            writer.write(LINE)
    assert waits == [1.0]
    now[0] = unblocked.IMPATIENT_SECONDS
    with pytest.raises(BlockingIOError):
        writer.write(LINE)
    assert waits == [1.0, 1.0]


def test_a_slow_reader_is_waited_for_no_longer_than_one_that_has_stopped():
    now, waited, written = 0.0, 0.0, 0

    class Poll:
        """Of a pipe that has room for one piece, a little after it was full."""

        def poll(self, milliseconds):
            nonlocal now, waited
            if not milliseconds:
                return []
            seconds = min(0.03, milliseconds / 1000)
            now, waited = now + seconds, waited + seconds
            return [1] if seconds == 0.03 else []

    with open(os.devnull, "wb", buffering=0) as null:
        writer = UnblockedWriter(null.fileno(), lambda: now)
        writer._poll = Poll()
        for _ in range(100):
            with contextlib.suppress(BlockingIOError):
                writer.write(LINE)
                written += 1
        assert (written, waited) == (3, pytest.approx(unblocked.PATIENCE_SECONDS))
        now += unblocked.IMPATIENT_SECONDS
        writer.write(LINE)
    assert waited == pytest.approx(unblocked.PATIENCE_SECONDS + 0.03)


def test_it_goes_on_when_it_is_read_again(pipe, monkeypatch):
    monkeypatch.setattr(unblocked, "PATIENCE_SECONDS", 0.001)
    reader, descriptor = pipe
    writer = UnblockedWriter(descriptor)
    written = fill(writer)
    found = os.read(reader, 1 << 20)
    writer.write(b"next\n")
    assert (found + os.read(reader, 1 << 20)).splitlines() == [LINE[:-1]] * written + [b"next"]


def test_a_line_that_was_cut_off_does_not_garble_the_next(pipe, monkeypatch):
    monkeypatch.setattr(unblocked, "PATIENCE_SECONDS", 0.001)
    reader, descriptor = pipe
    writer = UnblockedWriter(descriptor)
    with pytest.raises(BlockingIOError):
        writer.write(b"long" * (1 << 20))
    os.read(reader, 1 << 22)
    writer.write(b"next\n")
    assert os.read(reader, 100) == b"\nnext\n"
    writer.write(b"one more\n")
    assert os.read(reader, 100) == b"one more\n"


def test_without_a_reader_or_room_it_is_the_systems_error(pipe):
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        UnblockedWriter(pipe[1]).write(LINE)
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left on device"):
        UnblockedWriter(full.fileno()).write(LINE)
