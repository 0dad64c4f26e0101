from bbr.exchange.ledger import Ledger


def test_what_is_taken_is_held_until_it_is_given_back() -> None:
    ledger = Ledger(10)
    assert ledger.take(7)
    assert not ledger.take(4)
    assert (ledger.held_bytes, ledger.peak_bytes, ledger.refused) == (7, 7, 1)
    assert ledger.take(3)
    ledger.take_anyway(-10)
    assert (ledger.held_bytes, ledger.peak_bytes, ledger.refused) == (0, 10, 1)


def test_a_body_that_is_under_way_goes_beyond_the_bound_and_keeps_others_out() -> None:
    ledger = Ledger(10)
    ledger.take_anyway(12)
    assert ledger.held_bytes == 12
    assert not ledger.take(1)
