import pytest

from bbr.http2 import budgets, faults
from bbr.http2.budgets import Budgets
from bbr.http2.faults import ConnectionFault


def test_what_carries_nothing_is_paid_for_and_time_gives_it_back():
    paid = Budgets(0.0)
    paid.pay(budgets.CONTROL)
    with pytest.raises(ConnectionFault) as caught:
        paid.pay()
    assert caught.value.fault is faults.CONTROL_FLOOD
    paid.now = 1.0
    paid.pay(budgets.CONTROL_PER_SECOND)


def test_so_are_faults():
    paid = Budgets(0.0)
    for _ in range(int(budgets.FAULTS)):
        paid.pay_for_fault()
    with pytest.raises(ConnectionFault) as caught:
        paid.pay_for_fault()
    assert caught.value.fault is faults.FAULTS


def test_a_peer_without_any_answer_may_not_cancel_for_ever():
    paid = Budgets(0.0)
    assert all(paid.pay_for_cancel() for _ in range(budgets.CANCELS_WITHOUT_ANSWER))
    with pytest.raises(ConnectionFault) as caught:
        paid.pay_for_cancel()
    assert caught.value.fault is faults.RAPID_RESET


def test_one_with_an_answer_is_told_when_it_is_too_much():
    paid = Budgets(0.0)
    paid.answered = True
    assert [paid.pay_for_cancel() for _ in range(int(budgets.CANCELS) + 1)] == [True] * int(budgets.CANCELS) + [False]
