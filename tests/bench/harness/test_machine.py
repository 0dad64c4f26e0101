import pytest

from bench.harness import machine

TOLD = """
finished in 410.21ms, 2437.77 req/s, 38.93KB/s
requests: 1000 total, 1000 started, 1000 done, {done} succeeded, 0 failed, 0 errored, 0 timeout
traffic: 15.97KB (16352) total, 1.32KB (1351) headers (space savings 95.50%), 14.65KB (15000) data
"""


def test_h2load_is_read():
    assert machine.loaded(TOLD.format(done=1000), 1000) == (2437.77, 15000)


def test_exchanges_that_h2load_has_lost_are_noticed():
    with pytest.raises(AssertionError, match="999 succeeded"):
        machine.loaded(TOLD.format(done=999), 1000)
