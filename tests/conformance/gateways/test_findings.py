"""What `bbr doctor` finds in real gateways' configuration, as it is and broken on purpose: that, and no more."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bbr.commands.doctor.examine import examine
from bbr.commands.doctor.gateway import Gateway, read
from tests.support.doctor import EXT_PROC, OFF, OUT, SWITCH, looking, switch, wrapped

HERE = Path(__file__).parent
HTTP = "type.googleapis.com/envoy.extensions.filters.http"
ON = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}
DENY = {"@type": f"{HTTP}.rbac.v3.RBACPerRoute", "rbac": {"rules": {"action": "DENY", "policies": {}}}}
CORS = {"@type": f"{HTTP}.cors.v3.CorsPolicy", "allow_origin_string_match": [{"exact": "https://app.example"}]}

ALONE, BESIDE, ISTIO, KGATEWAY = "envoy-gateway-alone", "envoy-gateway-with-ai-gateway", "istio", "kgateway"
KEYS, POLICIES = "envoy-gateway-with-keys", "kgateway-with-policies"
# What each has as it is. The chart asked for no keepalive when those of Envoy Gateway and Istio were taken.
AS_IT_IS = {
    ALONE: {"model-route-broken", "cluster-plaintext", "no-keepalive"},
    BESIDE: {"circuit-breaker-default", "cluster-plaintext", "no-keepalive"},
    ISTIO: {"no-catch-all", "no-keepalive"},
    # Its Qwen route has an authorization by a SecurityPolicy of its own, which took the place of the Gateway's keys.
    KEYS: {"policy-bypassed", "cluster-plaintext", "no-keepalive"},
    KGATEWAY: {"no-retry-policy", "cluster-plaintext"},
    # Its Qwen route turns the Gateway's checks off, its Phi route has a login, the Gateway a rule about the model.
    POLICIES: {"policy-bypassed", "policy-skipped", "no-retry-policy", "cluster-plaintext"},
}


class Dump:
    """A gateway's config_dump, to be broken."""

    def __init__(self, gateway: str) -> None:
        self.gateway = gateway
        self.document: dict[str, Any] = json.loads((HERE / f"{gateway}.json").read_text("utf-8"))
        clusters, listeners, tables = self.document["configs"]
        self.clusters = [each["cluster"] for each in clusters["dynamic_active_clusters"]]
        ((listener),) = [each["active_state"]["listener"] for each in listeners["dynamic_listeners"]]
        chains = [*listener.get("filter_chains", ()), *filter(None, [listener.get("default_filter_chain")])]
        self.manager: dict[str, Any] = chains[0]["filters"][0]["typed_config"]
        self.filters: list[dict[str, Any]] = self.manager["http_filters"]
        (self.table,) = [each["route_config"] for each in tables["dynamic_route_configs"]]
        (self.host,) = self.table["virtual_hosts"]
        self.routes: list[dict[str, Any]] = self.host["routes"]

    @property
    def models(self) -> list[dict[str, Any]]:
        return [each for each in self.routes if "X-Gateway-Base-Model-Name" in json.dumps(each["match"])]

    @property
    def others(self) -> list[dict[str, Any]]:
        return [each for each in self.routes if each not in self.models]

    @property
    def router(self) -> dict[str, Any]:
        return next(each for each in self.filters if "body-based-router" in each["name"] or "bbr" in each["name"])

    @property
    def ext_proc(self) -> dict[str, Any]:
        """Return the router's ExternalProcessor, wherever it stands."""
        waiting: list[Any] = [self.router]
        while waiting:
            each = waiting.pop()
            if isinstance(each, dict):
                if each.get("@type", "").endswith("ExternalProcessor"):
                    return each
                waiting += each.values()
            elif isinstance(each, list):
                waiting += each
        raise AssertionError("no ext_proc filter")

    def read(self, stats: Any = None) -> Gateway:
        return read(self.document, None, stats)

    def put(self, found: dict[str, Any], *, before: bool) -> None:
        place = self.filters.index(self.router) + (not before)
        self.filters.insert(place, found)


def say(places: list[dict[str, Any]], name: str, setting: dict[str, Any]) -> None:
    for place in places:
        place.setdefault("typed_per_filter_config", {})[name] = setting


def policy(*, before: bool, off: bool, catch_all: bool = False, by_config: bool = False) -> Callable[[Dump], None]:
    """Return what puts an RBAC filter into a gateway, with a policy on the models' routes."""

    def edit(dump: Dump) -> None:
        dump.put({"name": "rbac", "typed_config": {"@type": f"{HTTP}.rbac.v3.RBAC"}, "disabled": off}, before=before)
        say(dump.models + (dump.others if catch_all else []), "rbac", ON | {"config": DENY} if by_config else DENY)

    return edit


KEY_AUTH = "envoy.filters.http.api_key_auth"
PER_ROUTE = {"@type": f"{HTTP}.api_key_auth.v3.ApiKeyAuthPerRoute", "key_sources": [{"header": "x-api-key"}]}


def keys(*, models: bool) -> Callable[[Dump], None]:
    """Return what puts keys on the catch-all, and on the models' routes too or not, as Envoy Gateway writes them."""

    def edit(dump: Dump) -> None:
        if all(each["name"] != KEY_AUTH for each in dump.filters):
            typed = {"@type": f"{HTTP}.api_key_auth.v3.ApiKeyAuth", "key_sources": [{"header": "x-api-key"}]}
            dump.put({"name": KEY_AUTH, "typed_config": typed, "disabled": True}, before=True)
        before = [each.get("typed_per_filter_config", {}).get(KEY_AUTH) for each in dump.others]
        setting = next(filter(None, before), PER_ROUTE)
        say(dump.others + (dump.models if models else []), KEY_AUTH, setting)

    return edit


def keys_without_routing_headers(dump: Dump) -> None:
    keys(models=False)(dump)
    kind = "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    removed = [{"remove": "x-gateway-base-model-name"}, {"remove": "x-gateway-model-name"}]
    name = "envoy.http.early_header_mutation.header_mutation"
    mutation = {"name": name, "typed_config": {"@type": kind, "mutations": removed}}
    dump.manager["early_header_mutation_extensions"] = [mutation]


LOGIN = {"name": "envoy.filters.http.oauth2/models/login", "typed_config": {"@type": f"{HTTP}.oauth2.v3.OAuth2"}}
MODULE = {"dynamic_module_config": {"name": "rust_module"}, "filter_name": "http-acl"}
ACL = {
    "name": "dynamic_modules/http-acl",
    "typed_config": {
        "@type": f"{HTTP}.dynamic_modules.v3.DynamicModuleFilter",
        **MODULE,
        "filter_config": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": '{"defaultAction":"allow"}',
        },
    },
}
ACL_RULES = {
    "@type": f"{HTTP}.dynamic_modules.v3.DynamicModuleFilterPerRoute",
    **MODULE,
    "filter_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": '{"defaultAction":"deny"}'},
}


def on_some(found: dict[str, Any], setting: dict[str, Any], *, models: bool) -> Callable[[Dump], None]:
    """Return what puts a filter before the router, off, and on by the models' routes or by the catch-all."""

    def edit(dump: Dump) -> None:
        dump.put(found | {"disabled": True}, before=True)
        say(dump.models if models else dump.others, found["name"], setting)

    return edit


def turned_off(way: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Dump], None]:
    """Return what puts a policy on every route, and turns it off on the models' by another filter, as kgateway does."""

    def edit(dump: Dump) -> None:
        own = {"@type": f"{HTTP}.ext_authz.v3.ExtAuthz", "grpc_service": {"envoy_grpc": {"cluster_name": "asked"}}}
        dump.put({"name": "ext_authz", "typed_config": way(own), "disabled": True}, before=True)
        dump.filters.insert(0, switch())
        say(dump.models + dump.others, "ext_authz", ON)
        say(dump.models, SWITCH, ON)

    return edit


def cors(*, catch_all: bool, to_cluster: bool) -> Callable[[Dump], None]:
    def edit(dump: Dump) -> None:
        name = "envoy.filters.http.cors"
        dump.filters[:] = [each for each in dump.filters if each["name"] != name]
        dump.put({"name": name, "typed_config": {"@type": f"{HTTP}.cors.v3.Cors"}}, before=True)
        if to_cluster:
            turn_to_cluster(dump)
        say(dump.models + (dump.others if catch_all else []), name, CORS)

    return edit


def turn_to_cluster(dump: Dump) -> None:
    """Give the catch-all a cluster, or make it, with the router on."""
    if not dump.others:
        dump.routes.append({"name": "catch-all", "match": {"prefix": "/"}})
    for each in dump.others:
        each.pop("direct_response", None)
        each["route"] = {"cluster": dump.clusters[0]["name"]}


def without_catch_all(dump: Dump) -> None:
    for each in dump.others:
        dump.routes.remove(each)


def silenced_on_models(dump: Dump) -> None:
    say(dump.models, dump.router["name"], OFF)


def out_on_catch_all(dump: Dump) -> None:
    turn_to_cluster(dump)
    say(dump.others, dump.router["name"], OUT)


def field(name: str, value: Any) -> Callable[[Dump], None]:
    def edit(dump: Dump) -> None:
        dump.ext_proc[name] = value

    return edit


def retries(dump: Dump) -> None:
    dump.ext_proc["grpc_service"]["retry_policy"] = {"retry_on": "unavailable", "num_retries": 3}


def no_retries(dump: Dump) -> None:
    for place in (dump.ext_proc["grpc_service"], dump.ext_proc["grpc_service"]["envoy_grpc"]):
        place.pop("retry_policy", None)


def without_cluster(dump: Dump) -> None:
    dump.ext_proc["grpc_service"]["envoy_grpc"]["cluster_name"] = "another"


def models_fail(dump: Dump) -> None:
    for each in dump.models:
        each.pop("route", None)
        each["direct_response"] = {"status": 500}


def unchanged(_dump: Dump) -> None:
    """Leave it as it is."""


ALL = {ALONE, BESIDE, ISTIO, KGATEWAY, KEYS, POLICIES}
WITH_CATCH_ALL = ALL - {ISTIO}
# What is done to it -> what is found then that was not before, in which gateways; and what is not found any more.
TABLE: dict[str, tuple[Callable[[Dump], None], dict[str, set[str]], dict[str, set[str]]]] = {
    "as it is": (unchanged, {}, {}),
    "a policy before the router, off, on by route": (policy(before=True, off=True), {"policy-skipped": ALL}, {}),
    "the same, as Envoy Gateway writes it": (
        policy(before=True, off=True, by_config=True),
        {"policy-skipped": ALL},
        {},
    ),
    "a policy behind the router, off, on by route": (policy(before=False, off=True), {"policy-skipped": ALL}, {}),
    "a policy before the router, on": (policy(before=True, off=False), {"policy-skipped": ALL}, {}),
    "a policy behind the router, on": (policy(before=False, off=False), {}, {}),
    "a policy on the catch-all too": (
        policy(before=True, off=True, catch_all=True),
        {"policy-skipped": {ISTIO}},  # it has none
        {},
    ),
    "OAuth2 on the models' routes, as kgateway writes it": (
        on_some(LOGIN, ON, models=True),
        {"policy-skipped": ALL},
        {},
    ),
    "OAuth2 on the catch-all alone": (on_some(LOGIN, ON, models=False), {"policy-bypassed": WITH_CATCH_ALL}, {}),
    "kgateway's ACL on the models' routes": (on_some(ACL, ACL_RULES, models=True), {"policy-skipped": ALL}, {}),
    "kgateway's ACL on the catch-all alone": (
        on_some(ACL, ACL_RULES, models=False),
        {"policy-bypassed": WITH_CATCH_ALL},
        {},
    ),
    "keys on the catch-all alone": (keys(models=False), {"policy-bypassed": WITH_CATCH_ALL}, {}),
    "keys on every route": (keys(models=True), {"policy-skipped": {ISTIO}}, {"policy-bypassed": {KEYS}}),
    "keys on the catch-all, and no routing headers from outside": (
        keys_without_routing_headers,
        {},
        {"policy-bypassed": {KEYS, POLICIES}},
    ),
    "a policy that looks for metadata, turned off on the models' routes": (
        turned_off(looking),
        {"policy-bypassed": WITH_CATCH_ALL},
        {},
    ),
    "a policy within a matcher, turned off on the models' routes": (
        turned_off(wrapped),
        {"policy-bypassed": WITH_CATCH_ALL},
        {},
    ),
    "CORS on the models' routes": (cors(catch_all=False, to_cluster=False), {"cors-preflight-fails": ALL}, {}),
    "CORS on a catch-all that is a direct response": (
        cors(catch_all=True, to_cluster=False),
        {"cors-preflight-fails": ALL},
        {},
    ),
    "CORS on a catch-all with a cluster": (
        cors(catch_all=True, to_cluster=True),
        {},
        {"no-catch-all": {ISTIO}},
    ),
    "no catch-all": (
        without_catch_all,
        {"catch-all-missing": WITH_CATCH_ALL, "policy-skipped": {KEYS}},
        {"policy-bypassed": {KEYS, POLICIES}},
    ),
    "the router off on the models' routes": (silenced_on_models, {"spoofable-route": ALL}, {}),
    "the router out on the catch-all": (
        out_on_catch_all,
        {"catch-all-without-router": ALL},
        {"no-catch-all": {ISTIO}},
    ),
    "fails open": (field("failure_mode_allow", True), {"fails-open": ALL}, {}),
    "route cache pinned": (field("route_cache_action", "RETAIN"), {"route-cache-pinned": ALL}, {}),
    "observed only": (field("observability_mode", True), {"observability-mode": ALL}, {}),
    "no refusals": (field("disable_immediate_response", True), {"refusals-disabled": ALL}, {}),
    "mutations forbidden": (field("mutation_rules", {"disallow_all": True}), {"mutation-disallowed": ALL}, {}),
    "retries": (retries, {}, {"no-retry-policy": {KGATEWAY, POLICIES}}),
    "no retries": (no_retries, {"no-retry-policy": ALL}, {}),
    "the gateway has no backend": (models_fail, {"model-route-broken": ALL}, {}),
}


def found(gateway: Gateway) -> set[str]:
    return {each.id for each in examine(gateway, max_body_bytes=64 << 20)}


@pytest.mark.parametrize("gateway", AS_IT_IS)
@pytest.mark.parametrize("case", TABLE)
def test_all_findings_in_a_real_gateway(gateway: str, case: str) -> None:
    edit, more, less = TABLE[case]
    edit(dump := Dump(gateway))
    expected = AS_IT_IS[gateway] | {id_ for id_, where in more.items() if gateway in where}
    expected -= {id_ for id_, where in less.items() if gateway in where}
    assert found(dump.read()) == expected


@pytest.mark.parametrize("gateway", AS_IT_IS)
def test_no_picker_is_taken_for_the_router(gateway: str) -> None:
    dump = Dump(gateway)
    dump.filters.remove(dump.router)
    assert found(dump.read()) - {"circuit-breaker-default"} == {"router-not-found"}


@pytest.mark.parametrize("gateway", AS_IT_IS)
def test_a_picker_that_echoes_headers_is_nothing_to_warn_of(gateway: str) -> None:
    """It shares the router's counters: EPP answers with all headers of a request, and Envoy rejects `:method`."""
    dump = Dump(gateway)
    prefix = f"http.{dump.manager['stat_prefix']}.ext_proc."
    stats = {"stats": [{"name": f"{prefix}rejected_header_mutations", "value": 17}]}
    pickers = gateway in (BESIDE, ISTIO)
    more = "mutations-uncertain" if pickers else "mutations-rejected"
    assert found(dump.read(stats)) == AS_IT_IS[gateway] | {more}
    if pickers:
        dump.ext_proc["stat_prefix"] = "bbr"
        assert found(dump.read(stats)) == AS_IT_IS[gateway]


def test_each_of_kgateway_s_policies_is_told_by_itself() -> None:
    """`disable` of two checks on Qwen's route, OAuth2 on Phi's, and CEL about the model on the Gateway."""
    told = [each for each in examine(Dump(POLICIES).read(), max_body_bytes=64 << 20) if each.id.startswith("policy-")]
    qwen, phi = (f"httproute-{name}-model-route" for name in ("qwen", "phi"))
    assert [(each.id, qwen in each.sentence, phi in each.sentence, each.sentence.split()[3]) for each in told] == [
        ("policy-skipped", False, True, "envoy.filters.http.oauth2/models/login"),
        ("policy-skipped", False, False, "envoy.filters.http.rbac"),
        ("policy-bypassed", True, False, "ext_auth/models/grpc"),
        ("policy-bypassed", True, False, "jwt/models/tokens"),
    ]
    assert "asks for x-gateway-base-model-name" in told[1].sentence


def test_the_router_of_kgateway_is_found_within_its_composite_filter() -> None:
    dump = Dump(KGATEWAY)
    (manager,) = dump.read().managers
    assert manager.router is not None
    assert manager.router.name == "ext_proc/models/body-based-router"
    assert manager.router.config.value == dump.ext_proc
    assert manager.router.config.type == "ExternalProcessor"
    assert EXT_PROC in manager.router.config.get("@type").text
