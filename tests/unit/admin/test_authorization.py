import asyncio
import json
import threading

import pytest

from bbr.admin import authorization
from bbr.admin.authorization import ACCESS_REVIEWS, TOKEN_REVIEWS, Guard, Queue
from bbr.admin.http import Request, text
from bbr.sources.kube_api import KubernetesError
from bbr.sources.objects import SourceError
from tests.support.clock import Clock
from tests.support.loops import in_loop

TOKENS = {"good": ("prometheus", True), "poor": ("somebody", False)}


class Cluster:
    """An API server of few words, and its connections."""

    def __init__(self) -> None:
        self.asked = []
        self.broken = None

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_error):
        pass

    async def post(self, path, document):
        if self.broken is not None:
            return await self.broken()
        spec = json.loads(document)["spec"]
        self.asked.append((path, spec))
        if path == TOKEN_REVIEWS:
            user, _ = TOKENS.get(spec["token"], ("", False))
            status = {"user": {"username": user, "uid": "1", "groups": ["a"], "extra": {"x": ["y"]}}}
            return json.dumps({"status": {**status, "authenticated": bool(user)}}).encode()
        return json.dumps({"status": {"allowed": spec["user"] == "prometheus"}}).encode()


async def page(_asked):
    return text("the numbers")


async def get(guard, authorization=None, path="/metrics", network=""):
    headers = {} if authorization is None else {"authorization": authorization}
    answer = await guard.guarded(page)(Request(path, headers, network=network))
    return answer.status, b"".join(answer.body).decode(), dict(answer.headers)


@in_loop
async def test_who_may():
    cluster = Cluster()
    assert (await get(Guard(lambda: cluster), "Bearer good"))[:2] == (200, "the numbers\n")
    (token, user) = cluster.asked
    assert token == (TOKEN_REVIEWS, {"token": "good"})
    assert user == (
        ACCESS_REVIEWS,
        {
            "user": "prometheus",
            "uid": "1",
            "groups": ["a"],
            "extra": {"x": ["y"]},
            "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
        },
    )


@pytest.mark.parametrize("header", [None, "", "Basic Z29vZA==", "Bearer", "Bearer ", "good", "Bearer " + "x" * 20_000])
@in_loop
async def test_without_a_token_nobody_is_asked(header):
    cluster = Cluster()
    status, said, headers = await get(Guard(lambda: cluster), header)
    assert (status, said, headers) == (401, "A bearer token is needed.\n", {"www-authenticate": "Bearer"})
    assert cluster.asked == []


@in_loop
async def test_who_may_not():
    guard = Guard(Cluster)
    assert await get(guard, "bearer poor") == (403, "The cluster does not allow this token to get /metrics.\n", {})
    status, said, headers = await get(guard, "Bearer forged")
    assert (status, said) == (401, "The cluster does not know this token.\n")
    assert headers == {"www-authenticate": "Bearer"}


@in_loop
async def test_answers_are_kept_for_a_minute_and_no_longer():
    cluster, clock = Cluster(), Clock(0.0)
    guard = Guard(lambda: cluster, clock=clock)
    for now, asked in ((0.0, 2), (59.9, 2), (60.0, 4)):
        clock.now = now
        assert (await get(guard, "Bearer good"))[0] == 200
        assert len(cluster.asked) == asked
    assert (await get(guard, "Bearer good", "/other"))[0] == 200
    assert len(cluster.asked) == 6


@in_loop
async def test_guessed_tokens_do_not_make_it_grow():
    guard = Guard(Cluster)
    for number in range(300):
        assert (await get(guard, f"Bearer guess-{number}"))[0] == 401
    assert len(guard._refused) == 100


@in_loop
async def test_guessed_tokens_push_out_no_token_that_may():
    cluster = Cluster()
    guard = Guard(lambda: cluster)
    await get(guard, "Bearer good")
    for number in range(150):
        await get(guard, f"Bearer guess-{number}")
    asked = len(cluster.asked)
    assert (await get(guard, "Bearer good"))[0] == 200
    assert len(cluster.asked) == asked


@in_loop
async def test_a_token_that_may_no_longer_is_reviewed_once_a_minute_too(monkeypatch):
    cluster, clock = Cluster(), Clock(0.0)
    guard = Guard(lambda: cluster, clock=clock)
    assert (await get(guard, "Bearer good"))[0] == 200
    clock.now = 60.0
    monkeypatch.delitem(TOKENS, "good")
    assert (await get(guard, "Bearer good"))[0] == 401
    asked = len(cluster.asked)
    assert (await get(guard, "Bearer good"))[0] == 401
    assert len(cluster.asked) == asked


class Counted(Cluster):
    """Counts connections and reviews under way, and may hold reviews up."""

    def __init__(self):
        super().__init__()
        self.opened = self.closed = self.under_way = self.most = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked_once, self.closed_once = asyncio.Event(), asyncio.Event()
        self.threads = set()

    def connect(self):
        self.threads.add(threading.get_ident())
        self.opened += 1
        return self

    async def __aexit__(self, *_error):
        self.closed += 1
        self.closed_once.set()

    async def post(self, path, document):
        self.under_way += 1
        self.asked_once.set()
        self.most = max(self.most, self.under_way)
        try:
            await self.may_answer.wait()
            return await super().post(path, document)
        finally:
            self.under_way -= 1


@in_loop
async def test_many_guesses_take_one_connection_and_one_review_at_a_time():
    cluster = Counted()
    cluster.may_answer.clear()
    guard = Guard(cluster.connect)
    asked = [asyncio.create_task(get(guard, f"Bearer guess-{number % 20}")) for number in range(100)]
    await cluster.asked_once.wait()
    cluster.may_answer.set()
    assert {status for status, *_ in await asyncio.gather(*asked)} == {401}
    assert (cluster.opened, cluster.most, len(cluster.asked)) == (1, 1, 20)
    # To read certificates takes 25 ms, in which nobody would be served.
    assert threading.get_ident() not in cluster.threads


@in_loop
async def test_a_token_that_was_allowed_does_not_queue_behind_guesses(monkeypatch):
    cluster, clock, go_on = Cluster(), Clock(0.0), asyncio.Semaphore(0)
    guard = Guard(lambda: cluster, clock=clock)
    assert (await get(guard, "Bearer good"))[0] == 200
    cluster.asked.clear()
    real = cluster.post

    async def slow(path, document):
        await go_on.acquire()
        return await real(path, document)

    monkeypatch.setattr(cluster, "post", slow)
    clock.now = 60.0
    guesses = [asyncio.create_task(get(guard, f"Bearer guess-{number}")) for number in range(50)]
    for _ in range(10):
        await asyncio.sleep(0)  # each waits for its turn
    good = asyncio.create_task(get(guard, "Bearer good"))
    for _ in range(3):  # a guess, and the two questions about one that is known
        go_on.release()
    assert (await good)[0] == 200
    assert [spec.get("token", "") for _, spec in cluster.asked] == ["guess-0", "good", ""]
    for _ in guesses:
        go_on.release()
    assert {status for status, _, _ in await asyncio.gather(*guesses)} == {401}


@in_loop
async def test_a_connection_serves_a_minute_and_none_after_a_failure():
    cluster, clock = Counted(), Clock(0.0)
    guard = Guard(cluster.connect, clock=clock)
    for now, opened in ((0.0, 1), (59.0, 1), (60.0, 2)):
        clock.now = now
        await get(guard, f"Bearer at-{now}")
        assert (cluster.opened, cluster.closed) == (opened, opened - 1)
    cluster.broken = refused
    assert (await get(guard, "Bearer x"))[0] == 503
    assert (cluster.opened, cluster.closed) == (2, 2)


@in_loop
async def test_a_connection_that_nobody_needs_is_closed(monkeypatch):
    monkeypatch.setattr(authorization, "_KEPT_SECONDS", 0.001)
    cluster = Counted()
    guard = Guard(cluster.connect)
    following = asyncio.create_task(guard.follow())
    await get(guard, "Bearer good")
    await cluster.closed_once.wait()
    await get(guard, "Bearer other")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert cluster.opened == cluster.closed


@in_loop
async def test_a_connection_that_comes_late_serves_the_next_review_or_is_closed(monkeypatch):
    monkeypatch.setattr(authorization, "_REVIEW_SECONDS", 0.05)
    cluster, clock = Counted(), Clock(0.0)
    volume_works, threads = threading.Event(), []

    def connect():
        threads.append(threading.current_thread())
        volume_works.wait()
        return cluster

    guard = Guard(connect, clock=clock)
    for _ in range(3):  # no thread more for each of them
        assert (await get(guard, "Bearer good"))[0] == 503
    assert len(threads) == 1
    volume_works.set()
    await guard._opening
    assert (await get(guard, "Bearer good"))[0] == 200
    assert (len(threads), cluster.closed) == (1, 0)

    volume_works.clear()
    clock.now = 60.0
    assert (await get(guard, "Bearer poor"))[0] == 503
    assert cluster.closed == 1
    volume_works.set()
    await guard._opening
    clock.now = 120.0
    await guard._close_old()  # as `follow` does each minute
    assert (cluster.closed, guard._opening) == (2, None)


@in_loop
async def test_credentials_that_cannot_be_read_are_said_to_be_so(caplog):
    def connect():
        raise SourceError("the kubeconfig is not YAML: line 3")

    assert (await get(Guard(connect), "Bearer good"))[0] == 503
    assert caplog.messages == ["a token for /metrics could not be reviewed: the kubeconfig is not YAML: line 3"]


async def refused():
    raise KubernetesError("403: tokenreviews is forbidden", 403)


async def rubbish():
    return b"<html>"


async def silent():
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (refused, "403: tokenreviews is forbidden"),
        (rubbish, "JSON is malformed: invalid character (byte 0)"),
        (silent, "no answer in 0.01 s"),
    ],
)
@in_loop
async def test_an_api_server_that_can_not_be_asked_shows_nothing_and_is_asked_again(broken, why, monkeypatch, caplog):
    cluster = Cluster()
    guard = Guard(lambda: cluster)
    cluster.broken = broken
    if broken is silent:
        monkeypatch.setattr(authorization, "_REVIEW_SECONDS", 0.01)
    status, said, _ = await get(guard, "Bearer good")
    assert (status, said) == (503, "The API server can't be asked about this token; the router's log says why.\n")
    assert [record.getMessage() for record in caplog.records] == [f"a token for /metrics could not be reviewed: {why}"]
    assert "good" not in caplog.text
    monkeypatch.undo()
    cluster.broken = None
    assert (await get(guard, "Bearer good"))[0] == 200


@in_loop
async def test_a_scraper_s_first_token_waits_for_one_guess_of_another_address():
    cluster = Counted()
    cluster.may_answer.clear()
    guard = Guard(cluster.connect)
    guesses = [asyncio.create_task(get(guard, f"Bearer guess-{number}", network="evil")) for number in range(50)]
    await cluster.asked_once.wait()
    scrape = asyncio.create_task(get(guard, "Bearer good", network="scraper"))
    await asyncio.sleep(0)
    cluster.may_answer.set()
    assert (await scrape)[0] == 200
    tokens = [spec["token"] for path, spec in cluster.asked if path == TOKEN_REVIEWS]
    assert tokens[:2] == ["guess-0", "good"]
    await asyncio.gather(*guesses)


@in_loop
async def test_addresses_take_turns():
    queue, order = Queue(), []

    async def wait(network, number):
        async with queue.turn(network):
            order.append((network, number))
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(wait(*each)) for each in (("a", 1), ("a", 2), ("a", 3), ("b", 1), ("c", 1), ("b", 2))]
    await asyncio.gather(*tasks)
    assert order == [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("b", 2), ("a", 3)]
    async with queue.turn("a"):
        assert queue._waiting == {}


@in_loop
async def test_who_leaves_a_queue_is_forgotten_and_passes_on_a_turn():
    queue, order = Queue(), []

    async def wait(name, network):
        async with queue.turn(network):
            order.append(name)

    async with queue.turn("a"):
        first, second, third = (asyncio.create_task(wait(*each)) for each in (("1", "a"), ("2", "a"), ("3", "b")))
        await asyncio.sleep(0)
        third.cancel()
        await asyncio.wait([third])
        assert [*queue._waiting] == ["a"]
        third = asyncio.create_task(wait("3", "b"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        assert [len(each) for each in queue._waiting.values()] == [1, 1]
    first.cancel()  # it has been given the turn, and has not run yet
    await third
    assert order == ["3"]
    async with queue.turn("c"):
        fourth = asyncio.create_task(wait("4", "a"))
        await asyncio.sleep(0)
        fourth.cancel()  # it has not noticed when its turn comes
    await asyncio.wait([fourth])
    async with queue.turn("c"):
        assert (order, queue._waiting) == (["3"], {})
