import logging

from bbr.telemetry.allowance import Allowance, RareLog

LOG = logging.getLogger("test_rare_log")


def test_one_line_in_ten_seconds_says_how_many_were_left_out(caplog):
    caplog.set_level(logging.INFO)
    rare = RareLog(LOG, logging.INFO)
    for now in (100.0, 100.0, 105.0, 109.9, 110.0, 120.0):
        rare.write(now, "a thing at %g", now)
    assert caplog.messages == [
        "a thing at 100",
        "a thing at 110 (3 more since the last such line)",
        "a thing at 120",
    ]
    assert rare.total == 6
    assert {record.levelno for record in caplog.records} == {logging.INFO}


def test_an_allowance_counts_what_is_more_until_it_is_told():
    allowance = Allowance(2, 10.0)
    assert [allowance.take(now) for now in (5.0, 6.0, 7.0, 14.9, 15.0)] == [True, True, False, False, True]
    assert (allowance.left_out, allowance.take_left_out(), allowance.take_left_out()) == (2, 2, 0)
    assert [allowance.take(16.0), allowance.take(17.0)] == [True, False]
    assert allowance.take_left_out() == 1
