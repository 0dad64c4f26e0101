from random import Random

from bbr.admin.first import First


def test_the_first_of_many():
    numbers = [(number,) for number in range(100)]
    Random(1).shuffle(numbers)
    first = First(7)
    for each in numbers:
        first.add(each)
        assert len(first.kept) <= 7
    assert first.kept == [(number,) for number in range(7)]
    assert first.count == 100
