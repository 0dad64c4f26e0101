import asyncio
import ctypes
import itertools

import pytest

from bbr.system import allocator
from bbr.system.supervisor import Supervisor


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"MALLOC_MMAP_THRESHOLD_": "131072"},
        {"MALLOC_TOP_PAD_": "0"},
        {"GLIBC_TUNABLES": "glibc.rtld.nns=4:glibc.malloc.trim_threshold=131072"},
    ],
)
def test_malloc_is_left_alone(monkeypatch, environment):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("malloc is touched"))
    assert allocator.keep(environment) is None


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert allocator.keep({"GLIBC_TUNABLES": "glibc.rtld.nns=4"}) is None


def test_memory_is_given_back_again_and_again_until_the_end(monkeypatch):
    async def run():
        turns, three = itertools.count(1), asyncio.Event()

        def give_back():
            if next(turns) == 3:
                three.set()

        monkeypatch.setattr(allocator, "keep", lambda environment: give_back)
        before = asyncio.all_tasks()
        with allocator.keeping(Supervisor(), 0.001):
            await three.wait()
            (task,) = asyncio.all_tasks() - before
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_nothing_runs_where_nothing_can_be_given_back(monkeypatch):
    async def run():
        monkeypatch.setattr(allocator, "keep", lambda environment: None)
        before = asyncio.all_tasks()
        with allocator.keeping(Supervisor()):
            assert asyncio.all_tasks() == before

    asyncio.run(run())
