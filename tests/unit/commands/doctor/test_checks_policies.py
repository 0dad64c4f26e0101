"""Each kind of filter is tried in a real Envoy by tests/integration/test_policies.py."""

import copy
import re

import pytest

from bbr.commands.doctor import checks_policies
from tests.support.doctor import (
    OUT,
    SWITCH,
    SWITCHED_ON,
    demo,
    entry,
    hcm,
    host,
    looking,
    per_route,
    routes,
    saved,
    switch,
)

CONFIG = demo()
HTTP = "type.googleapis.com/envoy.extensions.filters.http"
POLICY = {"@type": f"{HTTP}.rbac.v3.RBACPerRoute", "rbac": {}}
OTHER = {"@type": f"{HTTP}.rbac.v3.RBACPerRoute", "rbac": {"rules": {}}}
DISABLED = {"@type": f"{HTTP}.ext_authz.v3.ExtAuthzPerRoute", "disabled": True}
CORS = {"@type": f"{HTTP}.cors.v3.CorsPolicy"}
LIMITS = [{"actions": []}]


def gateway(*, before=True, disabled=False, kind="rbac.v3.RBAC", name="policy"):
    config = copy.deepcopy(CONFIG)
    policy = {"name": name, "typed_config": {"@type": f"{HTTP}.{kind}"}, "disabled": disabled}
    hcm(config)["http_filters"].insert(0 if before else 1, policy)
    return config


def models(config):
    return [route for route in routes(config) if route["match"].get("headers")]


def catch_all(config):
    return next(route for route in routes(config) if not route["match"].get("headers"))


def found(config):
    return list(checks_policies.check(saved(config)))


def said(config, places, setting, name="policy"):
    for place in places:
        per_route(place, setting, name)
    return config


def test_a_filter_that_says_the_same_everywhere():
    assert found(gateway()) == []
    config = gateway()
    assert found(said(config, [host(config)], POLICY)) == []
    config = gateway()
    assert found(said(config, [*models(config), catch_all(config)], POLICY)) == []


@pytest.mark.parametrize("before", [True, False])
def test_one_that_is_off_where_requests_are_at_first(before):
    config = gateway(before=before, disabled=True)
    (one,) = found(said(config, models(config), POLICY))
    assert one.id == "policy-skipped"
    assert "off on the route that requests have at first" in one.sentence
    assert [each.value for each in one.evidence][:2] == ["{...}", True]
    config = gateway(before=before)
    (one,) = found(said(config, [catch_all(config)], OUT))
    assert "off on the route that requests have at first" in one.sentence
    assert one.evidence[0].note.endswith(": as the filter is")


def test_one_that_stands_before_the_router_reads_too_early():
    config = gateway()
    (one,) = found(said(config, models(config), POLICY))
    assert "runs before the router" in one.sentence
    (one,) = found(said(config, [catch_all(config)], OTHER))
    assert len(one.evidence) == 2
    config = gateway(before=False)
    assert found(said(config, models(config), POLICY)) == []


def test_what_the_catch_all_says_alone_is_where_policies_belong():
    config = gateway()
    assert found(said(config, [catch_all(config)], POLICY)) == []


def test_an_exemption_of_the_catch_all_is_one_of_all():
    config = gateway(kind="ext_authz.v3.ExtAuthz")
    (one,) = found(said(config, [catch_all(config)], DISABLED))
    assert "runs before the router" in one.sentence
    assert found(said(config, models(config), DISABLED)) == []


def test_limits_of_a_route():
    config = gateway(kind="ratelimit.v3.RateLimit")
    for each in models(config):
        each.setdefault("route", {})["rate_limits"] = LIMITS
    (one,) = found(config)
    assert one.evidence[0].path.endswith("route.rate_limits")
    catch_all(config)["route"] = {"rate_limits": LIMITS}
    assert found(config) == []


def test_pickers_and_the_router_are_no_policies():
    config = copy.deepcopy(CONFIG)
    entry(config)["disabled"] = True
    per_route(host(config), POLICY, "bbr")
    assert found(config) == []


@pytest.mark.parametrize(
    ("edit", "evidence"),
    [
        (lambda config: said(config, models(config), CORS, "cors"), "direct_response.status"),
        (lambda config: said(config, [host(config)], CORS, "cors"), "direct_response.status"),
        (lambda config: said(config, [catch_all(config)], CORS, "cors"), "direct_response.status"),
    ],
)
def test_a_preflight_to_a_direct_response(edit, evidence):
    config = gateway(kind="cors.v3.Cors", name="cors")
    (one,) = found(edit(config))
    assert one.id == "cors-preflight-fails"
    assert one.evidence[0].path.endswith(evidence)


def with_cluster(config):
    route = catch_all(config)
    route.pop("direct_response", None)
    route["route"] = {"cluster": "bbr"}
    return config


def test_a_preflight_to_a_cluster():
    config = with_cluster(gateway(kind="cors.v3.Cors", name="cors"))
    assert found(config) == []
    (one,) = found(said(config, models(config), CORS, "cors"))
    assert one.evidence[0].value is None
    assert found(said(config, [catch_all(config)], CORS, "cors")) == []
    per_route(catch_all(config), OUT, "cors")
    assert [each.id for each in found(config)] == ["cors-preflight-fails"]


def test_a_preflight_without_a_catch_all():
    config = gateway(kind="cors.v3.Cors", name="cors")
    said(config, models(config), CORS, "cors")
    routes(config)[:] = models(config)
    (one,) = found(config)
    assert one.evidence[0].path.endswith(".cors")


def test_a_preflight_to_a_redirect():
    config = gateway(kind="cors.v3.Cors", name="cors")
    catch_all(config).pop("direct_response")
    catch_all(config)["redirect"] = {"host_redirect": "elsewhere"}
    (one,) = found(said(config, [host(config)], CORS, "cors"))
    assert one.evidence[0].path.endswith(".redirect")


def test_what_turns_other_filters_off_is_no_policy_itself():
    config = gateway(disabled=True, kind="ext_authz.v3.ExtAuthz")
    hcm(config)["http_filters"][0]["typed_config"] = looking({"@type": f"{HTTP}.ext_authz.v3.ExtAuthz"})
    hcm(config)["http_filters"].insert(0, switch())
    for route in models(config):
        per_route(route, SWITCHED_ON, SWITCH)
    assert found(config) == []
    # Turned off where requests are at first, the policy of a model's route is not in force.
    config = gateway(kind="ext_authz.v3.ExtAuthz")
    hcm(config)["http_filters"][0]["typed_config"] = looking({"@type": f"{HTTP}.ext_authz.v3.ExtAuthz"})
    hcm(config)["http_filters"].insert(0, switch())
    per_route(catch_all(config), SWITCHED_ON, SWITCH)
    (one,) = found(config)
    assert one.id == "policy-skipped"
    assert one.evidence[-1].note == "off turns policy off"


HEADER = {"name": "X-Gateway-Base-Model-Name", "string_match": {"exact": "qwen"}}
INPUT = {"@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput"}


def index(header, function="_[_]"):
    """Return `request.headers[header]` as CEL's parser has it."""
    headers = {"select_expr": {"operand": {"ident_expr": {"name": "request"}}, "field": "headers"}}
    return {"call_expr": {"function": function, "args": [headers, {"const_expr": {"string_value": header}}]}}


def cel(**expression):
    """Return a matcher of RBAC by CEL, as kgateway writes it."""
    typed = {"@type": "type.googleapis.com/xds.type.matcher.v3.CelMatcher", "expr_match": expression}
    predicate = {"single_predicate": {"custom_match": {"typed_config": typed}}}
    return {"matcher": {"matcher_list": {"matchers": [{"predicate": predicate}]}}}


def equals(header):
    value = {"const_expr": {"string_value": "qwen"}}
    return {"expr": {"call_expr": {"function": "_==_", "args": [index(header), value]}}}


TEXT = """request.headers['X-Gateway-Model-Name'] == 'qwen' && request.headers["x-key"] == "hush" """
LIMIT_BY_MODEL = {"request_headers": {"header_name": "x-gateway-model-name", "descriptor_key": "model"}}
LIMIT_BY_CEL = {
    "extension": {
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor",
            "text": TEXT,
        }
    }
}
MODEL_RULES = {
    "rules": {"rules": {"policies": {"p": {"permissions": [{"or_rules": {"rules": [{"header": HEADER}]}}]}}}},
    "shadow rules": {"shadow_rules": {"policies": {"p": {"principals": [{"header": HEADER}]}}}},
    "matcher": {
        "matcher": {"matcher_tree": {"input": {"typed_config": INPUT | {"header_name": "x-gateway-model-name"}}}}
    },
    "CEL, parsed": cel(cel_expr_parsed=equals("x-gateway-base-model-name")),
    "CEL, checked": cel(cel_expr_checked=equals("X-Gateway-Base-Model-Name")),
    "CEL, an optional index": cel(cel_expr_parsed={"expr": index("x-gateway-model-name", "_[?_]")}),
    "CEL, as text": cel(cel_expr_string=TEXT),
    "a condition": {"rules": {"policies": {"p": {"condition": equals("x-gateway-model-name")["expr"]}}}},
    "a limit by model": {"rate_limits": [{"actions": [LIMIT_BY_MODEL]}]},
    "a limit by CEL": {"rate_limits": [{"actions": [LIMIT_BY_CEL]}]},
}
NO_MODEL_RULES = {
    "presence": cel(cel_expr_parsed={"expr": index("x-gateway-model-name", "@in")}),
    "presence, as text": cel(cel_expr_string="'x-gateway-model-name' in request.headers"),
    "another header": cel(cel_expr_parsed=equals("x-user")),
    "no arguments": cel(cel_expr_parsed={"expr": {"call_expr": {"function": "_[_]"}}}),
}


@pytest.mark.parametrize("rules", MODEL_RULES.values(), ids=MODEL_RULES)
def test_a_rule_about_the_model_that_stands_before_the_router(rules):
    for before in (True, False):
        config = gateway(before=before)
        next(each for each in hcm(config)["http_filters"] if each["name"] == "policy")["typed_config"] |= rules
        told = found(config)
        assert [each.id for each in told] == ["policy-skipped"] * before
        if before:
            assert "It sees that header as clients send it" in told[0].sentence
            assert re.search(r"(?i)asks for x-gateway-(base-)?model-name, ", told[0].sentence)
            shown = str(told[0].evidence[0].value).lower()
            assert shown in ("x-gateway-base-model-name", "x-gateway-model-name", "{...}")


@pytest.mark.parametrize("place", [host, catch_all])
@pytest.mark.parametrize("rules", MODEL_RULES.values(), ids=MODEL_RULES)
def test_one_that_is_said_where_requests_are_at_first(place, rules):
    """As kgateway and Envoy Gateway write a policy for the Gateway: the filter itself says nothing."""
    for before in (True, False):
        config = gateway(before=before, disabled=True)
        said(config, [place(config)], POLICY | {"rbac": rules})
        told = [each for each in found(config) if "asks for" in each.sentence]
        assert len(told) == before
        config = gateway(before=before, disabled=True)
        said(config, models(config), POLICY | {"rbac": rules})
        assert ["asks for" in each.sentence for each in found(config)] == [False]


@pytest.mark.parametrize("rules", NO_MODEL_RULES.values(), ids=NO_MODEL_RULES)
def test_cel_about_something_else_or_about_the_header_being_there(rules):
    config = gateway()
    assert found(said(config, [host(config)], POLICY | {"rbac": rules})) == []


@pytest.mark.parametrize(
    "header",
    [
        {"name": "x-gateway-base-model-name", "present_match": True},
        {"name": "x-team", "string_match": {"exact": "a"}},
        {"header_name": "x-gateway-model-name"},
    ],
)
def test_a_rule_about_clients_own_headers_may_stand_there(header):
    config = gateway()
    hcm(config)["http_filters"][0]["typed_config"] |= {
        "rules": {"policies": {"p": {"permissions": [{"header": header}]}}}
    }
    assert found(config) == []
