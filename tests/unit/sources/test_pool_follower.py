import asyncio
import contextlib
import json
from collections import Counter
from functools import partial

from bbr.models.steps import finish
from bbr.sources.model_servers import ServerError
from bbr.sources.pool_follower import PoolFollower
from bbr.sources.pools import GROUP, Pool
from bbr.sources.servers import Servers
from bbr.system.supervisor import Supervisor
from bbr.system.worker_process import WorkerProcess
from tests.support.loops import in_loop
from tests.support.stack import until

POOL = Pool(GROUP, "ns", "qwen", 0.0, "app=qwen", (8000,))


class Pods:
    """Stands for the reflector of a pool's pods: the test says what it finds."""

    def __init__(self):
        self.failing = ""
        self.begun = self.ended = False

    def __call__(self, what, path, kind, sink, *, selector):
        self.asked_for = (what, path, selector)
        self._sink = sink
        return self

    def found(self, *hosts):
        finish(self._sink.replace({host: host for host in hosts}))

    async def run(self):
        self.begun = True
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True


class Asking:
    """Answers as the test says, by host; a ServerError of a text for none."""

    def __init__(self, **adapters):
        self.adapters = adapters

    async def models(self, host, port):
        if host not in self.adapters:
            raise ServerError("no answer", "unreachable")
        names = [{"id": "qwen"}, *({"id": name, "parent": "qwen"} for name in self.adapters[host])]
        return [json.dumps({"data": names}).encode()]


@contextlib.asynccontextmanager
async def following(asking, before=None):
    pods, counted, changes = Pods(), Counter(), Counter()
    follower = PoolFollower(
        POOL,
        frozenset({"qwen"}),
        before or {},
        follow=pods,
        asking=asking,
        worker=WorkerProcess(),
        new_servers=partial(Servers, interval=60.0, max_model_bytes=256, jitter=lambda: 0.0),
        changed=lambda: changes.update(["change"]),
        count=lambda result: counted.update([result]),
        clock=asyncio.get_running_loop().time,
    )
    follower.start(Supervisor())
    try:
        yield follower, pods, counted, changes
    finally:
        await follower.stop()


def claimed(follower):
    return finish(follower.claimed())


@in_loop
async def test_the_servers_of_all_pods_are_asked_and_what_is_new_is_told():
    async with following(Asking(**{"10.0.0.1": ["a"], "10.0.0.2": ["b"]})) as (follower, pods, counted, changes):
        assert pods.asked_for == ("pods of ns/qwen", "/api/v1/namespaces/ns/pods", "app=qwen")
        assert not follower.asked
        pods.found("10.0.0.1", "10.0.0.2")
        await until(lambda: follower.asked)
        assert claimed(follower) == {"qwen": {"a", "b"}}
        assert counted == {"ok": 2}
        assert changes["change"] > 0
        assert list(follower.troubles()) == []
        await until(lambda: pods.begun)
    assert pods.ended


@in_loop
async def test_what_was_claimed_before_counts_until_the_servers_have_been_asked():
    before = {"qwen": frozenset({"old"}), "phi": frozenset({"gone"})}
    async with following(Asking(**{"10.0.0.1": ["new"]}), before) as (follower, pods, _, _):
        assert claimed(follower) == {"qwen": {"old"}}
        pods.found("10.0.0.1")
        await until(lambda: follower.asked)
        assert claimed(follower) == {"qwen": {"new"}}


@in_loop
async def test_what_is_wrong_is_a_sentence():
    async with following(Asking()) as (follower, pods, counted, _):
        pods.failing = "the API server did not answer in time"
        pods.found("10.0.0.1")
        await until(lambda: follower.asked)
        assert counted == {"unreachable": 1}
        assert list(follower.troubles()) == ["its pods can't be followed (the API server did not answer in time)"]


@in_loop
async def test_other_base_models_have_all_servers_asked_again():
    async with following(Asking(**{"10.0.0.1": ["a"]})) as (follower, pods, counted, _):
        pods.found("10.0.0.1")
        await until(lambda: follower.asked)
        follower.rebase(frozenset({"qwen"}))  # the same
        follower.rebase(frozenset({"qwen", "phi"}))
        await until(lambda: counted["ok"] == 2)
        assert claimed(follower) == {"qwen": {"a"}}
