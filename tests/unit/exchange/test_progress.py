from math import inf

import pytest

from bbr.exchange.progress import Progress


def note(progress: Progress, size: int, now: float) -> bool:
    return progress.note(size, 0, inf, now)


def test_a_rate_is_known_after_some_seconds() -> None:
    progress = Progress(100.0)
    note(progress, 1000, 100.0)
    assert (progress.is_known(104.9), progress.is_known(105.0)) == (False, True)
    assert progress.rate(1000, 100.0, 100.1) == 1000  # not 10,000: over a second at least
    note(progress, 1000, 108.0)
    assert progress.rate(1000, 108.0, 108.0) == 125
    assert progress.rate(1000, 108.0, 112.9) == 125
    assert progress.rate(1000, 108.0, 113.0) == 0


def test_a_burst_is_forgotten() -> None:
    progress = Progress(0.0)
    for second in range(30):
        note(progress, 1_000_000 + second, float(second))
    assert progress.rate(1_000_029, 29.0, 29.0) == pytest.approx(1.0, rel=0.2)
    assert progress.is_known(29.0)


def test_what_came_before_a_pause_counts_for_the_span_in_which_it_came() -> None:
    progress = Progress(0.0)
    assert progress.note(600, 10, 60.0, 0.0)
    assert progress.seconds_left(600, 10, 60.0, 0.0) is None
    assert progress.note(600, 10, 60.0, 59.9)
    assert progress.note(601, 10, 60.0, 61.0)
    assert progress.seconds_left(601, 10, 60.0, 71.0) == 50.0
    assert not progress.note(601, 10, 60.0, 121.0)
    assert progress.seconds_left(601, 10, 60.0, 130.0) == 0.0


def test_between_two_looks_nothing_changes() -> None:
    progress = Progress(0.0)
    looks = [0.0]
    for tenth in range(700):
        if tenth / 10 >= progress.look_at and tenth:
            looks.append(tenth / 10)
        if tenth / 10 >= progress.look_at:
            assert progress.note(tenth * 100, 10, 60.0, tenth / 10)
    assert looks[1:3] == [5.0, 10.0]
    assert 60.0 in looks


def test_without_a_rate_nothing_is_due() -> None:
    progress = Progress(0.0)
    assert progress.seconds_left(0, 0, 60.0, 1e6) is None
    assert progress.note(0, 0, 60.0, 1e6)
