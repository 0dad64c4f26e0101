import asyncio
import errno
import os
import threading

import pytest

from bbr.system.watch import Poll, in_thread, metadata
from tests.support.loops import in_loop


@in_loop
async def test_it_is_time_after_a_while():
    assert await Poll(0.001).wait() is False


@in_loop
async def test_it_is_time_at_once_when_asked_for_and_only_once():
    poll = Poll(3600)
    poll.ask()
    poll.ask()
    assert await poll.wait() is True
    waiting = asyncio.create_task(poll.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    poll.ask()
    assert await waiting is True


def rewrite(folder):
    (folder / "file").write_bytes(b"others")


def rename_over(folder):
    (folder / "new").write_bytes(b"octets")
    (folder / "new").replace(folder / "file")


def remove(folder):
    (folder / "file").unlink()


@pytest.mark.parametrize("change", [rewrite, rename_over, remove])
def test_metadata_differ_after_a_change(tmp_path, change):
    (tmp_path / "file").write_bytes(b"octets")
    # The clock of a file system may be coarse: the file is an old one.
    os.utime(tmp_path / "file", ns=(1, 1))
    before = metadata(tmp_path / "file")
    assert metadata(str(tmp_path / "file")) == before
    change(tmp_path)
    assert metadata(tmp_path / "file") != before


def test_metadata_differ_after_the_swap_of_a_mounted_secret(tmp_path):
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "tls.crt").write_bytes(b"octets")
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "tls.crt").symlink_to("..data/tls.crt")
    before = metadata(tmp_path / "tls.crt")
    (tmp_path / "..new").symlink_to("2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    assert metadata(tmp_path / "tls.crt") != before


def test_metadata_of_what_can_not_be_seen_are_the_error(tmp_path):
    assert metadata(tmp_path / "none") == (errno.ENOENT,)


@in_loop
async def test_what_a_thread_finds_or_fails_at_is_the_callers():
    def fail():
        raise OSError("a file's fault")

    assert await in_thread(threading.current_thread) is not threading.current_thread()
    with pytest.raises(OSError, match="a file's fault"):
        await in_thread(fail)


async def given_up(over):
    """Give up on a thread that hangs until `over`; return it."""
    begun, loop = asyncio.Event(), asyncio.get_running_loop()
    threads = []

    def hang():
        threads.append(threading.current_thread())
        loop.call_soon_threadsafe(begun.set)
        over.wait()

    task = asyncio.create_task(in_thread(hang))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    return threads[0]


def test_a_thread_that_hangs_does_not_hold_up_the_loops_end_nor_the_processs():
    over = threading.Event()
    thread = asyncio.run(given_up(over))
    assert thread.daemon
    over.set()
    thread.join()


@in_loop
async def test_an_answer_that_nobody_waits_for_any_more_is_dropped():
    over = threading.Event()
    thread = await given_up(over)
    over.set()
    thread.join()
    await asyncio.sleep(0)  # what it told has been heard
