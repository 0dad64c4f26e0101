import math
import random
from collections import Counter

import pytest

from bbr.models.entries import Share
from bbr.models.shares import by_chance, by_key

COUNT = 20_000
WEIGHTS = [
    pytest.param((90, 10), id="a canary"),
    pytest.param((1, 1, 1), id="alike"),
    pytest.param((0, 999_999, 1), id="one that gets nothing, and one that gets next to nothing"),
    pytest.param((1,), id="one alone"),
]


def shares(weights):
    return [Share(f"m{number}", f"m{number}", weight) for number, weight in enumerate(weights)]


def assert_binomial(chosen, of):
    """Each model has its share of COUNT, within five standard deviations of a binomial distribution."""
    counts = Counter(share.model for share in chosen)
    total = sum(share.weight for share in of)
    for share in of:
        part = share.weight / total
        assert abs(counts[share.model] - COUNT * part) <= 5 * math.sqrt(COUNT * part * (1 - part)) + 1e-9


@pytest.mark.parametrize("weights", WEIGHTS)
def test_chance_gives_each_its_share(weights):
    of, rng = shares(weights), random.Random(7)
    assert_binomial((by_chance(of, rng.random()) for _ in range(COUNT)), of)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_many_keys_give_each_its_share(weights):
    of = shares(weights)
    assert_binomial((by_key(of, b"alias", b"session-%d" % number) for number in range(COUNT)), of)


def test_the_ends_of_chance():
    of = shares((0, 3, 0, 1, 0))
    assert [by_chance(of, drawn).model for drawn in (0.0, 0.7499, 0.75, math.nextafter(1.0, 0.0))] == [
        *("m1", "m1", "m3", "m3")
    ]
    assert by_chance(shares((1, 2)), 1.0).model == "m1"  # of floats that are rounded up


def test_a_key_keeps_its_model_when_others_change():
    before, after = shares((90, 10)), shares((80, 20))
    keys = [b"%d" % number for number in range(2_000)]
    moved = [(by_key(before, b"a", key).model, by_key(after, b"a", key).model) for key in keys]
    assert {pair for pair in moved if pair[0] != pair[1]} == {("m0", "m1")}
    assert 100 <= sum(one != other for one, other in moved) <= 300
    joined = [*before, Share("m2", "m2", 10)]
    assert {
        by_key(joined, b"a", key).model for key in keys if by_key(joined, b"a", key) != by_key(before, b"a", key)
    } == {"m2"}


def test_another_alias_has_other_keys_first():
    of = shares((1, 1))
    keys = [b"%d" % number for number in range(400)]
    alike = sum(by_key(of, b"a", key) == by_key(of, b"b", key) for key in keys)
    assert 140 <= alike <= 260
    assert by_key(of, b"ab", b"c") == by_key(of, b"ab", b"c")
