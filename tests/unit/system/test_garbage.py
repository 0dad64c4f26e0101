import gc
import weakref

import pytest

from bbr.system.garbage import Growth


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
        growth.end(set_aside=True)
    assert not any(each is kept for each in gc.get_objects())
    assert gc.get_freeze_count() >= len(kept)


def test_what_is_set_aside_is_freed_as_ever():
    thing = Thing()
    gone = weakref.ref(thing)
    with Growth() as growth:
        growth.end(set_aside=True)
    del thing
    assert gone() is None


def test_an_error_ends_it():
    with pytest.raises(ValueError, match="here"), Growth():
        raise ValueError("here")
    assert gc.get_threshold() == (50, 2, 2)
