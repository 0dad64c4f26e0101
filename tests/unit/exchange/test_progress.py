import pytest

from bbr.exchange.progress import Progress


def test_a_rate_is_known_after_some_seconds() -> None:
    progress = Progress(100.0)
    progress.note(1000, 100.0)
    assert (progress.is_known(104.9), progress.is_known(105.0)) == (False, True)
    assert progress.rate(100.1) == 1000  # not 10,000: over a second at least
    progress.note(1000, 108.0)
    assert progress.rate(108.0) == 125
    assert progress.rate(112.9) == 125
    assert progress.rate(113.0) == 0


def test_a_burst_is_forgotten() -> None:
    progress = Progress(0.0)
    progress.note(1_000_000, 0.0)
    for second in range(1, 30):
        progress.note(1_000_000 + second, float(second))
    assert progress.rate(29.0) == pytest.approx(1.0, rel=0.2)
    assert progress.is_known(29.0)


def test_what_came_before_a_pause_counts_for_the_span_in_which_it_came() -> None:
    progress = Progress(0.0)
    progress.note(600, 0.0)
    assert progress.seconds_left(10, 60.0, 0.0) is None
    assert not progress.is_behind(10, 60.0, 59.9)
    progress.note(601, 61.0)
    assert not progress.is_behind(10, 60.0, 61.0)
    assert progress.seconds_left(10, 60.0, 71.0) == 50.0
    assert progress.is_behind(10, 60.0, 121.0)
    assert progress.seconds_left(10, 60.0, 130.0) == 0.0


def test_without_a_rate_nothing_is_due() -> None:
    progress = Progress(0.0)
    assert progress.seconds_left(0, 60.0, 1e6) is None
    assert not progress.is_behind(0, 60.0, 1e6)
