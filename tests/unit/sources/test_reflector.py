import asyncio
import gc
import itertools
import logging
from functools import partial

import pytest

from bbr.sources import kube_api, reflector
from bbr.sources.kube_api import KubeApi
from bbr.sources.kubernetes import ConfigMap
from bbr.sources.reflector import Pace, Reflector
from bbr.system import garbage
from bbr.system.worker_process import WorkerProcess
from bench.harness.fake_kubernetes import BBR, CONFIG_MAPS, IPP, FakeKubernetes, Fault, Watch
from tests.support.loops import in_loop
from tests.support.stack import until

PACE = Pace(first_delay_seconds=0.001, longest_delay_seconds=0.005, short_watch_seconds=0.0, request_seconds=20.0)


class Known:
    """A sink that remembers."""

    def __init__(self):
        self.names = set()
        self.replaced = self.begun = 0

    def begin(self):
        self.begun += 1

    def read(self, found):
        return found.metadata.uid

    def replace(self, kept):
        yield
        self.names = set(kept)
        self.replaced += 1

    def put(self, key, _kept):
        self.names.add(key)

    def remove(self, key):
        self.names.remove(key)


class Following:
    """A reflector that follows the labelled ConfigMaps of a server of its own."""

    def __init__(self, tmp_path, pace=PACE, jitter=lambda: 0.0, **options):
        self.server = FakeKubernetes()
        self.known = Known()
        self._directory = tmp_path
        self._options = {"pace": pace, "jitter": jitter, **options}

    async def __aenter__(self):
        self.server.put("a")
        self.server.put("other", labels=())
        await self.server.start()
        path = self.server.kubeconfig(self._directory)
        self.worker = WorkerProcess()
        connect = partial(KubeApi, path)
        self.reflector = Reflector(
            "things",
            CONFIG_MAPS,
            f"{BBR}=true",
            ConfigMap,
            self.known,
            connect,
            self.worker,
            begin=self.known.begin,
            **self._options,
        )
        self._task = asyncio.create_task(self.reflector.run())
        return self

    async def __aexit__(self, *_error):
        self._task.cancel()
        await asyncio.wait([self._task])
        assert self._task.cancelled()
        self.worker.close()
        await self.server.stop()

    async def watching(self):
        """Await an open watch."""
        await until(lambda: self.server.watches and not self.reflector.failing)

    async def knows(self, *names):
        await until(lambda: self.known.names == {f"default/{name}" for name in names})


@in_loop
async def test_lists_and_then_watches(tmp_path):
    async with Following(tmp_path) as it:
        await it.watching()
        assert it.known.names == {"default/a"}
        assert (it.reflector.listed, it.reflector.lists_total) == (True, 1)
        it.server.put("b", note="\x85 and \u2028 end no line")
        it.server.put("c", namespace="else")
        it.server.put("a", labels=(IPP,))
        await until(lambda: it.known.names == {"default/b", "else/c"})
        it.server.delete("b")
        await until(lambda: it.known.names == {"else/c"})
        assert it.reflector.lists_total == 1


@in_loop
async def test_one_that_is_being_deleted_is_gone(tmp_path):
    it = Following(tmp_path)
    it.server.put("b", deleting=True)
    async with it:
        await it.watching()
        assert it.known.names == {"default/a"}
        it.server.put("c")
        it.server.put("a", deleting=True)
        await it.knows("c")


@in_loop
async def test_asks_as_it_should(tmp_path):
    async with Following(tmp_path, jitter=lambda: 0.5) as it:
        await it.watching()
        listed, watched = it.server.requests
        assert listed.parameters == {"labelSelector": f"{BBR}=true", "limit": "100"}
        assert watched.parameters == {
            "labelSelector": f"{BBR}=true",
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": "3",
            "timeoutSeconds": "360",
        }
        for request in it.server.requests:
            assert request.headers["authorization"] == "bearer secret"
            assert request.headers["accept-encoding"] == "identity"


@in_loop
async def test_a_long_list_is_read_page_by_page(tmp_path):
    it = Following(tmp_path)
    for number in range(249):
        it.server.put(f"n{number}")
    async with it:
        await it.watching()
        assert len(it.known.names) == 250
        assert len(it.server.requests) == 4
        assert it.known.replaced == 1


@in_loop
async def test_a_watch_that_the_server_ends_goes_on_from_its_last_version(tmp_path):
    async with Following(tmp_path) as it:
        await it.watching()
        it.server.put("unrelated", labels=())
        it.server.bookmark()
        await until(lambda: it.reflector.version == str(it.server.version))
        it.server.each_watch(Watch.close)
        it.server.put("b")
        await it.knows("a", "b")
        assert it.server.requests[-1].parameters["resourceVersion"] == str(it.server.version - 1)
        assert (it.reflector.lists_total, it.reflector.failures_total) == (1, 0)


@in_loop
async def test_its_age_is_the_time_since_the_last_proof(tmp_path):
    now = [0.0]
    async with Following(tmp_path, clock=lambda: now[0]) as it:
        age = lambda: it.reflector.age_seconds  # noqa: E731
        await it.watching()
        now[0] = 100.0
        assert age() == 100.0  # a watch that says nothing may be a dead connection
        it.server.bookmark()
        await until(lambda: age() == 0)
        now[0] = 200.0
        it.server.put("b")
        await until(lambda: age() == 0)
        now[0] = 300.0
        it.server.each_watch(Watch.close)  # as servers do after some minutes
        await until(lambda: age() == 0)
        await it.watching()
        held = asyncio.Event()
        it.server.faults += [Fault(status=401), Fault(until=held)]
        now[0] = 400.0
        it.server.each_watch(Watch.abandon)
        await until(lambda: len(it.server.faults) == 0)  # the list after the 401 waits for its answer
        assert "401" in it.reflector.failing
        assert age() == 100.0
        held.set()
        await it.watching()
        assert age() == 0


def _clean_cut(watch):
    """End a watch as it should end, but in the middle of a line."""
    watch.write(b'{"type":"MODIFIED"')
    watch.close()


FAULTS = {
    "410 as an event": FakeKubernetes.gone,
    "an error as an event": lambda watch: watch.send("ERROR", {"code": 500, "message": "etcd is away"}),
    "cut between lines": Watch.abandon,
    "cut within a line": Watch.cut,
    "ended within a line": _clean_cut,
    "not JSON": lambda watch: watch.write(b"<html>\n"),
    "not an event": lambda watch: watch.write(b'{"kind": "List"}\n'),
    "an unknown event": lambda watch: watch.send("CHANGED", {"metadata": {}}),
    "not an object": lambda watch: watch.send("ADDED", {"metadata": {"name": 5}}),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@in_loop
async def test_a_watch_that_breaks_is_followed_by_a_new_list(tmp_path, fault):
    async with Following(tmp_path) as it:
        await it.watching()
        it.server.put("b")
        await it.knows("a", "b")
        it.server.each_watch(fault)
        it.server.delete("a")
        it.server.forget()  # what happened meanwhile is not told by any watch
        await it.knows("b")
        await it.watching()
        it.server.put("c")
        await it.knows("b", "c")
        await until(lambda: not it.reflector.failing)
        assert it.reflector.failures_total >= 1


@in_loop
async def test_410_as_a_status_is_followed_by_a_new_list_and_is_nothing_to_worry_about(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    async with Following(tmp_path) as it:
        await it.watching()
        it.server.put("other", labels=())
        it.server.forget()
        it.server.each_watch(Watch.close)
        await until(lambda: it.reflector.lists_total >= 2)
        await it.watching()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("bbr")] == [
        "things: the API server has forgotten version 3: listing again"
    ]


REFUSALS = {
    "429": Fault(429, headers={"Retry-After": "1"}),
    "500": Fault(500),
    "not a Status": Fault(503, body=b"<html>"),
    "no answer": Fault(),
    "cut in the middle": Fault(cut=0.5),
    "no list": Fault(200, body=b"{}"),
    "not JSON": Fault(200, body=b"<html>"),
}


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS)
@in_loop
async def test_a_list_that_fails_takes_nothing_away(tmp_path, fault):
    async with Following(tmp_path) as it:
        await it.watching()
        it.server.faults.extend([fault] * 3)
        it.server.put("b")
        await it.knows("a", "b")
        it.server.each_watch(Watch.cut)
        await until(lambda: it.reflector.failures_total == 4)  # the watch, and then three lists
        assert it.known.names == {"default/a", "default/b"}
        it.server.put("c")
        await it.knows("a", "b", "c")
        assert it.known.replaced == 2


@in_loop
async def test_a_list_whose_next_page_is_gone_begins_anew(tmp_path):
    it = Following(tmp_path)
    for number in range(149):
        it.server.put(f"n{number}")
    held = asyncio.Event()
    it.server.faults.append(Fault(until=held, applies=lambda request: "continue" in request.parameters))
    async with it:
        await until(lambda: not it.server.faults)
        it.server.forget()
        it.server.delete("n0")
        held.set()
        await it.watching()
        assert len(it.known.names) == 149


@in_loop
async def test_a_server_that_is_away_takes_nothing_away(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    async with Following(tmp_path) as it:
        await it.watching()
        await it.server.stop()
        await until(lambda: it.reflector.failures_total >= 5)
        assert it.known.names == {"default/a"}
        assert "ConnectError" in it.reflector.failing
        it.server.put("b")
        it.server.delete("a")
        await it.server.start()
        await it.knows("b")
        await it.watching()
        lines = [record.getMessage() for record in caplog.records if record.name.startswith("bbr")]
        assert 2 <= len(lines) <= 4, lines  # each reason once, and the end of it
        assert lines[-1] == "things: followed again"


@in_loop
async def test_a_slow_server_is_not_waited_for_for_ever(tmp_path):
    never = asyncio.Event()
    async with Following(tmp_path, Pace(first_delay_seconds=0.001, request_seconds=0.05)) as it:
        await it.watching()
        it.server.faults.append(Fault(until=never))
        it.server.each_watch(Watch.close)
        await until(lambda: it.reflector.failing == "the API server did not answer in time")
        assert it.known.names == {"default/a"}
        await until(lambda: it.reflector.lists_total >= 2)
        never.set()


@in_loop
async def test_a_watch_that_the_server_does_not_end_is_ended(tmp_path):
    pace = Pace(first_delay_seconds=0.001, watch_seconds=0.01, watch_grace_seconds=0.01)
    async with Following(tmp_path, pace) as it:
        await until(lambda: it.reflector.lists_total >= 3)
        assert it.known.names == {"default/a"}


@in_loop
async def test_a_server_that_ends_each_watch_at_once_is_not_run_down(tmp_path, caplog):
    async with Following(tmp_path, Pace(first_delay_seconds=0.001, short_watch_seconds=20.0)) as it:
        it.server.faults.extend(Fault(cut=0, applies=lambda request: request.watch) for _ in range(4))
        await until(lambda: it.server.watches)
        assert (it.reflector.failures_total, it.reflector.lists_total) == (4, 5)
        assert it.reflector.failing == "the server ended a watch as soon as it had begun"
        it.server.bookmark()
        await it.watching()
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def pauses(errors, pace, jitter=0.0, step=1.0):
    """Return how long each of a row of failures is waited for."""
    now = 0.0
    reflector = Reflector(
        "", "", "", ConfigMap, Known(), KubeApi, WorkerProcess(), pace=pace, jitter=lambda: jitter, clock=lambda: now
    )
    found = []
    for error in errors:
        now += step
        found.append(reflector._pause(error))
    return found


def test_pauses_grow_to_a_limit_and_begin_anew_after_a_calm():
    pace = Pace(first_delay_seconds=1.0, longest_delay_seconds=5.0, calm_seconds=60.0)
    errors = [ValueError()] * 5
    assert pauses(errors, pace) == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert pauses(errors, pace, jitter=1.0) == [0.5, 1.0, 2.0, 2.5, 2.5]
    assert pauses(errors, pace, step=61.0) == [1.0] * 5


@in_loop
async def test_of_large_objects_fewer_are_asked_for_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(kube_api, "MAX_ANSWER_BYTES", 100_000)
    it = Following(tmp_path)
    for number in range(12):
        it.server.put(f"large-{number}", data={"other": "x" * 40_000})
    async with it:
        await it.watching()
        assert len(it.known.names) == 13
        limits = [request.parameters["limit"] for request in it.server.requests if not request.watch]
        assert limits == ["100", "10", *["1"] * 13]
        assert it.reflector.failures_total == 0


@in_loop
async def test_an_object_that_is_too_large_even_alone_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(kube_api, "MAX_ANSWER_BYTES", 100_000)
    it = Following(tmp_path)
    it.server.put("large", data={"other": "x" * 100_000})
    async with it:
        await until(lambda: it.reflector.failing)
        assert it.reflector.failing == "the answer is longer than 100000 bytes"


@in_loop
async def test_a_collection_of_too_many_objects_is_told_and_what_is_known_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(reflector, "MAX_OBJECTS", 2)
    async with Following(tmp_path) as it:
        await it.watching()
        it.server.put("b")
        await it.knows("a", "b")
        it.server.delete("b")
        await it.knows("a")
        it.server.put("b")
        await it.knows("a", "b")
        it.server.put("c")
        await until(lambda: "more than 2 objects" in it.reflector.failing)
        lists, failures = it.reflector.lists_total, it.reflector.failures_total
        await until(lambda: it.reflector.failures_total > failures)  # the list is too long too
        assert it.known.begun > it.known.replaced
        assert (it.known.names, it.reflector.lists_total) == ({"default/a", "default/b"}, lists)
        it.server.delete("a")
        await it.knows("b", "c")
        await until(lambda: not it.reflector.failing)


@in_loop
async def test_long_events_are_taken_like_others(tmp_path):
    async with Following(tmp_path) as it:
        await it.watching()
        it.server.put("long", data={"other": "<" * 200_000})
        await it.knows("a", "long")
        it.server.delete("long")
        await it.knows("a")
        assert it.reflector.failures_total == 0


@in_loop
async def test_others_are_served_while_many_events_come_at_once(tmp_path):
    async with Following(tmp_path) as it:
        await it.watching()
        turns = []

        async def others():
            while True:
                turns.append(len(it.known.names))
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        for number in range(1000):
            it.server.put(f"n{number}")
        await until(lambda: len(it.known.names) == 1001)
        task.cancel()
        sizes = sorted(set(turns))
        assert max(after - before for before, after in itertools.pairwise(sizes)) <= reflector._STEP_EVENTS


@in_loop
async def test_credentials_that_are_gone_are_told_and_read_anew(tmp_path, caplog):
    async with Following(tmp_path) as it:
        await it.watching()
        path = tmp_path / "kubeconfig"
        text = path.read_text()
        path.unlink()
        it.server.each_watch(Watch.abandon)
        await until(lambda: "No such file" in it.reflector.failing)
        path.write_text(text)
        await it.watching()


@in_loop
async def test_an_error_of_ours_is_told_with_its_place_and_ends_nothing(tmp_path, caplog):
    async with Following(tmp_path) as it:
        await it.watching()
        # The sink of this test does not take it well.
        it.server.each_watch(lambda watch: watch.send("DELETED", {"metadata": {"name": "x"}}))
        await until(lambda: it.reflector.lists_total >= 2)
        await it.watching()
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert record.exc_info[0] is KeyError
    assert "an internal error: KeyError" in record.getMessage()


@in_loop
async def test_a_collection_that_the_server_does_not_have_is_empty_until_it_has_it(tmp_path):
    following = Following(tmp_path, optional=True)
    following.server.unknown.add(CONFIG_MAPS)
    async with following as it:
        await until(lambda: it.known.replaced)
        assert (it.known.names, it.reflector.listed, it.reflector.failing) == (set(), True, "")
        assert it.reflector.failures_total == 0
        it.server.unknown.clear()
        await it.knows("a")
        it.server.unknown.add(CONFIG_MAPS)  # its CRD is removed, and all objects with it
        it.server.each_watch(Watch.abandon)
        await it.knows()


@in_loop
async def test_other_collections_must_be_there(tmp_path):
    following = Following(tmp_path)
    following.server.unknown.add(CONFIG_MAPS)
    async with following as it:
        await until(lambda: it.reflector.failing.startswith("404"))
        assert not it.reflector.listed


@in_loop
async def test_a_large_list_is_set_aside(tmp_path, monkeypatch):
    frozen, during = [], []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    monkeypatch.setattr(garbage, "SET_ASIDE_FROM", 2)
    before = gc.get_threshold()
    it = Following(tmp_path)
    read = it.known.read
    it.known.read = lambda found: during.append(gc.get_threshold()) or read(found)
    async with it:
        await it.watching()
        assert (frozen, gc.get_threshold()) == ([], before)
        it.server.put("b")
        await it.knows("a", "b")
        it.server.put("other", labels=())
        it.server.forget()
        it.server.each_watch(Watch.close)
        await until(lambda: it.reflector.lists_total >= 2)
        assert (frozen[:1], gc.get_threshold()) == ([True], before)
    assert max(each[2] for each in during) > before[2]
