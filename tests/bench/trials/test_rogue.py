import pytest

from bench.harness import rogue
from bench.trials.rogue import CPU_SECONDS, MAX_BUFFERED_BYTES, SPARE_BYTES, Found, bound, tried

BOUND = MAX_BUFFERED_BYTES + SPARE_BYTES


@pytest.mark.parametrize(
    "peer",
    [
        rogue.first_messages,
        rogue.open_calls,
        rogue.long_contexts,
        rogue.large_messages,
        rogue.idle_health_connections,
        rogue.unread_pages,
    ],
    ids=lambda peer: peer.__name__,
)
def test_no_peer_brings_a_router_above_its_bound_or_shuts_a_probe_out(peer):
    found = tried(peer)
    assert found.peak_bytes <= bound(peer)
    assert (found.failed, found.checks > 0) == (0, True)
    assert (found.lost, found.why, found.routed > 0) == (0, "", True)


def test_what_is_hardly_counted_has_less():
    assert (bound(rogue.first_messages), bound(rogue.unread_pages)) == (BOUND, SPARE_BYTES)


def test_what_is_over_its_bound_is_told():
    peer = rogue.first_messages
    most = CPU_SECONDS[peer]
    good = Found(BOUND, most, checks=1, failed=0, routed=1, lost=0)
    assert good.wrong(peer) == []
    assert good._replace(peak_bytes=BOUND + 1).wrong(peer) == ["memory"]
    assert good._replace(cpu_seconds=most + 1).wrong(peer) == ["processor time"]
    assert good._replace(failed=1).wrong(peer) == good._replace(checks=0).wrong(peer) == ["health checks"]
    assert good._replace(lost=1).wrong(peer) == good._replace(routed=0).wrong(peer) == ["requests"]
