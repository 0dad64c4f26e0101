import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbr.models.steps import STEP_SORTED, finish, sorting


def counting(steps):
    for _ in range(steps):
        yield
    return "done"


@pytest.mark.parametrize("steps", [0, 1, 1_000])
def test_finish_does_all_steps_and_returns_the_result(steps):
    assert finish(counting(steps)) == "done"


def test_finish_passes_an_error_on():
    def failing():
        yield
        raise ValueError("of the second step")

    with pytest.raises(ValueError, match="of the second step"):
        finish(failing())


@given(st.lists(st.tuples(st.integers(0, 3), st.integers())))
def test_sorting_is_stable(pairs):
    assert finish(sorting(pairs, lambda pair: pair[0])) == sorted(pairs, key=lambda pair: pair[0])


@pytest.mark.parametrize(("number", "runs", "merged"), [(0, 0, 0), (1, 1, 0), (STEP_SORTED, 1, 1), (1_700, 4, 3)])
def test_sorting_takes_so_many_in_a_step(number, runs, merged):
    several = [each * 7919 % 1_709 for each in range(number)]
    assert sum(1 for _ in sorting(several, int)) == runs + merged
    assert finish(sorting(several, int)) == sorted(several)
    assert several == [each * 7919 % 1_709 for each in range(number)]
