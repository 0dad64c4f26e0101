import sys

import pytest

from bbr.admin import history
from bbr.admin.history import COLUMNS, MAX_MODELS, SLOTS, History
from bbr.admin.window import Counts, Window
from bbr.models.steps import finish
from bbr.telemetry.metrics import DURATION_BOUNDS, Metrics, ModelCounts

BUCKETS = len(DURATION_BOUNDS) + 1


def counts(requests, errors=0, **buckets):
    durations = [0] * BUCKETS
    for bucket, number in buckets.items():
        durations[int(bucket.removeprefix("in_"))] = number
    return Counts(requests, errors, tuple(durations))


def slot(of, *models, seconds=10.0):
    """Put a slot in: (name, counts) for each base model."""
    of.begin(seconds)
    every = Counts()
    for name, counted in models:
        of.add(name, counted)
        every += counted
    of.end(every)


def test_nothing_yet():
    of = History()
    assert of.seconds() == ()
    assert of.every() == ((), (), (), ())
    assert of.of("qwen") is None


def test_a_slot_is_seen_when_it_has_ended():
    of = History()
    of.begin(10.0)
    of.add("qwen", counts(3))
    assert of.of("qwen").requests == ()
    of.end(counts(3))
    assert of.of("qwen").requests == of.every().requests == (3,)
    assert of.seconds() == (10.0,)


def test_columns_of_a_base_model():
    of = History()
    slot(of, ("qwen", counts(4, 1, in_0=3, in_5=1)))
    slot(of, ("phi", counts(2)), seconds=11.0)
    slot(of, ("qwen", counts(1, in_14=1)))
    found = of.of("qwen")
    assert (found.requests, found.errors) == ((4, 0, 1), (1, 0, 0))
    assert (found.p50, found.p99) == ((0, None, 14), (5, None, 14))
    assert of.of("phi").requests == (0, 2, 0)
    assert of.of("phi").p99 == (None, None, None)
    assert of.every().requests == (4, 2, 1)
    assert of.seconds() == (10.0, 11.0, 10.0)


@pytest.mark.parametrize(
    ("slots", "columns", "width"), [(60, 60, 1), (61, 31, 2), (120, 60, 2), (179, 60, 3), (181, 31, 6)]
)
def test_columns_grow_wider_with_the_time_that_there_is_to_show(slots, columns, width):
    of = History()
    for number in range(slots):
        slot(of, ("qwen", counts(number)))
    found = of.of("qwen").requests
    assert (len(found), sum(found)) == (columns, sum(range(slots)))
    assert found[1] == sum(range(width, 2 * width))
    assert of.seconds()[0] == 10 * width


def test_it_is_an_hour_at_most_and_columns_stay_what_they_are():
    of = History()
    before = ()
    for number in range(3 * SLOTS + 7):
        slot(of, ("qwen", counts(number)))
        found = of.of("qwen").requests
        assert len(found) <= COLUMNS
        if number > SLOTS and number % 6:  # the latest column grows, the others stay
            assert found[-50:-1] == before[-50:-1]
        before = found
    first = -(-(2 * SLOTS + 7) // 6) * 6
    assert sum(found) == sum(range(first, 3 * SLOTS + 7))


def test_the_worst_slot_of_a_column_counts():
    of = History()
    for number in range(100):
        slot(of, ("qwen", counts(1, **{f"in_{number % 2}": 1})))
    assert set(of.of("qwen").p99) == {1}


def test_who_has_had_no_request_for_an_hour_is_forgotten():
    of = History(slots=4)
    slot(of, ("gone", counts(1)))
    for _ in range(3):
        slot(of, ("qwen", counts(1)))
    assert of.of("gone").requests == (1, 0, 0, 0)
    slot(of, ("qwen", counts(1)))
    assert of.of("gone") is None
    assert of.of("qwen").requests == (1, 1, 1, 1)


def test_of_too_many_the_busiest_have_a_series():
    of = History(max_models=3)
    slot(of, ("a", counts(5)), ("b", counts(3)), ("c", counts(9)), ("d", counts(3)), ("e", counts(4)))
    assert [name for name in "abcde" if of.of(name)] == ["a", "c", "e"]
    slot(of, ("e", counts(4)), ("b", counts(5)), ("d", counts(6)))
    assert [name for name in "abcde" if of.of(name)] == ["c", "d", "e"]
    assert of.of("d").requests == (0, 6)
    assert of.every().requests == (24, 15)


def test_its_memory_is_bounded():
    def size():
        lists = [of._every, *of._series.values()]
        return sum(sys.getsizeof(getattr(each, name)) for each in lists for name in each.__slots__)

    of = History()
    sizes = set()
    for begin in range(0, 4 * MAX_MODELS, MAX_MODELS):
        slot(of, *((f"model-{number}", counts(begin + 1)) for number in range(begin, begin + 2 * MAX_MODELS)))
        sizes.add(size())
    assert len(of._series) == MAX_MODELS
    assert max(sizes) < 800_000
    assert max(sizes) - min(sizes) < 20_000


def test_the_window_fills_it():
    metrics = Metrics()
    of = Window(metrics)
    began = of._opened
    model = metrics.models["qwen"] = ModelCounts()
    for number in (1, 2):
        model.outcomes["routed"] = 10 * number
        model.outcomes["refused"] = number
        model.duration.add(0.002)
        finish(of.sliding(began + 10 * number))
    found = of.history.of("qwen")
    assert (found.requests, found.errors) == ((11, 11), (1, 1))
    assert of.history.seconds() == (pytest.approx(10.0), pytest.approx(10.0))
    assert {DURATION_BOUNDS[each] for each in found.p99} == {0.0025}
    assert of.history.every() == found
    assert history.SLOTS * 10 == 3600
