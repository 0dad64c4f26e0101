import copy

import pytest

from bbr.commands.doctor import checks_stats
from tests.support.doctor import bbr, demo, hcm, saved

CONFIG = demo()


def found(edit=lambda _: None, **counts):
    config = copy.deepcopy(CONFIG)
    edit(config)
    stats = {"stats": [{"name": name.replace("__", "."), "value": value} for name, value in counts.items()]}
    return list(checks_stats.check(saved(config, stats=stats)))


@pytest.mark.parametrize(
    ("id_", "name"),
    [
        ("streams-failed", "http__gateway__ext_proc__streams_failed"),
        ("message-timeouts", "http__gateway__ext_proc__message_timeouts"),
        ("failed-open", "http__gateway__ext_proc__failure_mode_allowed"),
        ("mutations-uncertain", "http__gateway__ext_proc__rejected_header_mutations"),
        ("route-cache-kept", "http__gateway__ext_proc__clear_route_cache_disabled"),
        ("route-cache-kept", "http__gateway__ext_proc__clear_route_cache_upstream_ignored"),
        ("spurious-messages", "http__gateway__ext_proc__spurious_msgs_received"),
        ("overflow", "cluster__bbr__upstream_rq_active_overflow"),
        ("overflow", "cluster__bbr__upstream_rq_pending_overflow"),
        ("unrouted-requests", "http__gateway__no_route"),
    ],
)
def test_a_counter(id_, name):
    (one,) = found(**{name: 3})
    assert (one.id, [tuple(each)[:3] for each in one.evidence]) == (id_, [("stats", name.replace("__", "."), 3)])
    assert found(**{name: 0}) == []
    assert found(**{f"x{name}": 3}) == []


def test_nothing_is_found_without_statistics():
    assert list(checks_stats.check(saved(CONFIG))) == []


def test_filters_that_share_counters_are_told_of():
    (shared,) = found(http__gateway__ext_proc__streams_failed=1)
    assert "share these counters" in shared.sentence
    (own,) = found(lambda config: bbr(config).update(stat_prefix="bbr"), http__gateway__ext_proc__bbr__streams_failed=1)
    assert "share" not in own.sentence


def test_listeners_of_one_prefix_are_looked_at_once():
    def twice(config):
        listeners = config["static_resources"]["listeners"]
        listeners.append(copy.deepcopy(listeners[0]))

    assert len(found(twice, http__gateway__ext_proc__streams_failed=1)) == 1


def test_no_router_and_no_cluster():
    assert found(lambda config: hcm(config).update(http_filters=[]), http__gateway__ext_proc__streams_failed=1) == []
    assert (
        found(lambda config: config["static_resources"].update(clusters=[]), cluster__bbr__upstream_cx_overflow=1) == []
    )


def test_rejected_mutations_are_the_routers_if_the_counter_is():
    def own_prefix(config):
        bbr(config)["stat_prefix"] = "router"

    (one,) = found(own_prefix, http__gateway__ext_proc__router__rejected_header_mutations=3)
    assert one.id == "mutations-rejected"
    assert found(own_prefix, http__gateway__ext_proc__rejected_header_mutations=3) == []
