import gc
import subprocess
import sys
import weakref

import pytest

from bbr.system import child, garbage
from bbr.system.garbage import SET_ASIDE_FROM, Growth


class Thing:
    other = None


@pytest.fixture(autouse=True)
def thresholds():
    before = gc.get_threshold()
    gc.set_threshold(50, 2, 2)
    yield
    gc.set_threshold(*before)


def full_collections(make):
    """Return how many full collections there were while `make` ran."""
    found = []

    def note(phase, info):
        if phase == "start" and info["generation"] == 2:
            found.append(info)

    gc.callbacks.append(note)
    try:
        make()
    finally:
        gc.callbacks.remove(note)
    return len(found)


def grow():
    return [[] for _ in range(20_000)]


def test_there_are_no_full_collections_while_something_grows():
    assert full_collections(grow)
    with Growth():
        assert not full_collections(grow)
    assert full_collections(grow)


def test_young_cycles_are_freed_meanwhile():
    with Growth():
        one, other = Thing(), Thing()
        one.other, other.other = other, one
        gone = weakref.ref(one)
        del one, other
        grow()
        assert gone() is None


def test_they_are_held_off_until_all_have_ended():
    first, second = Growth(), Growth()
    first.begin()
    first.begin()
    second.begin()
    first.end()
    first.end()
    assert not full_collections(grow)
    second.end()
    assert gc.get_threshold() == (50, 2, 2)


def test_what_stays_is_set_aside():
    gc.collect()
    with Growth() as growth:
        kept = grow()
        assert any(each is kept for each in gc.get_objects())
        growth.end(SET_ASIDE_FROM)
    assert not any(each is kept for each in gc.get_objects())
    assert gc.get_freeze_count() >= len(kept)


def test_what_is_set_aside_is_freed_as_ever():
    thing = Thing()
    gone = weakref.ref(thing)
    with Growth() as growth:
        growth.end(SET_ASIDE_FROM)
    del thing
    assert gone() is None


def test_few_things_are_not_set_aside():
    gc.collect()
    before = gc.get_freeze_count()
    with Growth() as growth:
        growth.end(SET_ASIDE_FROM - 1)
    assert gc.get_freeze_count() <= before


def in_cycles(count):
    """Return things that nobody frees but the collector, once nobody refers to them."""
    several = [Thing() for _ in range(count)]
    for each in several:
        each.other = each
    return several


def test_young_garbage_is_not_set_aside():
    gc.disable()
    try:
        gone = weakref.ref(in_cycles(1)[0])
        with Growth() as growth:
            growth.end(SET_ASIDE_FROM)
        assert gone() is None
    finally:
        gc.enable()


# In a process with few objects: to count those of a worker that has run all other tests takes half a second each time.
SET_ASIDE_AGAIN_AND_AGAIN = """
import gc, weakref
from bbr.system import child, garbage

garbage._COUNTED_AFTER, garbage._MANY_OBJECTS = 10, 500
gc.collect()
gc.freeze()
# The process's own are few beside what is allowed, or else half of them would be.
own, count = gc.get_freeze_count(), gc.get_freeze_count
gc.get_freeze_count = lambda: count() - own
gone, most = [], 0
for made in range(1, 10_001):
    class Thing:  # a class is garbage in cycles too
        pass
    gone.append(weakref.ref(Thing))
    with garbage.Growth() as growth:
        growth.end(garbage.SET_ASIDE_FROM)
    del Thing
    if made % 100 == 0:
        gone = [each for each in gone if each()]
        most = max(most, len(gone))
print(most)
"""


def test_what_becomes_garbage_after_it_was_set_aside_is_bounded():
    _, environment = child.python("")
    command = [sys.executable, "-c", SET_ASIDE_AGAIN_AND_AGAIN]
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert 0 < int(told) < 1_000


def test_a_table_that_stays_is_not_looked_through_again(monkeypatch):
    monkeypatch.setattr(garbage, "_process", garbage._Process())
    monkeypatch.setattr(garbage, "_COUNTED_AFTER", 10)

    def swap():
        with Growth() as growth:
            kept = grow()
            growth.end(SET_ASIDE_FROM)
        return kept

    kept = swap()

    def swaps():
        nonlocal kept
        for _ in range(200):
            kept = swap()

    assert not full_collections(swaps)
    assert len(kept) == 20_000


def test_changes_that_never_cease_do_not_hold_them_off_for_good():
    growth = Growth()

    def change():
        growth.begin(SET_ASIDE_FROM - 1)
        grow()

    for _ in range(garbage._MOST_ROUNDS):
        assert not full_collections(change)
    assert full_collections(change)
    assert not full_collections(change)
    growth.end()


def test_many_things_that_never_cease_to_change_are_set_aside_now_and_then(monkeypatch):
    growth, frozen = Growth(), []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))

    def change():
        growth.begin(SET_ASIDE_FROM)
        grow()

    assert not full_collections(lambda: [change() for _ in range(2 * garbage._MOST_ROUNDS + 1)])
    assert len(frozen) == 2
    growth.end()
    assert gc.get_threshold() == (50, 2, 2)


def test_an_error_ends_it():
    with pytest.raises(ValueError, match="here"), Growth():
        raise ValueError("here")
    assert gc.get_threshold() == (50, 2, 2)
