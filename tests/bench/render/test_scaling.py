import pytest

from bbr.config import loading
from bbr.http2.settings import Settings
from bench.render import scaling
from bench.render.scaling import Costs, Mix, Site, cost, mean_cost, plan

SMALL = Mix("small", {1_000: 1})
POINTS = {1_000: 10.0, 11_000: 20.0, 111_000: 220.0}
COSTS = Costs(router={1_000: 35.0}, envoy={1_000: 70.0}, base_mib=100, idle_kib=16, factor=2)
SITE = Site(utilisation=0.7, workers=8, upload=1e6, latency=0.001)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 10), (1_000, 10), (6_000, 15), (11_000, 20), (61_000, 120), (111_000, 220), (211_000, 420)],
)
def test_cost_is_a_line_between_points_and_beyond_the_last(size, expected):
    assert cost(POINTS, size) == pytest.approx(expected)


def test_one_point_is_the_cost_of_all():
    assert cost({5: 3.0}, 1) == cost({5: 3.0}, 1_000_000) == 3.0


def test_without_a_point_there_is_no_cost():
    with pytest.raises(ValueError, match="no cost was measured"):
        cost({}, 1)


def test_a_mix_costs_the_mean():
    mix = Mix("mixed", {1_000: 0.75, 111_000: 0.25})
    assert mean_cost(POINTS, mix) == pytest.approx(62.5)


def test_little_load_has_two_of_each():
    made = plan(10, SMALL, COSTS, SITE)
    assert (made.replicas, made.gateways, made.connections, made.sized_by) == (2, 2, 16, "two, for drains")


def test_processors_make_replicas():
    made = plan(100_000, SMALL, COSTS, SITE)
    assert made.cores == pytest.approx(5.0)
    assert (made.replicas, made.sized_by) == (5, "processor")
    assert made.gateways == 2  # 10 cores of Envoy's, 8 workers each
    assert made.connections == 40
    # Each is on its way for 1 ms, and for 1 ms of upload.
    assert made.streams == pytest.approx(100_000 * 0.002 / 2)
    assert made.memory_mib == pytest.approx(5 * (100 + 16 * 16 / 1024) + 100_000 * 0.002 * 1_000 * 2 / scaling.MIB)
    assert made.shares["streams of a connection"] == pytest.approx(200 / 16 / 5 / 1_000)
    assert made.shares["`--max-connections`"] == pytest.approx(16 / 10_000)
    assert made.next == "Envoy's circuit breaker"


def test_slow_clients_meet_the_circuit_breaker_first():
    made = plan(100_000, SMALL, COSTS, Site(upload=1e4))
    assert made.next == "Envoy's circuit breaker"
    assert made.shares[made.next] > 1


def test_long_bodies_of_slow_clients_make_replicas_by_memory():
    mix = Mix("long", {10_000_000: 1})
    made = plan(100, mix, COSTS, SITE)  # 10 s each: 10 GB in flight
    assert made.sized_by == "`--max-buffered-bytes`"
    assert made.shares["`--max-buffered-bytes`"] <= 0.7
    assert made.replicas == 27


def test_limits_are_the_router_s_own():
    settings = loading.load({}, {})
    assert settings.max_buffered_bytes == scaling.BUFFERED_BYTES
    assert settings.max_connections == scaling.CONNECTIONS
    assert Settings().max_concurrent_streams == scaling.STREAMS_PER_CONNECTION
