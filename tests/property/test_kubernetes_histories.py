"""Whatever happens to ConfigMaps, to the API server and to the way there: in the end the table is that of the objects.

Random histories of create, edit, relabel and delete, with everything that goes wrong in between, are played to a fake
API server over real HTTP. Whenever all is quiet the table must equal one that is computed, by other code, from the
objects that there are. BBR_HISTORY_STEPS says how many steps there are in all (`make histories` takes 10,000).
"""

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path

import uvloop
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from bbr.sources import reflector
from bbr.sources.kube_api import KubeApi
from bbr.sources.kubernetes import KUBERNETES, KubernetesSource
from bbr.sources.reflector import Pace
from bbr.sources.table import Table
from bbr.system.worker_process import WorkerProcess
from bench.harness.fake_kubernetes import BBR, IPP, FakeKubernetes, Fault, Watch
from tests.support.loops import DEADLINE_SECONDS

STEPS = int(os.environ.get("BBR_HISTORY_STEPS", "1000"))
STEPS_A_HISTORY = 50

PACE = Pace(first_delay_seconds=0.0005, longest_delay_seconds=0.004, short_watch_seconds=0.0)

NAMES = st.tuples(st.sampled_from(["east", "west"]), st.sampled_from(["a", "b", "c"]))
LABELS = st.sampled_from([(), (BBR,), (IPP,), (BBR, IPP)])
MODELS = ["m1", "m2", "m3", "x1", "x2", "x3", "x4"]  # the same for base models and adapters: conflicts are wanted
PAGE = 2  # objects; so that lists have several
DATES = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])
GOOD = st.tuples(st.sampled_from(MODELS), st.lists(st.sampled_from(MODELS), max_size=4))
BAD = st.sampled_from([{"baseModel": " "}, {"adapters": "- x1"}, {"baseModel": "m1", "adapters": "["}, {}])
OFTEN_GOOD = st.sampled_from([None, None, None]) | BAD


def data_of(good):
    base, adapters = good
    return {"baseModel": base, "adapters": "".join(f"- {adapter}\n" for adapter in adapters)}


def expected_table(objects):
    """Return name -> base model, by the rules, from (precedence, base model, adapters) of each object."""
    objects = sorted(objects)
    table = {base: base for _, base, _ in objects}
    for _, base, adapters in objects:
        for adapter in adapters:
            table.setdefault(adapter, base)
    return table


class Histories(RuleBasedStateMachine):
    """One cluster, one router; each rule is a step."""

    steps = 0

    def __init__(self):
        super().__init__()
        self.good = {}  # uid -> what was good when all was quiet last, of objects that have been there since
        self.stable = set()  # uids of objects that are there without a break since all was quiet last
        self.labels = {}  # uid -> those labels that it has had all the time since all was quiet last
        self.written = {}  # uid -> good content, or None
        self.down = False
        self.forget_at_next_change = False

    @initialize(gone_as_event=st.booleans())
    def begin(self, gone_as_event):
        self.stack = contextlib.ExitStack()
        self.runner = self.stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        directory = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.run(self._begin(Path(directory)))
        self.server.gone_as_event = gone_as_event

    async def _begin(self, directory):
        self.server = FakeKubernetes()
        self.held = asyncio.Event()
        await self.server.start()
        path = self.server.kubeconfig(directory)
        self.table = Table([KUBERNETES])
        self.source = KubernetesSource(self.table, lambda: KubeApi(path), WorkerProcess(), pace=PACE)
        self.following = [asyncio.create_task(run()) for run in self.source.bodies().values()]

    @invariant()
    def count(self):
        type(self).steps += 1

    def run(self, coroutine):
        async def bound():
            async with asyncio.timeout(DEADLINE_SECONDS):
                await coroutine

        self.runner.run(bound())

    def teardown(self):
        if hasattr(self, "stack"):
            self.run(self._quiet())
            self.run(self._end())
            self.stack.close()

    async def _end(self):
        for task in self.following:
            task.cancel()
        await asyncio.wait(self.following)
        assert all(task.cancelled() for task in self.following)
        await self.server.stop()

    # What people do to objects.

    def _find(self, namespace, name):
        found = (each["metadata"] for each in self.server.objects())
        return next((each for each in found if (each["namespace"], each["name"]) == (namespace, name)), None)

    def _write(self, at, labels, good, bad, created, *, deleting=False):
        namespace, name = at
        before = self._find(namespace, name)
        if before:
            throughout = self.labels.get(before["uid"], {*before["labels"]}) & {*labels}
            self.labels[before["uid"]] = throughout
            if deleting or not throughout or "deletionTimestamp" in before:
                # One that goes, or changes its label, may or may not be seen to be gone for a moment: each label has a
                # watch of its own, and the watch of the old one may be ahead.
                self.stable.discard(before["uid"])
        if before and before["uid"] not in self.stable:
            bad = None  # whether it has a last good content then depends on what was seen
        content = data_of(good) if bad is None else bad
        after = self.server.put(
            name, namespace=namespace, labels=labels, created=created, deleting=deleting, data=content
        )
        self.written[after["metadata"]["uid"]] = good if bad is None else None
        self._forget()

    def _forget(self):
        """Let nobody be told later of what has happened while no watch was open."""
        if self.forget_at_next_change:
            self.server.forget()
            self.forget_at_next_change = False

    @rule(at=NAMES, labels=LABELS, good=GOOD, bad=OFTEN_GOOD, created=DATES)
    def write(self, at, labels, good, bad, created):
        self._write(at, labels, good, bad, created)

    @rule(at=NAMES, good=GOOD, bad=OFTEN_GOOD, created=DATES)
    def edit(self, at, good, bad, created):
        before = self._find(*at)
        self._write(at, (*before["labels"],) if before else (BBR,), good, bad, created)

    @rule(
        at=NAMES,
        good=GOOD,
        how=st.sampled_from(["delete", "mark", "make anew", "make anew, bad"]),
        bad=BAD,
        created=DATES,
    )
    def leave(self, at, good, how, bad, created):
        before = self._find(*at)
        if before is None:
            return
        labels = (*before["labels"],)
        if how == "mark":
            self._write(at, labels, good, None, created, deleting=True)
            return
        self.server.delete(at[1], namespace=at[0])
        self._forget()
        if how != "delete":
            self._write(at, labels, good, bad if how == "make anew, bad" else None, created)

    # What befalls the server and the way there.

    @rule(how=st.sampled_from([Watch.close, Watch.cut, Watch.abandon, FakeKubernetes.gone]), forget=st.booleans())
    def watches_end(self, how, forget):
        self.server.each_watch(how)
        self.forget_at_next_change = forget

    @rule(
        wrong=st.sampled_from(["failures", "an answer is cut", "a storm", "an answer is slow", "away", "back"]),
        status=st.sampled_from([0, 401, 410, 429, 500, 503]),
        watch=st.booleans(),
        share=st.floats(0, 0.99),
    )
    def go_wrong(self, wrong, status, watch, share):
        def applies(request):
            return request.watch == watch

        faults = self.server.faults
        if wrong == "failures":
            faults.extend(Fault(status, applies=applies) for _ in range(3))
        elif wrong == "an answer is cut":
            faults.append(Fault(cut=share, applies=applies))
        elif wrong == "a storm":
            faults.extend(Fault(cut=0, applies=lambda request: request.watch) for _ in range(8))
        elif wrong == "an answer is slow":
            faults.append(Fault(until=self.held, applies=applies))
        else:
            self.run(self._go_away() if wrong == "away" else self._come_back())
        self.server.each_watch(Watch.abandon if watch else Watch.close)

    async def _go_away(self):
        if not self.down:
            self.down = True
            await self.server.stop()

    async def _come_back(self):
        if self.down:
            self.down = False
            await self.server.start()

    @rule(turns=st.integers(1, 300))
    def time_goes_by(self, turns):
        self.run(self._turns(turns))

    async def _turns(self, turns):
        for _ in range(turns):
            await asyncio.sleep(0)

    @rule()
    def all_is_quiet(self):
        self.run(self._quiet())

    async def _quiet(self):
        await self._come_back()
        self.server.faults.clear()
        self.held.set()
        version = str(self.server.version)
        while any(each.version != version for each in self.source.reflectors):
            self.server.bookmark()
            await asyncio.sleep(0.0005)
        self.held.clear()
        self.table.apply_now()
        self._compare()

    def _compare(self):
        there = []
        seen = {}
        for each in self.server.objects():
            metadata = each["metadata"]
            if not metadata["labels"] or "deletionTimestamp" in metadata:
                continue
            uid = metadata["uid"]
            good = self.written[uid]
            if good is None and uid in self.stable:
                good = self.good.get(uid)
            seen[uid] = good
            if good:
                precedence = metadata["creationTimestamp"], metadata["namespace"], metadata["name"]
                there.append((precedence, *good))
        assert {name: entry.base_model for name, entry in self.table.registry.items()} == expected_table(there)
        self.good, self.stable, self.labels = seen, set(seen), {}


def test_the_table_is_that_of_the_objects(monkeypatch):
    monkeypatch.setattr(reflector, "PAGE_OBJECTS", PAGE)
    Histories.steps = 0
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=STEPS // 40,
            stateful_step_count=STEPS_A_HISTORY,
            phases=(Phase.explicit, Phase.reuse, Phase.generate),  # to shrink a history over real sockets takes hours
        ),
    )
    print(f"{Histories.steps} steps")
