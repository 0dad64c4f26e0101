import copy

from bbr.commands.doctor.examine import examine
from bbr.commands.doctor.finding import Severity
from bench.harness.in_process_router import TABLE
from tests.support.doctor import LIMIT, bbr, demo, mode, saved


def found(config, registry=None):
    return examine(saved(config), registry, max_body_bytes=LIMIT)


def test_the_worst_comes_first():
    config = demo("BUFFERED")
    bbr(config)["failure_mode_allow"] = True
    mode(config)["request_header_mode"] = "SKIP"
    severities = [each.severity for each in found(config, TABLE)]
    assert severities == [Severity.ERROR, Severity.WARNING, Severity.INFO, Severity.INFO]


def test_listeners_that_share_a_mistake_are_one_finding():
    config = demo()
    bbr(config)["route_cache_action"] = "RETAIN"
    listeners = config["static_resources"]["listeners"]
    for name in ("tls", "tls"):
        listeners.append({**copy.deepcopy(listeners[0]), "name": name})
    pinned = found(config)[0]
    assert (pinned.where, len(pinned.evidence)) == ("listener gateway; listener tls", 3)


def test_the_table_counts_if_it_is_known():
    config = demo()
    assert [each.id for each in found(config)] == ["cluster-plaintext"]
    assert [each.id for each in found(config, TABLE)] == ["cluster-plaintext"]
