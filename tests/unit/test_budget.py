import pytest

from bbr.budget import Budget


def test_it_is_full_at_first():
    budget = Budget(3, 1, now=10.0)
    assert [budget.spend(1, 10.0) for _ in range(4)] == [True, True, True, False]
    assert budget.tokens == 0


def test_nothing_is_taken_when_there_is_too_little():
    budget = Budget(3, 0, now=0.0)
    assert not budget.spend(3.5, 0.0)
    assert budget.tokens == 3
    assert budget.spend(3, 0.0)


def test_time_gives_back_no_more_than_the_capacity():
    budget = Budget(4, 2, now=0.0)
    assert budget.spend(4, 0.0)
    assert not budget.spend(1.5, 0.5)
    assert budget.spend(1, 0.5)
    assert budget.spend(4, 1000.0)
    assert not budget.spend(1, 1000.0)


@pytest.mark.parametrize("later", [5.0, 4.0])
def test_a_clock_that_stands_or_goes_back_gives_nothing(later):
    budget = Budget(1, 1, now=5.0)
    assert budget.spend(1, 5.0)
    assert not budget.spend(0.1, later)
    assert budget.spend(1, 6.0)


def test_earned_tokens_stop_at_the_capacity():
    budget = Budget(2, 0, now=0.0)
    budget.earn(5)
    assert budget.tokens == 2
    budget.spend(2, 0.0)
    budget.earn(0.5)
    assert budget.tokens == 0.5
