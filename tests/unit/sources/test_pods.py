import msgspec
import pytest

from bbr.models.steps import finish
from bbr.sources.pods import MAX_SERVERS, KeptPods, Pod
from bbr.sources.servers import Address

READY = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}]


def pod(ip="10.0.0.1", conditions=READY):
    return msgspec.convert({"metadata": {"name": "a"}, "status": {"podIP": ip, "conditions": conditions}}, Pod)


def test_a_pod_that_is_ready_is_where_its_status_says():
    assert (pod().host, pod("fd00::0001").host) == ("10.0.0.1", "fd00::1")
    found = msgspec.msgpack.decode(msgspec.msgpack.encode(pod().reduced()), type=Pod)
    assert found.host == "10.0.0.1"


@pytest.mark.parametrize(
    "found",
    [
        Pod(pod().metadata),
        pod(conditions=None),
        pod(conditions=[{"type": "Ready", "status": "False"}]),
        pod(conditions=[{"type": "ContainersReady", "status": "True"}]),
        pod(""),
        pod("example.com"),
        pod("169.254.169.254"),
        pod("0.0.0.0"),  # noqa: S104 (nobody listens there)
        pod("ff02::1"),
    ],
)
def test_others_are_nowhere(found):
    assert found.host == ""


def test_each_port_of_each_pod_is_a_server():
    changes = []
    kept = KeptPods(lambda: changes.append(1))
    assert kept.addresses((80,)) == []
    finish(kept.replace({name: kept.read(pod(ip)) for name, ip in (("a", "10.0.0.2"), ("b", "10.0.0.1"), ("c", ""))}))
    assert kept.addresses((80, 81)) == [
        Address("10.0.0.1", 80),
        Address("10.0.0.2", 80),
        Address("10.0.0.1", 81),
        Address("10.0.0.2", 81),
    ]
    finish(kept.replace({str(number): f"10.0.{number // 256}.{number % 256}" for number in range(MAX_SERVERS + 9)}))
    assert len(kept.addresses((80,))) == MAX_SERVERS
