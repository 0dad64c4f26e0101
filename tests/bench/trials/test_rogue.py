import pytest

from bench.harness import rogue
from bench.trials.rogue import CPU_SECONDS, MAX_BUFFERED_BYTES, SPARE_BYTES, Found, tried

BOUND = MAX_BUFFERED_BYTES + SPARE_BYTES


@pytest.mark.parametrize(
    "peer",
    [rogue.first_messages, rogue.open_calls, rogue.large_messages, rogue.idle_health_connections],
    ids=lambda peer: peer.__name__,
)
def test_no_peer_brings_a_router_above_its_bound_or_shuts_a_probe_out(peer):
    found = tried(peer)
    assert found.peak_bytes <= BOUND
    assert (found.failed, found.checks > 0) == (0, True)


def test_what_is_over_its_bound_is_told():
    peer = rogue.first_messages
    most = CPU_SECONDS[peer]
    assert Found(BOUND, most, 1, 0).wrong(peer) == []
    assert Found(BOUND + 1, most, 1, 0).wrong(peer) == ["memory"]
    assert Found(BOUND, most + 1, 1, 0).wrong(peer) == ["processor time"]
    assert Found(BOUND, most, 9, 1).wrong(peer) == Found(BOUND, most, 0, 0).wrong(peer) == ["health checks"]
