"""Through a real Envoy: what a gateway can do for a request whose pool is down, and what it can't do."""

import copy
import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from bench.harness.recording import Upstreams
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

JSON = ("content-type", "application/json")
BODY = json.dumps({"model": "sql-lora", "prompt": "x" * 100_000}).encode()
RETRY: dict[str, Any] = {"retry_on": "connect-failure,reset,503", "num_retries": 2, "retriable_status_codes": [503]}
PREVIOUS = {
    "name": "envoy.retry_priorities.previous_priorities",
    "typed_config": {
        "@type": f"{envoy.TYPES}.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
        "update_frequency": 1,
    },
}
SPECIFIERS = f"{envoy.TYPES}.router.cluster_specifiers"

Config = dict[str, Any]


@pytest.fixture
def nobody() -> Iterator[int]:
    """Give a port on which nobody listens, and nobody else can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture(params=["FULL_DUPLEX_STREAMED", "BUFFERED"])
def down(request: pytest.FixtureRequest, background: Background, upstreams: Upstreams, nobody: int) -> Iterator[Config]:
    """Give a gateway's configuration: QWEN's pool is down, PHI's is not."""
    upstreams.forget()
    router = Router(background)
    ports = {**upstreams.ports, QWEN: nobody}
    logged = {"attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "cluster": "%UPSTREAM_CLUSTER%"}
    yield envoy.configuration([envoy.router_filter(request.param)], router.port, ports, logged=logged)
    router.stop()


def route(config: Config) -> Config:
    """Return the action of QWEN's route."""
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    return next(each["route"] for each in routes if each["name"] == QWEN)


def cluster(config: Config, name: str) -> Config:
    return next(each for each in config["static_resources"]["clusters"] if each["name"] == name)


def add(config: Config, name: str, kind: str, *clusters: Any) -> None:
    """Add a cluster of clusters, and send QWEN's route there."""
    typed = {"@type": f"{envoy.TYPES}.clusters.{kind}.v3.ClusterConfig", "clusters": list(clusters)}
    several = {"name": name, "connect_timeout": "20s", "lb_policy": "CLUSTER_PROVIDED"}
    several["cluster_type"] = {"name": f"envoy.clusters.{kind}", "typed_config": typed}
    config["static_resources"]["clusters"].append(several)
    route(config)["cluster"] = name


@contextmanager
def asking(config: Config) -> Iterator[Any]:
    """Give what asks for QWEN's adapter, and returns the answer; a pool's has its name as the body."""
    with envoy.gateway(config) as gateway:
        yield lambda: http1.request(gateway.port, "POST", "/v1/completions", [JSON], BODY)


def is_phis(reply: http1.Reply, upstreams: Upstreams) -> bool:
    """Tell whether PHI's pool answered, to the whole of the same body, with QWEN's routing headers."""
    if (reply.status, reply.body.decode()) != (200, PHI):
        return False
    got = [each for each in upstreams.received if each.method == "POST"][-1]  # health checks are received too
    assert (got.pool, got.digest) == (PHI, hashlib.sha256(BODY).hexdigest())
    assert got.header("x-gateway-base-model-name") == [QWEN]
    assert got.header("x-gateway-model-name") == ["sql-lora"]
    return True


def test_a_retry_stays_on_the_route(down: Config, upstreams: Upstreams) -> None:
    route(down)["retry_policy"] = RETRY
    with asking(down) as ask:
        assert [ask().status for _ in range(3)] == [503] * 3
    assert upstreams.received == []


def by_weights(config: Config, **retry: Any) -> None:
    """Send 99 of 100 requests to QWEN's pool, and the rest to PHI's, as an HTTPRoute with two backends does."""
    action = route(config)
    del action["cluster"]
    action["weighted_clusters"] = {"clusters": [{"name": QWEN, "weight": 99}, {"name": PHI, "weight": 1}]}
    action["retry_policy"] = RETRY | retry


def test_a_retry_stays_in_the_cluster_that_weights_have_chosen(down: Config) -> None:
    by_weights(down)
    with asking(down) as ask:
        assert 503 in [ask().status for _ in range(5)]


def test_unless_it_is_told_to_choose_again(down: Config, upstreams: Upstreams) -> None:
    by_weights(down, refresh_cluster_on_retry=True)
    with asking(down) as ask:
        assert all(is_phis(ask(), upstreams) for _ in range(10))


def test_groups_of_clusters_are_tried_one_after_the_other(down: Config, upstreams: Upstreams) -> None:
    action = route(down)
    del action["cluster"]
    groups = [{"name": name, "clusters": [{"cluster_name": name, "weight": 1}]} for name in (QWEN, PHI)]
    kind = f"{SPECIFIERS}.priority_group.v3.PriorityGroupClusterSpecifier"
    name = "envoy.router.cluster_specifier_plugin.priority_group"
    extension = {"name": name, "typed_config": {"@type": kind, "priority_groups": groups}}
    action["inline_cluster_specifier_plugin"] = {"extension": extension}
    action["retry_policy"] = RETRY | {"refresh_cluster_on_retry": True}
    with asking(down) as ask:
        assert is_phis(ask(), upstreams)


def test_a_retry_does_not_choose_a_cluster_by_a_header_again(down: Config, upstreams: Upstreams) -> None:
    action = route(down)
    del action["cluster"]
    action["cluster_header"] = "x-gateway-base-model-name"
    action["retry_policy"] = RETRY | {"refresh_cluster_on_retry": True}
    with asking(down) as ask:
        assert ask().status == 503
    assert upstreams.received == []


def test_a_pool_that_is_down_redirects_nobody(down: Config, upstreams: Upstreams) -> None:
    route(down)["internal_redirect_policy"] = {"redirect_response_codes": [302, 303, 307], "max_internal_redirects": 2}
    with asking(down) as ask:
        assert ask().status == 503
    assert upstreams.received == []


def test_an_aggregate_cluster_tries_the_next_pool_within_the_request(down: Config, upstreams: Upstreams) -> None:
    add(down, "qwen-or-phi", "aggregate", QWEN, PHI)
    route(down)["retry_policy"] = RETRY | {"retry_priority": PREVIOUS}
    with asking(down) as ask:
        assert is_phis(ask(), upstreams)


def test_an_aggregate_cluster_alone_does_not(down: Config, upstreams: Upstreams) -> None:
    add(down, "qwen-or-phi", "aggregate", QWEN, PHI)
    route(down)["retry_policy"] = RETRY
    with asking(down) as ask:
        assert ask().status == 503
    assert upstreams.received == []


def test_a_composite_cluster_takes_the_next_pool_for_each_try(down: Config, upstreams: Upstreams) -> None:
    add(down, "qwen-then-phi", "composite", {"name": QWEN}, {"name": PHI})
    route(down)["retry_policy"] = RETRY
    with asking(down) as ask:
        assert is_phis(ask(), upstreams)


@pytest.mark.parametrize("picked_by", [QWEN, PHI])
def test_a_pool_with_a_picker_cannot_be_the_next_one(
    down: Config, upstreams: Upstreams, nobody: int, picked_by: str
) -> None:
    """What the first pool's picker has picked stays in the request, and the next pool goes there too."""
    header = "x-gateway-destination-endpoint"
    address = f"127.0.0.1:{nobody if picked_by == QWEN else upstreams.ports[PHI]}"
    picked = {"header": {"key": header, "value": address}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    kind = f"{envoy.TYPES}.filters.http.header_mutation.v3.HeaderMutation"
    mutation = {"@type": kind, "mutations": {"request_mutations": [{"append": picked}]}}
    manager = down["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"].insert(-1, {"name": "picker", "typed_config": mutation})
    pool = {"name": "picked", "type": "ORIGINAL_DST", "connect_timeout": "20s", "lb_policy": "CLUSTER_PROVIDED"}
    pool["original_dst_lb_config"] = {"use_http_header": True, "http_header_name": header}
    down["static_resources"]["clusters"].append(pool)
    add(down, "qwen-then-picked", "composite", {"name": QWEN}, {"name": "picked"})
    route(down)["retry_policy"] = RETRY
    with asking(down) as ask:
        # It would work if the picker of PHI's pool were asked before the second try, which nobody does.
        assert is_phis(ask(), upstreams) == (picked_by == PHI)


def in_one_cluster(config: Config) -> Config:
    """Put PHI's servers behind QWEN's in one cluster, as Envoy Gateway's fallback and Istio's failover do."""
    one, other = cluster(config, QWEN), cluster(config, PHI)
    spare = copy.deepcopy(other["load_assignment"]["endpoints"][0]) | {"priority": 1}
    one["load_assignment"]["endpoints"].append(spare)
    return one


def test_priorities_in_one_cluster_need_retries_that_know_them(down: Config, upstreams: Upstreams) -> None:
    in_one_cluster(down)
    route(down)["retry_policy"] = RETRY | {"retry_priority": PREVIOUS}
    with asking(down) as ask:
        assert is_phis(ask(), upstreams)


def test_or_an_outlier_detection_that_has_seen_failures(down: Config, upstreams: Upstreams) -> None:
    one = in_one_cluster(down)
    one["outlier_detection"] = {
        "consecutive_5xx": 1,
        "enforcing_consecutive_5xx": 100,
        "base_ejection_time": "600s",
        "max_ejection_percent": 100,
    }
    with asking(down) as ask:
        assert ask().status == 503
        assert is_phis(ask(), upstreams)


def test_or_health_checks(down: Config, upstreams: Upstreams) -> None:
    one = in_one_cluster(down)
    check = {"timeout": "60s", "interval": "0.05s", "unhealthy_threshold": 1, "healthy_threshold": 1}
    one["health_checks"] = [check | {"http_health_check": {"path": "/health"}, "no_traffic_interval": "0.05s"}]
    # Envoy is ready only once each cluster has been checked.
    with asking(down) as ask:
        assert is_phis(ask(), upstreams)
