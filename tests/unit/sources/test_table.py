import asyncio
import gc
import logging

import pytest

from bbr.models.entries import Alias, BaseModel, Declaration, Grant, Origin
from bbr.models.steps import finish
from bbr.sources import table as module
from bbr.sources.conflict_log import ConflictLog
from bbr.sources.objects import LongDocument, SourceError, SourceObject, refusing
from bbr.sources.table import Table
from bbr.system import garbage
from bbr.system.worker_process import LimitError
from tests.support.clock import Clock
from tests.support.loops import in_loop
from tests.support.model_tables import base_model_of
from tests.support.stack import until


def source_object(key, *models, version=1, pauses=0, broken="", parsed=None):
    def parse():
        if parsed is not None:
            parsed.append((key, version))
        for _ in range(pauses):
            yield
        if broken:
            raise SourceError(broken)
        return tuple(Declaration(Origin("thing", key), (BaseModel(*model),)) for model in models)

    return SourceObject(key, version, parse)


def table(**options):
    return Table(["one", "two"], **options)


def bases(followed):
    return sorted(followed.registry.base_models)


def test_without_sources_every_model_is_its_own_base_model():
    followed = Table()
    assert followed.registry.identity
    assert followed.synced


def test_before_its_sources_have_published_a_table_knows_no_model():
    followed = table()
    assert not followed.registry.identity
    assert not followed.registry.complete
    assert base_model_of(followed.registry, "qwen") is None
    assert not followed.synced


def test_many_objects_are_taken_up_in_steps(monkeypatch):
    monkeypatch.setattr(module, "_STEP_OBJECTS", 10)
    followed = table()
    parsed = []
    followed.replace("one", [source_object(f"o{number}", (f"m{number}",), parsed=parsed) for number in range(50)])
    steps = followed._begin_batch(None)
    next(steps)
    # What happens meanwhile counts.
    followed.remove("one", "o5")
    followed.remove("one", "o40")
    followed.put("one", source_object("o6", ("m6",), version=2))
    followed.put("one", source_object("o41", ("m41",), version=2))
    assert sum(1 for _ in steps) == 4
    assert len(followed._batch) == 48
    followed.replace("two", [])
    followed.apply_now()
    assert bases(followed) == sorted(f"m{number}" for number in range(50) if number not in (5, 40))
    assert followed._kept["one"]["o6"].version == followed._kept["one"]["o41"].version == 2


def test_a_source_replaces_its_own_objects():
    followed = table()
    followed.replace("one", [source_object("a", ("qwen", ("x",))), source_object("b", ("phi",))])
    followed.replace("two", [source_object("a", ("llama",))])
    followed.apply_now()
    assert bases(followed) == ["llama", "phi", "qwen"]
    assert base_model_of(followed.registry, "x") == "qwen"
    followed.replace("one", [source_object("b", ("phi",))])
    followed.apply_now()
    assert bases(followed) == ["llama", "phi"]
    assert base_model_of(followed.registry, "x") is None


def test_single_objects_come_change_and_go():
    followed = table()
    followed.put("one", source_object("a", ("qwen", ("x",))))
    followed.apply_now()
    followed.put("one", source_object("a", ("phi", ("x",)), version=2))
    followed.apply_now()
    assert bases(followed) == ["phi"]
    assert base_model_of(followed.registry, "x") == "phi"
    followed.remove("one", "a")
    followed.apply_now()
    assert bases(followed) == []


def test_an_object_that_nobody_knows_can_go():
    followed = table()
    followed.remove("one", "never-seen")
    followed.apply_now()
    assert bases(followed) == []


def test_each_version_is_parsed_once():
    followed = table()
    parsed = []
    for _ in range(2):
        followed.replace("one", [source_object("a", ("qwen",), parsed=parsed)])
        followed.put("one", source_object("a", ("qwen",), parsed=parsed))
        followed.apply_now()
    followed.put("one", source_object("a", ("qwen",), version=2, parsed=parsed))
    followed.put("one", source_object("a", ("phi",), version=3, parsed=parsed))
    followed.apply_now()
    assert parsed == [("a", 1), ("a", 3)]
    assert bases(followed) == ["phi"]


def test_a_version_that_comes_back_is_believed():
    followed = table()
    followed.put("one", source_object("a", ("qwen",), version=1))
    followed.apply_now()
    followed.put("one", source_object("a", ("phi",), version=2))
    followed.put("one", source_object("a", ("qwen",), version=1))
    followed.apply_now()
    assert bases(followed) == ["qwen"]


def test_synced_when_every_source_has_published_all_it_sees():
    followed = table()
    followed.put("one", source_object("a", ("qwen",)))
    followed.replace("two", [])
    followed.apply_now()
    assert not followed.synced
    assert not followed.registry.complete
    followed.replace("one", [])
    assert not followed.synced
    followed.apply_now()
    assert followed.synced
    assert followed.registry.complete


def tell(followed):
    """Apply as `run` does."""
    finish(followed._applying())


def test_a_broken_object_keeps_its_last_good_content_and_hurts_no_other(caplog):
    caplog.set_level(logging.INFO)
    followed = table()
    followed.replace("one", [source_object("a", ("qwen",)), source_object("b", ("phi",))])
    tell(followed)
    caplog.clear()
    followed.put("one", source_object("a", version=2, broken="line 3: no"))
    followed.put("one", source_object("c", version=2, broken="line 4: no"))
    followed.put("one", source_object("b", ("llama",), version=2))
    tell(followed)
    assert bases(followed) == ["llama", "qwen"]
    assert followed.broken == {("one", "a"): "line 3: no", ("one", "c"): "line 4: no"}
    assert followed.failures_total == 2
    assert [record.getMessage() for record in caplog.records] == [
        "one a: line 3: no; its last good content, if it had any, stays in use",
        "one c: line 4: no; its last good content, if it had any, stays in use",
        "the model table is in use: 2 base models, 2 names in all",
    ]
    caplog.clear()
    followed.put("one", source_object("a", version=3, broken="line 3: no"))
    followed.put("one", source_object("c", ("c",), version=3))
    tell(followed)
    assert followed.failures_total == 2
    assert followed.broken == {("one", "a"): "line 3: no"}
    assert [record.getMessage() for record in caplog.records] == [
        "one c: can be used again",
        "the model table is in use: 3 base models, 3 names in all",
    ]
    followed.remove("one", "a")
    tell(followed)
    assert followed.broken == {}
    assert bases(followed) == ["c", "llama"]


def test_what_is_applied_at_once_leaves_telling_to_its_caller(caplog):
    followed = table()
    followed.replace("one", [source_object("a", broken="line 3: no")])
    followed.apply_now()
    assert followed.broken == {("one", "a"): "line 3: no"}
    assert caplog.records == []


def test_an_error_of_ours_is_one_objects_trouble(caplog):
    def parse():
        raise ZeroDivisionError
        yield

    followed = table()
    followed.replace("one", [SourceObject("a", 1, parse), source_object("b", ("phi",))])
    followed.apply_now()
    assert bases(followed) == ["phi"]
    sentence = "the router failed to parse it, and will try again; its log has the details"
    assert followed.broken == {("one", "a"): sentence}
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


def failing(times, key="a", version=1, models=(("qwen", ()),)):
    """Return an object that can't be parsed the first times, for want of memory."""
    left = [MemoryError()] * times

    def parse():
        yield
        if left:
            raise left.pop()
        return tuple(Declaration(Origin("thing", key), (BaseModel(*model),)) for model in models)

    return SourceObject(key, version, parse)


@in_loop
async def test_what_could_not_be_parsed_for_want_of_memory_is_parsed_again(at_once, monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    followed = table()
    async with Running(followed):
        followed.replace("one", [failing(3), source_object("b", ("phi",))])
        await until(lambda: bases(followed) == ["phi"])
        await until(lambda: bases(followed) == ["phi", "qwen"])
        assert followed.broken == {}
        assert followed.failures_total == 1


@in_loop
async def test_what_failed_is_not_parsed_again_once_it_has_changed_or_gone(at_once, monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    followed = table()
    async with Running(followed):
        followed.replace("one", [failing(10**6), failing(10**6, "b"), failing(10**6, "c")])
        await until(lambda: len(followed.broken) == 3)
        followed.remove("one", "a")
        followed.put("one", source_object("b", ("phi",), version=2))
        await until(lambda: bases(followed) == ["phi"])
        assert list(followed.broken) == [("one", "c")]
        followed.replace("one", [source_object("b", ("phi",), version=2)])
        await until(lambda: not followed.broken)
        assert followed._failed == {}


@pytest.mark.parametrize("when", ["parsed", "merged", "reported"])
@in_loop
async def test_an_error_while_changes_are_applied_loses_none(at_once, monkeypatch, when):
    """As if memory ran out at any place: whoever starts `run` again finds all that was published."""
    followed = table()
    failures = [MemoryError(), MemoryError()]
    owner, name = {
        "parsed": (followed, "_parse"),
        "merged": (module, "merging"),
        "reported": (ConflictLog, "take"),
    }[when]
    real = getattr(owner, name)

    def fail(*arguments, **named):
        if failures:
            raise failures.pop()
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, fail)
    followed.replace("one", [source_object("a", ("qwen",)), source_object("b", ("phi",))])
    followed.replace("two", [])
    for _ in range(2):
        with pytest.raises(MemoryError):
            await followed.run()
    assert followed.lag_seconds > 0
    followed.put("one", source_object("b", ("gemma",), version=2))
    async with Running(followed):
        await followed.wait_synced()
        await until(lambda: bases(followed) == ["gemma", "qwen"])
    assert followed.lag_seconds == 0


class WorkerProcess:
    """The other process: it gives what the test has put there, when the test says so."""

    def __init__(self):
        self.may = asyncio.Semaphore(0)
        self.jobs = []

    async def run(self, job, _pieces, take):
        self.jobs.append(job)
        await self.may.acquire()
        if isinstance(job, Exception):
            raise job
        take(job)


class Received:
    def take(self, declarations):
        self.declarations = declarations

    def parse(self):
        yield
        if isinstance(self.declarations, str):
            raise SourceError(self.declarations)
        return self.declarations


def long_object(key, *models, version=1, broken="", job=None):
    short = source_object(key, *models)
    long = LongDocument(job or broken or finish(short.parse()), (), Received)
    return SourceObject(key, version, refusing("not in this process"), long)


class RunningBoth:
    def __init__(self):
        self.worker = WorkerProcess()
        self.followed = table(worker=self.worker)

    async def __aenter__(self):
        self._tasks = [asyncio.create_task(run()) for run in (self.followed.run, self.followed.long_documents.run)]
        return self.followed, self.worker

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)


@in_loop
async def test_a_long_document_holds_up_no_other_object(at_once):
    async with RunningBoth() as (followed, worker):
        followed.replace("one", [long_object("a", ("qwen", ("x",))), source_object("b", ("phi",))])
        await until(lambda: bases(followed) == ["phi"])
        followed.put("one", source_object("c", ("gemma",)))
        await until(lambda: bases(followed) == ["gemma", "phi"])
        assert followed.lag_seconds > 0
        worker.may.release()
        await until(lambda: base_model_of(followed.registry, "x") == "qwen")
        await until(lambda: followed.lag_seconds == 0)
        followed.put("one", long_object("a", ("qwen", ("x",))))  # the version that is known
        followed.put("one", source_object("c", ("llama",), version=2))
        await until(lambda: bases(followed) == ["llama", "phi", "qwen"])
        assert len(worker.jobs) == 1


@in_loop
async def test_the_first_table_is_whole_with_its_long_documents(at_once):
    async with RunningBoth() as (followed, worker):
        followed.replace("one", [long_object("a", ("qwen",)), long_object("b", broken="line 3: no")])
        followed.replace("two", [source_object("c", ("phi",))])
        await until(lambda: bases(followed) == ["phi"])
        assert not followed.synced
        worker.may.release()
        await until(lambda: bases(followed) == ["phi", "qwen"])
        assert not followed.registry.complete
        worker.may.release()
        await followed.wait_synced()
        assert followed.registry.complete
        assert followed.broken == {("one", "b"): "line 3: no"}
        followed.put("one", long_object("d", ("gemma",)))
        followed.put("one", source_object("e", ("llama",)))
        await until(lambda: "llama" in bases(followed))
        assert followed.synced


@in_loop
async def test_whoever_changes_a_long_document_all_the_time_keeps_nobody_from_being_ready(at_once):
    async with RunningBoth() as (followed, worker):
        followed.replace("one", [long_object("a", ("v0",))])
        followed.replace("two", [])
        for version in range(1, 4):
            await until(lambda: len(worker.jobs) == version)  # noqa: B023
            followed.put("one", long_object("a", (f"v{version}",), version=version + 1))
            worker.may.release()
            await followed.wait_synced()
            await until(lambda: bases(followed) == [f"v{version - 1}"])  # noqa: B023


@in_loop
async def test_whoever_writes_many_long_documents_keeps_nobody_from_being_ready(at_once, caplog):
    async with RunningBoth() as (followed, worker):
        clock = followed._clock = Clock(0.0)
        followed.replace("two", [])
        followed.replace("one", [*(long_object(key, (key,)) for key in "abc"), source_object("d", ("phi",))])
        worker.may.release()
        await until(lambda: bases(followed) == ["a", "phi"])
        assert not followed.synced
        clock.now = module.FIRST_SECONDS - 0.1
        worker.may.release()
        await until(lambda: bases(followed) == ["a", "b", "phi"])
        assert not followed.synced
        followed.put("one", source_object("e", ("gemma",)))
        clock.now = module.FIRST_SECONDS
        await followed.wait_synced()
        assert bases(followed) == ["a", "b", "gemma", "phi"]
        assert "one: the model table is used without 1 long documents that are not parsed yet" in caplog.messages
        worker.may.release()
        await until(lambda: "c" in bases(followed))


@pytest.mark.parametrize("gone", ["removed", "listed without it", "short now"])
@in_loop
async def test_a_long_document_that_has_gone_while_it_was_parsed_is_gone(at_once, gone):
    async with RunningBoth() as (followed, worker):
        followed.replace("one", [long_object("a", ("old",)), source_object("b", ("phi",))])
        await until(lambda: worker.jobs)
        if gone == "removed":
            followed.remove("one", "a")
        elif gone == "listed without it":
            followed.replace("one", [source_object("b", ("phi",))])
        else:
            followed.put("one", source_object("a", ("new",), version=2))
        await until(lambda: not followed.long_documents.keys)
        worker.may.release()
        worker.may.release()
        followed.put("one", long_object("c", ("gemma",)))
        await until(lambda: "gemma" in bases(followed))
        assert bases(followed) == sorted(["gemma", "phi", *(["new"] if gone == "short now" else [])])


@in_loop
async def test_a_long_document_whose_work_failed_is_tried_again(at_once, monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    async with RunningBoth() as (followed, worker):
        for _ in range(3):
            worker.may.release()
        followed.replace("one", [long_object("a", job=OSError(11, "no process"))])
        followed.replace("two", [])
        await until(lambda: len(worker.jobs) >= 2)
        sentence = "the router can't parse it just now, and will try again; its log has the details"
        assert followed.broken == {("one", "a"): sentence}
        await followed.wait_synced()
        followed.put("one", long_object("a", ("qwen",), version=2))
        for _ in range(3):
            worker.may.release()
        await until(lambda: bases(followed) == ["qwen"])
        await until(lambda: not followed.broken)


@in_loop
async def test_a_long_document_that_takes_too_much_is_broken_until_it_changes(at_once):
    async with RunningBoth() as (followed, worker):
        worker.may.release()
        followed.replace("one", [long_object("a", job=LimitError("it takes more than 5 s of processor time"))])
        await until(lambda: followed.broken)
        assert followed.broken == {("one", "a"): "it takes more than 5 s of processor time"}
        worker.may.release()
        followed.put("one", long_object("a", ("qwen",), version=2))
        await until(lambda: bases(followed) == ["qwen"])


def test_without_another_process_long_documents_are_parsed_as_all_others():
    followed = table()
    followed.replace("one", [source_object("a", ("qwen",))._replace(long=LongDocument(None, (), Received))])
    followed.apply_now()
    assert bases(followed) == ["qwen"]


def test_conflicts_are_logged_and_counted_once(caplog):
    followed = table()
    followed.replace("one", [source_object("a", ("qwen", ("x",))), source_object("b", ("phi", ("x",)))])
    followed.apply_now()
    followed.put("one", source_object("c", ("llama",)))
    followed.apply_now()
    assert [conflict.name for conflict in followed.conflicts] == ["x"]
    assert [record.getMessage() for record in caplog.records] == [
        "x can't be an adapter of phi (thing b): it is an adapter of qwen (thing a)"
    ]
    assert followed.conflicts_total == 1
    followed.remove("one", "b")
    followed.apply_now()
    assert followed.conflicts == ()
    followed.put("one", source_object("b", ("phi", ("x",))))
    followed.apply_now()
    assert followed.conflicts_total == len(caplog.records) == 2


def test_of_many_conflicts_the_first_are_logged(caplog):
    names = tuple(f"x{i}" for i in range(1000))
    followed = table()
    followed.replace("one", [source_object("a", ("qwen", names)), source_object("b", ("phi", names))])
    followed.apply_now()
    assert len(followed.conflicts) == followed.conflicts_total == 1000
    assert len(caplog.records) == 21
    assert caplog.records[-1].getMessage() == "980 more conflicts; `bbr models` lists them"


def test_reloads_and_their_time_are_counted():
    now = 5.0
    followed = table(clock=lambda: now)
    assert (followed.reloads_total, followed.changed_at) == (0, 5.0)
    now = 7.0
    followed.replace("one", [])
    followed.apply_now()
    assert (followed.reloads_total, followed.changed_at) == (1, 7.0)


def test_a_snapshot_in_use_does_not_change():
    followed = table()
    followed.put("one", source_object("a", ("qwen",)))
    followed.apply_now()
    snapshot = followed.registry
    followed.remove("one", "a")
    followed.apply_now()
    assert base_model_of(snapshot, "qwen") == "qwen"


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(module, "COALESCE_SECONDS", 0.0)


class Running:
    def __init__(self, followed):
        self._followed = followed

    async def __aenter__(self):
        self._task = asyncio.create_task(self._followed.run())

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.wait([self._task])


@in_loop
async def test_run_follows_the_sources(at_once):
    followed = table()
    async with Running(followed):
        followed.replace("one", [source_object("a", ("qwen",))])
        followed.replace("two", [])
        await followed.wait_synced()
        assert bases(followed) == ["qwen"]
        followed.put("two", source_object("b", ("phi",)))
        await until(lambda: followed.lag_seconds == 0)
        assert bases(followed) == ["phi", "qwen"]
        await until(lambda: followed.lag_seconds == 0)


@in_loop
async def test_each_swap_can_be_awaited():
    followed = table()
    for number in range(2):
        waiting = asyncio.create_task(followed.swapped())
        await asyncio.sleep(0)
        assert not waiting.done()
        followed.put("one", source_object("a", ("qwen",), version=number))
        followed.apply_now()
        await waiting


@in_loop
async def test_changes_that_come_together_are_merged_together(monkeypatch):
    over = asyncio.Event()

    async def sleep(seconds, plain=asyncio.sleep):
        await (over.wait() if seconds else plain(0))

    monkeypatch.setattr("bbr.sources.table.asyncio.sleep", sleep)
    followed = table()
    async with Running(followed):
        for number in range(100):
            followed.put("one", source_object(str(number), (f"m{number}",)))
            await sleep(0)
        over.set()  # the 50 milliseconds for which changes are collected
        await followed.swapped()
        assert (followed.reloads_total, len(bases(followed))) == (1, 100)


@in_loop
async def test_other_tasks_run_while_objects_are_parsed_and_merged(at_once):
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    followed = table()
    task = asyncio.create_task(others())
    async with Running(followed):
        followed.put("one", source_object("a", ("qwen", tuple(map(str, range(20_000)))), pauses=30))
        await until(lambda: followed.lag_seconds == 0)
    task.cancel()
    assert turns >= 50


def parsing(followed, *objects):
    """Publish objects and stop while the last one is parsed."""
    for each in objects:
        followed.put("one", each)
    steps = followed._applying()
    next(steps)
    return steps


def test_an_object_that_goes_while_it_is_parsed_is_gone():
    followed = table()
    steps = parsing(followed, source_object("a", ("qwen",), pauses=1))
    followed.remove("one", "a")
    finish(steps)
    assert bases(followed) == []
    followed.apply_now()
    assert bases(followed) == []


def test_an_object_that_goes_before_its_turn_is_gone():
    followed = table()
    steps = parsing(followed, source_object("a", ("qwen",), pauses=1), source_object("b", ("phi",)))
    followed.replace("one", [source_object("a", ("qwen",))])
    finish(steps)
    followed.apply_now()
    assert bases(followed) == ["qwen"]


def test_what_is_parsed_when_a_list_comes_without_it_is_gone():
    followed = table()
    steps = parsing(followed, source_object("a", ("qwen",), pauses=1))
    followed.replace("one", [])
    finish(steps)
    followed.apply_now()
    assert bases(followed) == []


def test_an_older_version_put_back_while_a_newer_one_is_parsed_counts():
    followed = table()
    followed.put("one", source_object("a", ("qwen",), version=1))
    followed.apply_now()
    steps = parsing(followed, source_object("a", ("phi",), version=2, pauses=1))
    followed.put("one", source_object("a", ("qwen",), version=1))
    finish(steps)
    assert bases(followed) == ["phi"]
    followed.apply_now()
    assert bases(followed) == ["qwen"]


def test_a_source_that_never_rests_does_not_put_a_swap_off():
    followed = table()
    followed.put("one", source_object("a", ("qwen",), pauses=3))
    for number, _ in enumerate(followed._applying()):
        followed.put("one", source_object("b", (f"m{number}",), version=number))
    assert bases(followed) == ["qwen"]
    assert followed.reloads_total == 1


@in_loop
async def test_all_objects_together_may_declare_so_many_names(at_once, monkeypatch, caplog):
    monkeypatch.setattr(module, "MAX_NAMES", 6)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    followed = table()
    async with Running(followed):
        followed.put("one", source_object("a", ("qwen", ("x", "y"))))
        followed.put("one", source_object("b", ("phi", ("z",))))
        await until(lambda: bases(followed) == ["phi", "qwen"])
        followed.put("one", source_object("b", ("phi", ("z", "1", "2", "3")), version=2))
        followed.put("one", source_object("c", ("gemma", ("4",))))
        await until(lambda: len(followed.broken) == 2)
        # What was there stays; what is new is named, once.
        assert (bases(followed), followed.failures_total) == (["phi", "qwen"], 2)
        assert base_model_of(followed.registry, "z") == "phi"
        assert followed.broken["one", "b"].endswith("may declare 6 names; with the 5 of this one there are more")
        followed.remove("one", "a")
        await until(lambda: followed.broken.keys() == {("one", "c")})
        assert (bases(followed), base_model_of(followed.registry, "3")) == (["phi"], "phi")
        followed.put("one", source_object("b", ("phi",), version=3))
        await until(lambda: not followed.broken)
        assert bases(followed) == ["gemma", "phi"]
    assert followed.failures_total == 2
    assert caplog.text.count("one c: all objects together may declare 6 names") == 1


def test_all_that_an_object_declares_counts():
    many = tuple(BaseModel(f"m{number}", ("a",)) for number in range(1500))
    declaration = Declaration(
        Origin(), many, (Alias("b", "m1"),), (Grant("m1", frozenset()),), "s", ("h", "i"), (BaseModel("x", ("y", "z")),)
    )
    assert finish(module._count_names((declaration,) * 2)) == 2 * (3000 + 1 + 1 + 2 + 3)
    steps = sum(1 for _ in module._count_names((declaration,) * 2))
    assert steps == 2 * 3  # a thousand models at a time
    assert sum(1 for _ in module._count_names((Declaration(Origin()),) * 2500)) == 2


def test_what_looks_like_a_pattern_is_logged_once_and_kept(caplog):
    followed = Table(["file"])

    def publish(version, *names):
        models = tuple(map(BaseModel, names))
        declared = (Declaration(Origin("file", "a", line=number), (model,)) for number, model in enumerate(models))
        found = tuple(declared)

        def parse():
            yield
            return found

        followed.replace("file", [SourceObject("a", version, parse)])
        followed.apply_now()
        return [record.getMessage() for record in caplog.records if "literally" in record.getMessage()]

    assert len(publish(1, "a*", "b")) == 1
    assert len(publish(2, "a*", "c")) == 1
    assert next(followed.literal).startswith("the base model a* (file a) is taken literally")
    assert len(publish(3, "b", "x?")) == 2
    assert len([*followed.literal]) == 1
    publish(4, *(f"m{number}*" for number in range(100)))
    assert len([*followed.literal]) == 20
    publish(5, "b")
    assert [*followed.literal] == []


def test_lists_for_names_that_nothing_declares_are_logged_once(caplog):
    followed = table()

    def publish(*names):
        grants = tuple(Grant(name, frozenset("a")) for name in names)

        def parse():
            yield
            return (Declaration(Origin("thing", "a"), (BaseModel("qwen"),), (), grants),)

        caplog.clear()
        followed.put("one", SourceObject("a", names, parse))
        followed.apply_now()
        return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

    assert publish("qwen") == []
    assert publish("qwen", "qwne", "x") == ["allow: the model table does not hold qwne, x"]
    assert publish("qwen", "x", "qwne") == []
    many = [f"x-{number:03}" for number in range(25)]
    assert publish(*many) == [f"allow: the model table does not hold {', '.join(many[:20])} and 5 more"]


@in_loop
async def test_a_large_table_is_set_aside_once_it_is_in_use(at_once, monkeypatch):
    followed, frozen, during = table(), [], []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(followed.registry.size))
    monkeypatch.setattr(garbage, "SET_ASIDE_FROM", 3)
    before = gc.get_threshold()

    def parse():
        during.append(gc.get_threshold())
        yield
        return (Declaration(Origin("thing", "a"), (BaseModel("qwen", ("x", "y")),)),)

    async with Running(followed):
        followed.put("one", source_object("b", ("phi",)))
        await until(lambda: bases(followed) == ["phi"] and gc.get_threshold() == before)
        assert not frozen
        followed.put("one", SourceObject("a", 1, parse))
        await until(lambda: frozen)
        assert frozen == [4]
        assert gc.get_threshold() == before
        assert [each[:2] for each in during] == [before[:2]]
        assert during[0][2] > before[2]


@in_loop
async def test_there_are_no_full_collections_until_long_documents_are_in_use(at_once):
    before = gc.get_threshold()
    async with RunningBoth() as (followed, worker):
        followed.replace("one", [long_object("a", ("qwen",)), source_object("b", ("phi",))])
        await until(lambda: bases(followed) == ["phi"] and worker.jobs)
        assert gc.get_threshold() != before
        worker.may.release()
        await until(lambda: bases(followed) == ["phi", "qwen"])
        await until(lambda: gc.get_threshold() == before)
        followed.put("one", long_object("a", ("gemma",), version=2))
        await until(lambda: len(worker.jobs) == 2)
    assert gc.get_threshold() == before


@in_loop
async def test_a_namespace_leaves_room_for_names_to_others(at_once, monkeypatch):
    monkeypatch.setattr(module, "MAX_NAMESPACE_NAMES", 3)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    followed = Table([module.KUBERNETES])
    async with Running(followed):
        followed.put(module.KUBERNETES, source_object("evil/a", ("qwen", ("x", "y"))))
        followed.put(module.KUBERNETES, source_object("evil/b", ("phi",)))
        followed.put(module.KUBERNETES, source_object("honest/a", ("gemma", ("z", "w"))))
        await until(lambda: bases(followed) == ["gemma", "qwen"])
        why = "the objects of a namespace may declare 3 names; with the 1 of this one there are more"
        assert followed.broken == {(module.KUBERNETES, "evil/b"): why}
        followed.remove(module.KUBERNETES, "evil/a")
        await until(lambda: bases(followed) == ["gemma", "phi"])
        assert followed.broken == {}
