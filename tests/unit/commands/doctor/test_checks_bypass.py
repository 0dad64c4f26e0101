"""Each kind of filter is tried in a real Envoy by tests/integration/test_policies.py."""

import copy

import pytest

from bbr.commands.doctor import checks_bypass
from tests.support.doctor import (
    OUT,
    SWITCH,
    SWITCHED_ON,
    demo,
    hcm,
    host,
    looking,
    per_route,
    routes,
    saved,
    switch,
    wrapped,
)

CONFIG = demo()
HTTP = "type.googleapis.com/envoy.extensions.filters.http"
ON = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}
DISABLED = {"@type": f"{HTTP}.ext_authz.v3.ExtAuthzPerRoute", "disabled": True}
RULES = {"@type": f"{HTTP}.rbac.v3.RBACPerRoute", "rbac": {"rules": {}}}


def gateway(*, before=True, disabled=False, kind="rbac.v3.RBAC", **fields):
    config = copy.deepcopy(CONFIG)
    policy = {"name": "policy", "typed_config": {"@type": f"{HTTP}.{kind}", **fields}, "disabled": disabled}
    hcm(config)["http_filters"].insert(0 if before else 1, policy)
    return config


def models(config):
    return [route for route in routes(config) if route["match"].get("headers")]


def catch_all(config):
    return next(route for route in routes(config) if not route["match"].get("headers"))


def said(config, places, setting):
    for place in places:
        per_route(place, setting, "policy")
    return config


def found(config):
    return list(checks_bypass.check(saved(config)))


@pytest.mark.parametrize("before", [True, False])
def test_one_that_is_on_where_requests_are_at_first_and_off_on_a_model_s_route(before):
    config = gateway(before=before, disabled=True)
    (one,) = found(said(config, [catch_all(config)], RULES))
    assert one.id == "policy-bypassed"
    assert "never meets the policy" in one.sentence
    assert [each.value for each in one.evidence] == ["{...}", True, None]
    config = gateway(before=before)
    (one,) = found(said(config, models(config)[:1], OUT))
    assert [each.value for each in one.evidence] == [False, True]
    assert one.evidence[0].note == "on for every route that does not turn it off"


def test_one_that_is_silenced_on_a_model_s_route():
    service = {"envoy_grpc": {"cluster_name": "authorization"}}
    config = gateway(kind="ext_authz.v3.ExtAuthz", grpc_service=service)
    (one,) = found(said(config, models(config), DISABLED))
    assert one.evidence[-1].value is True
    # After the router it reads its settings on the route where the request ends, wherever it has begun.
    config = gateway(kind="ext_authz.v3.ExtAuthz", grpc_service=service, before=False)
    assert found(said(config, models(config), DISABLED)) == []


@pytest.mark.parametrize("way", [looking, wrapped])
@pytest.mark.parametrize("before", [True, False])
def test_one_that_another_filter_turns_off_on_a_model_s_route(way, before):
    """The other one decides that where the request begins, so it counts after the router too."""
    config = gateway(before=before, disabled=True)
    service = {"envoy_grpc": {"cluster_name": "authorization"}}
    (policy,) = (each for each in hcm(config)["http_filters"] if each["name"] == "policy")
    policy["typed_config"] = way({"@type": f"{HTTP}.ext_authz.v3.ExtAuthz", "grpc_service": service})
    hcm(config)["http_filters"].insert(0, switch())
    said(config, [host(config)], ON)
    assert found(config) == []
    for route in models(config)[:1]:
        per_route(route, SWITCHED_ON, SWITCH)
    (one,) = found(config)
    assert one.id == "policy-bypassed"
    assert one.evidence[-1].note == "off turns policy off"
    assert one.evidence[-1].value == "{...}"
    # Where requests are at first, it is turned off: there is no policy to get past.
    per_route(catch_all(config), SWITCHED_ON, SWITCH)
    assert found(config) == []


def test_one_without_a_rule_of_its_own_that_has_one_on_the_catch_all_alone():
    config = gateway()
    (one,) = found(said(config, [catch_all(config)], RULES))
    assert [each.value for each in one.evidence] == ["{...}", None]
    assert one.evidence[1].note.endswith("the filter has no rule")
    config = gateway(rules={})
    assert found(said(config, [catch_all(config)], RULES)) == []
    config = gateway(before=False)
    assert found(said(config, [catch_all(config)], RULES)) == []


def test_limits_of_the_catch_all_alone():
    config = gateway(kind="ratelimit.v3.RateLimit")
    catch_all(config)["route"] = {"rate_limits": [{"actions": []}]}
    (one,) = found(config)
    assert one.evidence[0].path.endswith("route.rate_limits")
    host(config)["rate_limits"] = [{"actions": []}]
    assert found(config) == []


def test_one_that_is_the_same_for_every_route():
    assert found(gateway()) == []
    config = gateway(disabled=True)
    assert found(said(config, [host(config)], RULES)) == []
    config = gateway(disabled=True)
    assert found(said(config, [*models(config), catch_all(config)], RULES)) == []


def test_one_that_is_nowhere_on_where_requests_are_at_first_is_another_finding():
    config = gateway(disabled=True)
    assert found(said(config, models(config), RULES)) == []
    config = gateway(kind="ext_authz.v3.ExtAuthz", grpc_service={})
    assert found(said(config, [*models(config), catch_all(config)], DISABLED)) == []


def test_without_a_catch_all_a_request_begins_without_a_route():
    config = gateway()
    said(config, models(config), OUT)
    routes(config)[:] = models(config)
    (one,) = found(config)
    assert one.evidence[0].path.endswith(".disabled")


def test_routing_headers_that_clients_can_t_send():
    config = gateway(disabled=True)
    said(config, [catch_all(config)], RULES)
    mutations = [{"remove": "X-Gateway-Base-Model-Name"}, {"remove": "x-gateway-model-name"}, {"append": {}}]
    hcm(config)["early_header_mutation_extensions"] = [{"typed_config": {"mutations": mutations}}]
    assert found(config) == []
    del mutations[0]
    assert [each.id for each in found(config)] == ["policy-bypassed"]


def test_what_lets_nobody_in_or_out_is_no_gate():
    config = gateway(disabled=True, kind="compressor.v3.Compressor")
    assert found(said(config, [catch_all(config)], ON)) == []


def test_pickers_and_the_router_are_no_policies():
    config = copy.deepcopy(CONFIG)
    per_route(catch_all(config), ON, "epp")
    per_route(catch_all(config), ON, "bbr")
    for route in models(config):
        per_route(route, OUT, "bbr")
    assert found(config) == []


def test_a_listener_without_a_router():
    config = gateway(disabled=True)
    said(config, [catch_all(config)], RULES)
    hcm(config)["http_filters"] = hcm(config)["http_filters"][:1]
    assert found(config) == []
