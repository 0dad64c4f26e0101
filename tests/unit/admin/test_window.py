import asyncio
import contextlib

from bbr.admin import window
from bbr.admin.window import NOTHING, Counts, Window
from bbr.models.steps import finish
from bbr.telemetry.metrics import Metrics, ModelCounts
from tests.support.loops import in_loop


def add(metrics, name="qwen", outcome="routed", times=1, seconds=0.002):
    """Count requests as Metrics.count does."""
    counts = metrics.models.setdefault(name, ModelCounts())
    counts.outcomes[outcome] = counts.outcomes.get(outcome, 0) + times
    for _ in range(times):
        counts.duration.add(seconds)
        metrics.busy.add(seconds / 100)


def recent(of, metrics, name="qwen"):
    now = Counts.of(metrics.models[name])
    found = of.of(name, now)
    assert of.requests(name, now.requests) == found.requests
    return found


def every(of, metrics):
    return of.every(sum(map(Counts.of, metrics.models.values()), NOTHING))


def test_counts_of_a_model():
    metrics = Metrics()
    for outcome in ("routed", "routed", "refused", "fault", "pending"):
        add(metrics, outcome=outcome)
    found = Counts.of(metrics.models["qwen"])
    assert (found.requests, found.errors, sum(found.durations)) == (5, 2, 5)
    assert found + found - found == found
    assert found.quantile(0.5) == 0.0025
    assert NOTHING.quantile(0.5) is None


def test_what_is_older_than_the_window_is_let_go():
    metrics = Metrics()
    of = Window(metrics)
    began = of._opened
    add(metrics, times=3)
    assert recent(of, metrics).requests == 3
    for number in range(1, 7):
        finish(of.sliding(began + 10 * number))
        add(metrics, times=number)
    assert recent(of, metrics).requests == 3 + 21
    assert every(of, metrics) == recent(of, metrics)
    assert of.seconds(began + 65) == 65
    finish(of.sliding(began + 70))
    assert recent(of, metrics).requests == 21
    assert of.seconds(began + 75) == 65
    for number in range(8, 15):
        finish(of.sliding(began + 10 * number))
    assert recent(of, metrics) == NOTHING
    assert of.busy_quantile(0.5) is None
    assert Counts.of(metrics.models["qwen"]).requests == 24


def test_a_window_is_at_least_a_second():
    of = Window(Metrics())
    assert of.seconds(of._opened) == 1


def test_what_the_router_took():
    metrics = Metrics()
    of = Window(metrics)
    add(metrics, times=99)
    finish(of.sliding(of._opened + 10))
    add(metrics, seconds=0.1)
    assert of.busy_quantile(0.5) == 0.00002
    assert of.busy_quantile(1.0) == 0.001


def test_between_steps_each_request_is_found_once(monkeypatch):
    monkeypatch.setattr(window, "_MODELS_A_STEP", 1)
    metrics = Metrics()
    names = [f"model-{number}" for number in range(5)]
    for name in names:
        add(metrics, name)
    of = Window(metrics)
    steps = 0
    for _ in of.sliding(of._opened + 10):
        add(metrics, "newcomer")
        steps += 1
        assert [recent(of, metrics, name).requests for name in names] == [1] * 5
        assert recent(of, metrics, "newcomer").requests == steps
        assert every(of, metrics).requests == 5 + steps
    assert steps == 6


@in_loop
async def test_it_follows_until_it_is_cancelled(monkeypatch):
    monkeypatch.setattr(window, "SLOT_SECONDS", 0.0)
    monkeypatch.setattr(window, "_MODELS_A_STEP", 1)
    metrics = Metrics()
    of = Window(metrics)
    add(metrics)
    slid = asyncio.Event()
    sliding = of.sliding

    def noted(now):
        yield from sliding(now)
        if len(of._slots) == 6:
            slid.set()

    monkeypatch.setattr(of, "sliding", noted)
    task = asyncio.create_task(of.follow())
    await slid.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


def test_the_latest_requests_are_those_of_one_to_two_slots():
    metrics = Metrics()
    of = Window(metrics)
    began = of._opened
    add(metrics, times=3)
    assert (of.latest("qwen", 3), of.latest_seconds(began + 4)) == (3, 4)
    assert of.latest_seconds(began) == 1
    finish(of.sliding(began + 10))
    add(metrics, times=2)
    assert (of.latest("qwen", 5), of.latest_seconds(began + 15)) == (5, 15)
    finish(of.sliding(began + 20))
    assert (of.latest("qwen", 5), of.latest_seconds(began + 29)) == (2, 19)
    finish(of.sliding(began + 30))
    assert of.latest("qwen", 5) == 0
    assert of.latest("nobody", 0) == 0


def test_the_names_of_clients():
    metrics = Metrics()
    of = Window(metrics)
    began = of._opened
    metrics.adapters["sql-lora"] = 5
    metrics.aliases["best", "qwen"] = 2
    assert (of.named("sql-lora", 5), of.named(("best", "qwen"), 2)) == (5, 2)
    finish(of.sliding(began + 10))
    metrics.adapters["sql-lora"] = 8
    assert of.named("sql-lora", 8) == 8
    for number in range(2, 8):
        finish(of.sliding(began + 10 * number))
    assert (of.named("sql-lora", 8), of.named(("best", "qwen"), 2)) == (3, 0)
    finish(of.sliding(began + 80))
    assert of.named("sql-lora", 8) == 0
    assert of.named("nobody", 0) == 0


def test_many_names_are_looked_at_in_short_steps(monkeypatch):
    monkeypatch.setattr(window, "_NAMES_A_STEP", 10)
    metrics = Metrics()
    metrics.adapters.update({f"lora-{number}": 1 for number in range(100)})
    of = Window(metrics)
    assert sum(1 for _ in of.sliding(of._opened + 10)) == 10
    assert of.named("lora-99", 1) == 1
