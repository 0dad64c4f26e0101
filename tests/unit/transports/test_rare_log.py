import logging

from bbr.transports.rare_log import RareLog

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
