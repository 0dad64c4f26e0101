import asyncio
import logging

import pytest

from bbr.system import supervisor as module
from bbr.system.supervisor import Failures, Supervisor, stop_all
from tests.support.loops import in_loop
from tests.support.stack import until


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(module, "LONGEST_DELAY_SECONDS", 0.004)


class Body:
    """Fails as often as it is told to, and then waits for ever."""

    def __init__(self, *failures):
        self.failures = list(failures)
        self.begun = self.cancelled = 0

    async def __call__(self):
        self.begun += 1
        if not self.failures:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        failure = self.failures.pop(0)
        if failure is not None:
            raise failure


@in_loop
async def test_a_task_runs_until_it_is_stopped():
    supervisor, body = Supervisor(), Body()
    task = supervisor.start("a task", body)
    await until(lambda: body.begun)
    await task.stop()
    assert (body.begun, body.cancelled) == (1, 1)
    assert supervisor.failures == {"a task": Failures(0, "")}


@in_loop
async def test_tasks_are_stopped_together():
    supervisor, waits = Supervisor(), asyncio.Event()

    async def first():
        try:
            await asyncio.Event().wait()
        finally:
            await waits.wait()

    body, began = Body(), Body()
    tasks = [supervisor.start("first", first), supervisor.start("second", body), supervisor.start("third", began)]
    await until(lambda: body.begun and began.begun)
    stopping = asyncio.create_task(stop_all(iter(tasks)))
    await until(lambda: body.cancelled and began.cancelled)
    assert not stopping.done()  # the first has not ended
    waits.set()
    await stopping


FAILURES = {
    "no memory": MemoryError(),
    "no thread": RuntimeError("can't start new thread"),
    "an error of ours": ZeroDivisionError(),
    "an error of a group": ExceptionGroup("several", [OSError()]),
    "an end": None,
    "something awaited that was cancelled": asyncio.CancelledError(),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@in_loop
async def test_what_fails_or_ends_is_started_again(caplog, failure):
    supervisor, body = Supervisor(), Body(failure, failure, failure)
    task = supervisor.start("a task", body)
    await until(lambda: body.begun == 4)
    await task.stop()
    name = "EndedError" if failure is None else type(failure).__name__
    assert supervisor.failures == {"a task": Failures(3, name)}
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3
    assert caplog.records[0].getMessage().startswith("a task: failed, and is started again in 0.0 s")
    assert caplog.records[0].exc_info[0].__name__ == name


@in_loop
async def test_it_can_be_stopped_while_it_pauses():
    supervisor, body = Supervisor(), Body(ValueError())
    task = supervisor.start("a task", body)
    await until(lambda: supervisor.failures["a task"].restarts)
    await task.stop()
    assert body.begun <= 2


class Ticks:
    """A clock that goes on by as much with each look."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


async def pauses(monkeypatch, *, step=0.0, jitter=0.0, failures=6):
    """Return how long a task that fails again and again is let rest each time."""
    found, real = [], asyncio.sleep

    async def sleep(seconds):
        found.append(seconds)
        await real(0)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    body = Body(*[ValueError()] * failures)
    task = Supervisor(clock=Ticks(step), jitter=lambda: jitter).start("a task", body)
    while body.begun <= failures:
        await real(0)
    await task.stop()
    return found


@in_loop
async def test_pauses_grow_to_a_limit_and_begin_anew_after_a_calm(monkeypatch):
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 1.0)
    monkeypatch.setattr(module, "LONGEST_DELAY_SECONDS", 5.0)
    assert await pauses(monkeypatch) == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    assert await pauses(monkeypatch, jitter=1.0) == [0.5, 1.0, 2.0, 2.5, 2.5, 2.5]
    assert await pauses(monkeypatch, step=module.CALM_SECONDS) == [1.0] * 6


@in_loop
async def test_a_task_that_has_run_for_a_while_has_recovered(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "CALM_SECONDS", 0.05)
    supervisor, body = Supervisor(), Body(ValueError())
    task = supervisor.start("a task", body)
    await until(lambda: supervisor.failures["a task"].failing == "ValueError")
    await until(lambda: not supervisor.failures["a task"].failing)
    assert caplog.records[-1].getMessage() == "a task: runs again"
    assert supervisor.failures["a task"].restarts == 1
    await task.stop()


@in_loop
async def test_tasks_of_one_name_are_counted_together():
    supervisor = Supervisor()
    tasks = [supervisor.start("twin", Body(ValueError())) for _ in range(2)]
    await until(lambda: supervisor.failures["twin"].restarts == 2)
    for task in tasks:
        await task.stop()


@in_loop
async def test_words_that_may_be_a_clients_are_not_logged(caplog):
    supervisor, body = Supervisor(), Body(ValueError("whose words?"))
    task = supervisor.start("a task", body, private=True)
    await until(lambda: caplog.records)
    await task.stop()
    assert caplog.records[0].private is True


@pytest.mark.parametrize("failure", [MemoryError(), asyncio.CancelledError()], ids=["no memory", "cancelled"])
@in_loop
async def test_even_a_failure_to_tell_of_a_failure_does_not_end_it(monkeypatch, caplog, failure):
    failing = [True]

    def no_jitter():
        if failing.pop():
            failing.append(False)
            raise failure
        failing.append(False)
        return 0.0

    supervisor, body = Supervisor(jitter=no_jitter), Body(ValueError())
    task = supervisor.start("a task", body)
    await until(lambda: body.begun == 2)
    assert supervisor.failures["a task"].restarts == 1
    await task.stop()
    assert caplog.records


@in_loop
async def test_what_was_stopped_meanwhile_is_not_started_again(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_DELAY_SECONDS", 3600.0)

    def no_jitter():
        raise MemoryError

    supervisor, body = Supervisor(jitter=no_jitter), Body(ValueError())
    task = supervisor.start("a task", body)
    await until(lambda: supervisor.failures["a task"].restarts)
    await task.stop()
    task._run()  # as its timer does
    await asyncio.sleep(0)
    assert body.begun == 1
