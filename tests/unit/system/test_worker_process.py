import asyncio
import os
import signal
import subprocess
import threading
from functools import partial

import pytest

from bbr.system import worker_process as module
from bbr.system.worker_process import LimitError, WorkerError, WorkerProcess
from tests.support import worker_jobs as jobs
from tests.support.loops import in_loop
from tests.support.stack import until


async def found(worker, job, *pieces):
    frames = []
    await worker.run(job, pieces, frames.append)
    return frames


async def process_of(worker):
    (frame,) = await found(worker, jobs.process)
    return int(frame)


def is_gone(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@in_loop
async def test_frames_come_as_they_were_found():
    worker = WorkerProcess()
    assert await found(worker, jobs.pairs, b"ab", b"c", b"d") == [b"ab", b"cd"]
    assert await found(worker, partial(jobs.times, 3), b"xy") == [b"xyxyxy"]
    assert await found(worker, jobs.pairs) == []
    worker.close()


@in_loop
async def test_megabytes_go_both_ways():
    worker = WorkerProcess()
    octets = os.urandom(3 << 20)
    (frame,) = await found(worker, partial(jobs.times, 2), octets[: 1 << 20], octets[1 << 20 :])
    assert frame == octets * 2
    worker.close()


@in_loop
async def test_it_is_another_process_and_the_same_for_the_next_piece_of_work():
    worker = WorkerProcess()
    process = await process_of(worker)
    assert process != os.getpid()
    assert await process_of(worker) == process
    worker.close()
    await until(lambda: is_gone(process))
    worker.close()


@in_loop
async def test_it_ends_when_there_was_no_work_for_a_while():
    worker = WorkerProcess(idle_seconds=0.05)
    process = await process_of(worker)
    await until(lambda: is_gone(process))
    assert await process_of(worker) != process
    worker.close()


@in_loop
async def test_work_is_done_in_turn():
    worker = WorkerProcess()
    both = await asyncio.gather(*(found(worker, partial(jobs.times, number), b"x") for number in range(20)))
    assert both == [[b"x" * number] for number in range(20)]
    worker.close()


@in_loop
async def test_others_are_served_between_two_frames():
    worker, turns, running = WorkerProcess(), [], True

    async def others():
        while running:
            turns.append(len(frames))
            await asyncio.sleep(0)

    frames = []
    task = asyncio.create_task(others())
    await worker.run(jobs.pairs, [b"x" * 100], frames.append)
    running = False
    await task
    assert set(range(1, 50)) <= set(turns)
    worker.close()


LIMITS = {
    "processor time": (jobs.spin, {"cpu_seconds": 0.5}, LimitError, r"^it takes more than 0.5 s of processor time$"),
    "time": (jobs.sleep, {"wall_seconds": 0.5}, WorkerError, r"^it takes more than 0.5 s$"),
    "memory": (jobs.eat, {"memory_bytes": 64 << 20}, LimitError, r"^it takes more than 64 MiB of memory$"),
}


@pytest.mark.parametrize(("job", "limit", "kind", "why"), LIMITS.values(), ids=LIMITS)
@in_loop
async def test_a_limit_ends_the_work_and_the_next_is_done(job, limit, kind, why):
    worker = WorkerProcess(**limit)
    with pytest.raises(WorkerError, match=why) as caught:
        await found(worker, job)
    assert type(caught.value) is kind
    worker._wall_seconds = 30.0
    assert await found(worker, jobs.pairs, b"ab") == [b"ab"]
    worker.close()


FAULTS = {
    "an error": (jobs.fail, r"^it fails \(ZeroDivisionError\)$"),
    "a status": (partial(jobs.die, 3), r"^the process that reads it ended by exit status 3$"),
    "a crash": (partial(jobs.die, -signal.SIGSEGV), r"^the process that reads it ended by SIGSEGV$"),
    "the system": (partial(jobs.die, -signal.SIGKILL), r"^the process that reads it ended by SIGKILL$"),
}


@pytest.mark.parametrize(("job", "why"), FAULTS.values(), ids=FAULTS)
@in_loop
async def test_a_fault_ends_the_work_and_the_next_is_done(job, why):
    worker = WorkerProcess()
    with pytest.raises(WorkerError, match=why):
        await found(worker, job)
    assert await found(worker, jobs.pairs, b"ab") == [b"ab"]
    worker.close()


@in_loop
async def test_what_takes_the_frames_may_fail():
    worker = WorkerProcess()
    with pytest.raises(ZeroDivisionError):
        await worker.run(jobs.pairs, [b"abcd"], lambda _frame: 1 / 0)
    assert await found(worker, jobs.pairs, b"ab") == [b"ab"]
    worker.close()


@in_loop
async def test_work_that_is_given_up_leaves_nothing_behind():
    worker = WorkerProcess()
    process = await process_of(worker)
    taken = asyncio.Event()
    task = asyncio.create_task(worker.run(jobs.spin, [], lambda _frame: taken.set()))
    await taken.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await until(lambda: is_gone(process))
    assert await found(worker, jobs.pairs, b"ab") == [b"ab"]
    worker.close()


@in_loop
async def test_a_process_that_was_killed_while_it_waited_is_started_again():
    worker = WorkerProcess()
    process = await process_of(worker)
    os.kill(process, signal.SIGKILL)
    await until(lambda: worker._process.has_ended)
    assert await found(worker, jobs.pairs, b"ab") == [b"ab"]
    worker.close()


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (subprocess, "Popen", BlockingIOError(11, "Resource temporarily unavailable")),
        (threading.Thread, "start", RuntimeError("can't start new thread")),
        (module.asyncio, "open_connection", OSError(24, "Too many open files")),
    ],
    ids=["no process", "no thread", "no file"],
)
@in_loop
async def test_without_a_process_there_is_the_systems_word(monkeypatch, owner, name, error):
    def refuse(*_arguments, **_options):
        raise error

    worker = WorkerProcess()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, refuse)
        with pytest.raises(type(error)):
            await found(worker, jobs.pairs, b"ab")
    assert await found(worker, jobs.pairs, b"ab") == [b"ab"]
    worker.close()
