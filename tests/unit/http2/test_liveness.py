"""The waits by themselves; what a connection does when they are over is in test_connection.py."""

import pytest

from bbr.http2 import faults
from bbr.http2.faults import Fault
from bbr.http2.liveness import Liveness, Wait, stalled
from bbr.http2.settings import Settings
from bbr.http2.streams import Stream

LIMITS = Settings(
    preface_seconds=5.0,
    settings_seconds=7.0,
    frame_seconds=20.0,
    keepalive_seconds=30.0,
    keepalive_timeout_seconds=4.0,
    stall_seconds=10.0,
    min_progress_bytes=100,
)


def test_a_wait_is_for_one_thing():
    wait = Wait()
    one, other = [1], [1]
    assert wait.seconds(None, 5.0) == wait.seconds(None, 6.0) == wait.seconds(one, 7.0) == 0.0
    assert wait.seconds(one, 9.0) == 2.0
    assert wait.seconds(other, 9.0) == 0.0
    assert wait.seconds(other, 10.0) == 1.0
    assert wait.seconds(None, 11.0) == 0.0
    assert wait.seconds(other, 12.0) == 0.0


def overdue(liveness: Liveness, now: float, **changes: object) -> Fault | None:
    told = {"preface_received": True, "acknowledged": True, "unfinished": None} | changes
    return liveness.overdue(now, **told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lacks", "seconds", "fault"),
    [
        ({"preface_received": False}, 5.0, faults.PREFACE_TIMEOUT),
        ({"acknowledged": False}, 7.0, faults.SETTINGS_TIMEOUT),
        ({"unfinished": "a frame"}, 20.0, faults.FRAME_TIMEOUT),
    ],
)
def test_what_does_not_come(lacks, seconds, fault):
    liveness = Liveness(LIMITS, 100.0)
    assert overdue(liveness, 100.0, **lacks) is None
    assert overdue(liveness, 100.0 + seconds, **lacks) is None
    liveness.heard(100.0 + seconds)  # an octet of it is no sign of life
    assert overdue(liveness, 100.1 + seconds, **lacks) is fault


def test_of_two_things_the_first_is_named():
    assert overdue(Liveness(LIMITS, 0.0), 9.0, preface_received=False, acknowledged=False) is faults.PREFACE_TIMEOUT


def test_a_silent_peer_is_asked_once_and_has_its_time_to_answer():
    liveness = Liveness(LIMITS, 0.0)
    liveness.heard(10.0)
    assert not liveness.must_ask(40.0)
    assert liveness.must_ask(40.1)
    assert not liveness.must_ask(43.0)
    assert overdue(liveness, 44.1) is None
    assert overdue(liveness, 44.2) is faults.KEEPALIVE_TIMEOUT
    liveness.heard(44.3)
    assert overdue(liveness, 74.0) is None
    assert not liveness.must_ask(74.3)
    assert liveness.must_ask(74.4)


def waiting(stream_id: int, octets: int) -> Stream:
    stream = Stream(stream_id, 1, 1, None)
    stream.queued_bytes = octets
    return stream


def test_a_queue_of_which_too_little_leaves_is_stalled():
    slow, good = waiting(1, 5000), waiting(3, 5000)
    both = (slow, good)
    assert stalled(both, LIMITS, 0.0) == []
    slow.queued_bytes -= 99
    good.queued_bytes -= 100
    assert stalled(both, LIMITS, 9.0) == []
    assert stalled(both, LIMITS, 10.0) == []
    assert stalled(both, LIMITS, 10.1) == [slow]
    assert stalled(both, LIMITS, 19.1) == [slow, good]


def test_nothing_that_waits_is_nothing_stalled():
    assert stalled((), LIMITS, 1e9) == []
