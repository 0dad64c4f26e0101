import asyncio

import pytest

from bbr.models.steps import finish
from bbr.sources.long_documents import LongDocuments
from bbr.sources.objects import LongDocument, SourceError, SourceObject, refusing
from bbr.system.worker_process import LimitError, WorkerError
from tests.support.loops import in_loop
from tests.support.stack import until

A, B = ("one", "a"), ("one", "b")


class Received:
    def __init__(self):
        self.frames = []

    def take(self, frame):
        self.frames.append(frame)

    def parse(self):
        yield
        return tuple(self.frames)


def long(key, version, *frames, error=None):
    job = (frames, error)
    return SourceObject(key[1], version, refusing("not parsed here"), LongDocument(job, (), Received))


class Scripted:
    """The other process: it does a piece of work when the test says so."""

    def __init__(self):
        self.begun = []
        self.may = asyncio.Semaphore(0)

    async def run(self, job, _pieces, take):
        frames, error = job
        self.begun.append(frames)
        await self.may.acquire()
        for frame in frames:
            take(frame)
        if error:
            raise error


class Running:
    """An LongDocuments that works, and what it has told."""

    async def __aenter__(self):
        self.worker, self.parsed, self.failed, self.now = Scripted(), [], [], 0.0
        self.long_documents = LongDocuments(
            self.worker,
            lambda key, each: self.parsed.append((key, each)),
            lambda key, each: self.failed.append((key, each)),
            lambda: self.now,
        )
        self.start()
        return self

    def start(self):
        self.task = asyncio.create_task(self.long_documents.run())

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.wait([self.task])

    async def works_on(self, *frames):
        await until(lambda: self.worker.begun and self.worker.begun[-1] == frames)

    def versions(self):
        return [(key, each.version) for key, each in self.parsed]


@in_loop
async def test_one_after_the_other_is_parsed():
    async with Running() as it:
        it.long_documents.put(A, long(A, 1, b"x", b"y"))
        it.now = 7.0
        it.long_documents.put(B, long(B, 1, b"z"))
        await it.works_on(b"x", b"y")
        assert (set(it.long_documents.keys), it.long_documents.since) == ({A, B}, 0.0)
        it.worker.may.release()
        await it.works_on(b"z")
        assert (set(it.long_documents.keys), it.long_documents.since) == ({B}, 7.0)
        it.worker.may.release()
        await until(lambda: len(it.parsed) == 2)
        assert (set(it.long_documents.keys), it.long_documents.since) == (set(), None)
        assert [(key, finish(each.parse()), each.long) for key, each in it.parsed] == [
            (A, (b"x", b"y"), None),
            (B, (b"z",), None),
        ]
        it.long_documents.put(A, long(A, 2))
        it.worker.may.release()
        await until(lambda: len(it.parsed) == 3)


@in_loop
async def test_of_what_waits_the_newest_is_parsed_and_what_is_at_work_is_not_lost():
    """Whoever changes an object again and again must not keep it from ever being used."""
    async with Running() as it:
        it.long_documents.put(A, long(A, 1, b"1"))
        await it.works_on(b"1")
        for version in (2, 3):
            it.long_documents.put(A, long(A, version, b"%d" % version))
        it.worker.may.release()
        await it.works_on(b"3")
        assert it.versions() == [(A, 1)]
        assert set(it.long_documents.keys) == {A}
        it.worker.may.release()
        await until(lambda: len(it.parsed) == 2)
        assert it.versions() == [(A, 1), (A, 3)]


@in_loop
async def test_what_has_gone_is_forgotten_wherever_it_is():
    async with Running() as it:
        for key in (A, B):
            it.long_documents.put(key, long(key, 1, key[1].encode()))
        await it.works_on(b"a")
        for key in (A, B):
            it.long_documents.discard(key)
        assert set(it.long_documents.keys) == set()
        it.long_documents.put(A, long(A, 2, b"new"))
        it.worker.may.release()
        await it.works_on(b"new")
        assert it.parsed == []
        it.worker.may.release()
        await until(lambda: it.parsed)
        assert it.versions() == [(A, 2)]


@in_loop
async def test_what_takes_too_much_is_refused():
    async with Running() as it:
        it.worker.may.release()
        it.long_documents.put(A, long(A, 1, b"x", error=LimitError("it takes more than 5 s of processor time")))
        await until(lambda: it.parsed)
        ((_, each),) = it.parsed
        with pytest.raises(SourceError, match=r"^it takes more than 5 s of processor time$"):
            finish(each.parse())


@pytest.mark.parametrize(
    "error", [WorkerError("it died"), OSError(11, "no process"), RuntimeError("no thread")], ids=str
)
@in_loop
async def test_what_fails_for_no_fault_of_its_own_is_told_as_it_was(caplog, error):
    async with Running() as it:
        it.worker.may.release()
        each = long(A, 1, error=error)
        it.long_documents.put(A, each)
        await until(lambda: it.failed)
        assert it.failed == [(A, each)]
        assert it.parsed == []
        assert set(it.long_documents.keys) == set()
        assert caplog.messages == [f"one a: can't be parsed at the moment: {error}"]


@in_loop
async def test_what_fails_after_it_has_gone_is_nobodys():
    async with Running() as it:
        it.long_documents.put(A, long(A, 1, b"1", error=WorkerError("it died")))
        await it.works_on(b"1")
        it.long_documents.discard(A)
        it.long_documents.put(B, long(B, 1, b"2"))
        it.worker.may.release()
        await it.works_on(b"2")
        assert it.failed == []


@in_loop
async def test_an_error_of_ours_loses_nothing():
    async with Running() as it:
        it.worker.may.release()
        it.long_documents.put(A, long(A, 1, b"1", error=MemoryError()))
        await asyncio.wait([it.task])
        assert type(it.task.exception()) is MemoryError
        assert set(it.long_documents.keys) == {A}
        it.start()
        await until(lambda: len(it.worker.begun) == 2)
        it.long_documents.discard(A)
        it.worker.may.release()
        await asyncio.wait([it.task])
        it.start()
        it.long_documents.put(B, long(B, 1, b"2"))
        await it.works_on(b"2")


@in_loop
async def test_namespaces_and_directories_take_turns():
    """Who may write a hundred documents keeps others waiting for one of them."""
    many = [("one", f"evil/{number}") for number in range(3)]
    other, file = ("one", "honest/a"), ("file", "evil/a")
    async with Running() as it:
        for key in (*many, other, ("one", "honest/b"), file):
            it.long_documents.put(key, long(key, 1, key[1].encode()))
        await it.works_on(b"evil/0")
        it.long_documents.put(many[0], long(many[0], 2, b"again"))
        it.long_documents.discard(("one", "honest/b"))
        for _ in range(6):
            it.worker.may.release()
        await until(lambda: len(it.parsed) == 6)
        assert it.versions() == [(many[0], 1), (other, 1), (file, 1), (many[1], 1), (many[2], 1), (many[0], 2)]
        assert set(it.long_documents.keys) == set()
