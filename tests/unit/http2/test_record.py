import pytest

from bbr.http2.record import Record


class Point(Record):
    __slots__ = __match_args__ = ("x", "y")

    def __init__(self, x, y):
        self.x = x
        self.y = y


class Other(Point):
    __slots__ = ()


def test_equal_ones_say_the_same():
    assert Point(1, "a") == Point(1, "a")
    assert Point(1, "a") != Point(1, "b")
    assert Point(1, "a") != Other(1, "a")
    assert Point(1, "a") != (1, "a")
    with pytest.raises(TypeError):
        hash(Point(1, 2))


def test_they_can_be_read_in_a_failed_test():
    assert repr(Point(1, "a")) == "Point(1, 'a')"
