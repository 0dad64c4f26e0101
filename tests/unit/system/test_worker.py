import io
import json
import pickle
import resource
import signal
import subprocess
import sys
from functools import partial

import pytest

from bbr.system import worker
from bbr.system.worker import END, FAILED, FRAME_HEAD, ITEM, NO_MEMORY, REQUEST_HEAD
from tests.support import worker_jobs as jobs


def request(job, octets=b""):
    pickled = pickle.dumps(job)
    return REQUEST_HEAD.pack(len(pickled), len(octets)) + pickled + octets


def frames(octets):
    found = []
    while octets:
        length, kind = FRAME_HEAD.unpack_from(octets)
        found.append((kind, octets[FRAME_HEAD.size : FRAME_HEAD.size + length]))
        octets = octets[FRAME_HEAD.size + length :]
    return found


def answers(*requests):
    timers, out = [], io.BytesIO()
    worker.work(io.BytesIO(b"".join(requests)), out, timers.append, 5.0)
    return timers, frames(out.getvalue())


def test_no_request_has_no_answer():
    assert answers() == ([], [])


def test_each_request_is_answered_in_turn_under_a_timer_of_its_own():
    timers, found = answers(request(jobs.pairs, b"abcd"), request(partial(jobs.times, 2), b"x"))
    assert found == [(ITEM, b"ab"), (ITEM, b"cd"), (END, b""), (ITEM, b"xx"), (END, b"")]
    assert timers == [5.0, 0.0, 5.0, 0.0]


FAILURES = {
    "an error": (jobs.fail, [(ITEM, b"so far"), (FAILED, b"ZeroDivisionError")]),
    "no memory": (jobs.no_memory, [(NO_MEMORY, b"")]),
}


@pytest.mark.parametrize(("job", "found"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_an_answer_and_ends_nothing(job, found):
    assert answers(request(job), request(jobs.pairs, b"ab"))[1] == [*found, (ITEM, b"ab"), (END, b"")]


def test_a_job_that_can_not_be_loaded_is_a_failure():
    pickled = b"no pickle"
    assert answers(REQUEST_HEAD.pack(len(pickled), 0) + pickled)[1] == [(FAILED, b"UnpicklingError")]


def test_a_process_has_limits():
    command = [sys.executable, "-P", "-m", "bbr.system.worker", "3.5", str(64 << 20)]
    done = subprocess.run(
        command, input=request(jobs.limits), capture_output=True, timeout=300, check=True, env={"PYTHONPATH": "."}
    )
    (kind, frame), _ = frames(done.stdout)
    limits = json.loads(frame)
    assert kind == ITEM
    assert limits["data"] == [64 << 20, 64 << 20]
    assert limits["core"] == [0, 0]
    assert limits["nice"] >= 10
    assert 0 < limits["timer"] <= 3.6
    assert limits["collects"] is False


def test_a_limit_that_is_lower_already_stays(monkeypatch):
    calls = []

    def set_limit(which, limits):
        calls.append(which)
        if which == resource.RLIMIT_DATA:
            raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(worker.resource, "setrlimit", set_limit)
    monkeypatch.setattr(worker.os, "nice", calls.append)
    monkeypatch.setattr(worker.gc, "disable", lambda: calls.append("gc"))
    worker.limit(1 << 30)
    assert calls == [resource.RLIMIT_DATA, resource.RLIMIT_CORE, 10, "gc"]


def test_main_takes_its_limits_from_the_command_line(monkeypatch):
    out, found = io.BytesIO(), {}
    monkeypatch.setattr(worker, "limit", lambda memory: found.update(memory=memory))
    monkeypatch.setattr(worker.signal, "setitimer", lambda which, seconds: found.setdefault(which, seconds))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(request(jobs.pairs, b"ab"))))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out))
    worker.main(["2.5", "1000"])
    assert found == {"memory": 1000, signal.ITIMER_PROF: 2.5}
    assert frames(out.getvalue()) == [(ITEM, b"ab"), (END, b"")]
