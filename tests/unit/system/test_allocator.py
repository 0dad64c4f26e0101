import asyncio
import builtins
import ctypes
import itertools
import mmap
from pathlib import Path

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


class Options:
    """Takes what malloc is told."""

    def __init__(self):
        self.options = {}
        self.given_back = 0

    def set_option(self, option, value):
        self.options[option] = value

    def trim(self, left):
        assert left == 0
        self.given_back += 1


def test_blocks_are_taken_from_the_system_only_while_memory_is_short():
    told = Options()
    malloc = allocator.Malloc(told.set_option, told.trim)
    assert told.options == {-1: allocator.KEPT_BYTES, -3: allocator.KEPT_BYTES}
    malloc.strain(False)
    malloc.strain(True)
    assert told.options == {-1: allocator.KEPT_BYTES, -3: allocator.SMALL_BYTES}
    told.options.clear()
    malloc.strain(True)
    assert told.options == {}
    malloc.strain(False)
    assert told.options == {-3: allocator.KEPT_BYTES}
    malloc.give_back()
    assert told.given_back == 1


class Mocked:
    """What is done with malloc."""

    def __init__(self, given_back=lambda: None):
        self.strained = []
        self.give_back = given_back

    def strain(self, strained):
        self.strained.append(strained)


def test_memory_is_given_back_again_and_again_until_the_end(monkeypatch):
    async def run():
        turns, three = itertools.count(1), asyncio.Event()

        def give_back():
            if next(turns) == 3:
                three.set()

        monkeypatch.setattr(allocator, "keep", lambda environment: Mocked(give_back))
        before = asyncio.all_tasks()
        with allocator.keeping(Supervisor(), seconds=0.001):
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


@pytest.mark.parametrize(("used", "early"), [([150, 150, 158, 159], 4), ([95, 120, 140, 141], 4), ([95, 139, 140], 51)])
def test_it_is_given_back_sooner_if_much_more_is_in_use(monkeypatch, used, early):
    mib = [each << 20 for each in used]

    async def run():
        looked, given_back = itertools.count(), asyncio.Event()

        def used_bytes():
            return mib[min(next(looked), len(mib) - 1)]

        monkeypatch.setattr(allocator, "LOOK_SECONDS", 0.0001)
        monkeypatch.setattr(allocator, "used_bytes", used_bytes)
        monkeypatch.setattr(allocator, "keep", lambda environment: Mocked(given_back.set))
        with allocator.keeping(Supervisor(), 100 << 20, seconds=0.005):
            await given_back.wait()
        return next(looked) - 1

    assert asyncio.run(run()) == early


def test_memory_is_short_from_a_quarter_of_the_bound_on(monkeypatch):
    malloc = Mocked()
    mib = [10, 64, 65, 66, 60, 65]

    async def run():
        looked, over = iter(mib), asyncio.Event()

        def used_bytes():
            try:
                return next(looked) << 20
            except StopIteration:
                over.set()
                return 0

        monkeypatch.setattr(allocator, "LOOK_SECONDS", 0.0001)
        monkeypatch.setattr(allocator, "used_bytes", used_bytes)
        monkeypatch.setattr(allocator, "keep", lambda environment: malloc)
        with allocator.keeping(Supervisor(), 100 << 20, seconds=1.0):
            await over.wait()

    asyncio.run(run())
    assert malloc.strained[:5] == [False, False, True, False, False]


def test_what_is_in_use_is_known_on_linux(monkeypatch):
    if Path("/proc/self/statm").exists():
        before = allocator.used_bytes()
        with mmap.mmap(-1, 50 << 20) as more:  # malloc could take what it has kept
            more.write(b"x" * len(more))
            assert 40 << 20 < allocator.used_bytes() - before < 80 << 20
    monkeypatch.setattr(builtins, "open", lambda *_: (_ for _ in ()).throw(FileNotFoundError))
    assert allocator.used_bytes() == 0
