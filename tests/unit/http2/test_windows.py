import pytest

from bbr.http2.windows import ReceiveWindow, SendWindow


def test_credit_is_taken_to_the_last_octet():
    window = ReceiveWindow(10)
    assert window.take(10)
    assert not window.take(1)
    assert window.take(0)
    assert window.available == 0


def test_what_is_refused_is_not_counted():
    window = ReceiveWindow(10)
    assert not window.take(11)
    assert window.available == 10


@pytest.mark.parametrize(("size", "first"), [(10, 5), (11, 6), (1, 1)])
def test_credit_is_announced_from_half_the_window_on(size, first):
    window = ReceiveWindow(size)
    assert window.take(size)
    announced = [window.release(1) for _ in range(first)]
    assert announced == [0] * (first - 1) + [first]
    assert (window.available, window.unsent) == (first, 0)


def test_a_batch_may_be_another():
    window = ReceiveWindow(100, 84)
    assert window.take(100)
    assert [window.release(42), window.release(41), window.release(1)] == [0, 0, 84]


def test_a_window_is_widened_by_an_increment_that_is_to_be_announced():
    window = ReceiveWindow(100, 84)
    assert window.take(100)
    assert window.release(84) + window.widen(300) == 284
    assert (window.size, window.available) == (300, 284)
    assert window.take(284)
    assert [window.release(149), window.release(1)] == [0, 150]


def test_nothing_gets_lost():
    window = ReceiveWindow(100)
    held = 0
    for step in range(1, 300):
        size = step * 7 % 23
        if window.take(size):
            held += size
        if step % 3:
            window.release(min(held, 13))
            held -= min(held, 13)
        assert window.available + window.unsent + held == 100


def test_a_send_window_holds_31_bits():
    window = SendWindow(5)
    assert window.add(2**31 - 1 - 5)
    assert not window.add(1)
    assert window.available == 2**31 - 1


def test_a_send_window_can_be_below_zero():
    window = SendWindow(5)
    assert window.add(-20)
    assert window.available == -15
    assert window.add(16)
    assert window.available == 1
