"""The Go routers' metrics, by their names: types, labels and counts as the programs themselves give them."""

import pytest
from prometheus_client.metrics_core import Metric

from bbr.admin import exposition
from bench.harness.vitals import vitals
from tests.conformance.go import replay
from tests.conformance.go.replay import TARGETS, Scrape, Target
from tests.support.waiting import until

# Theirs times two plugins for each body. Here one step sets both headers; it goes by the name of the first, and is
# timed for requests without a body too.
FIRST_PLUGIN = "'plugin_type': 'body-field-to-header'"


def exposed(target: Target) -> list[Metric]:
    """Return our metrics after the counted conversations."""
    of = vitals()
    with replay.ours(target) as router:
        replay.ask(router.port, target.counted)
        until(lambda: len(router.ended) == len(target.counted))
        for exchange in router.ended:
            of.metrics.count(exchange)
    return list(exposition.families(of))


@pytest.fixture(scope="module")
def scrapes() -> dict[str, Scrape]:
    return replay.scrapes()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_every_metric_of_theirs_is_there(scrapes: dict[str, Scrape], target: Target) -> None:
    theirs, ours = scrapes[target.name].families, replay.families(exposed(target))
    prefix = "ipp_" if target.name == "ipp" else "bbr_"
    assert len(theirs) >= 5
    assert {name: ours.get(name) for name in theirs} == theirs
    assert all(name.startswith(prefix) for name in theirs)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_counts_are_theirs(scrapes: dict[str, Scrape], target: Target) -> None:
    counted = scrapes[target.name].counts
    theirs = {name: number for name, number in counted.items() if "_total" in name or "_ttft_" in name}
    ours = replay.counts(exposed(target))
    assert len(theirs) == (5 if target.name == "ipp" else 3)  # with the times of responses, for two models
    assert all(theirs.values())
    assert {name: ours.get(name) for name in theirs} == theirs
    prefix = "ipp" if target.name == "ipp" else "bbr"
    (timed,) = [name for name in ours if name.startswith(f"{prefix}_plugin_duration_seconds") and FIRST_PLUGIN in name]
    assert timed in scrapes[target.name].counts
    assert ours[timed] == len(target.counted)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_go_router_itself_tells_what_is_recorded(scrapes: dict[str, Scrape], target: Target) -> None:
    if not target.program.built:
        pytest.skip(f"{target.program.module} is not built: make go-parity")
    with replay.theirs(target) as (port, metrics_port):
        replay.ask(port, target.asked)
        assert replay.measure(target, port, metrics_port) == scrapes[target.name]
