"""The chart: what it attaches to gateways, and what models' routes point at."""

import pytest
import yaml

from deploy.render import helm
from tests.deploy.test_chart import TWO, documents, one, router
from tests.support.tools import needs

pytestmark = [needs("helm"), needs("helm4")]

CORS = {"allowOrigins": ["https://chat.example.com"], "allowHeaders": ["authorization"]}
CATCH_ALL = "body-based-router-catch-all"
# By which object each gateway calls the router.
ATTACHES = {
    "gke": "GCPRoutingExtension",
    "istio": "EnvoyFilter",
    "envoy-gateway": "EnvoyExtensionPolicy",
    "kgateway": "TrafficPolicy",
    "agentgateway": "AgentgatewayPolicy",
}


def rendered(tmp_path, provider, apis=(), **values):
    (file := tmp_path / "more.yaml").write_text(yaml.safe_dump({"provider": {"name": provider}, **values}), "utf-8")
    return documents([*TWO, file], apis=apis)


def backends(found):
    routes = [each for each in found if each["kind"] == "HTTPRoute" and each["metadata"]["name"] != CATCH_ALL]
    return [rule["backendRefs"] for route in routes for rule in route["spec"]["rules"]]


@pytest.mark.parametrize("provider", ATTACHES)
def test_only_what_attaches_the_router_is_missing_before_it_is_attached(tmp_path, provider):
    (file := tmp_path / "apart.yaml").write_text(
        yaml.safe_dump({"provider": {"name": provider, "attach": False}}), "utf-8"
    )
    apart, attached = documents([*TWO, file]), rendered(tmp_path, provider)
    assert [each["kind"] for each in attached if each not in apart] == [ATTACHES[provider]]
    changed = [each for each in apart if each not in attached]
    if (
        provider == "envoy-gateway"
    ):  # its Envoy knows the router by this policy alone, so it has one for the models' routes
        (policy,) = changed
        assert {(each["kind"], each["name"]) for each in policy["spec"]["targetRefs"]} == {
            ("HTTPRoute", "qwen-model-route"),
            ("HTTPRoute", "phi-3-mini-4k-instruct-model-route"),
        }
    else:
        assert changed == []


@pytest.mark.parametrize(
    ("provider", "asked"), [("kgateway", "auto"), ("envoy-gateway", "auto"), ("istio", "services")]
)
def test_services_stand_where_a_gateway_knows_no_pools(tmp_path, provider, asked):
    found = rendered(tmp_path, provider, backends=asked)
    kinds = {each["kind"] for each in found}
    assert "InferencePool" not in kinds
    assert not [each for each in found if each["metadata"]["name"].endswith("-epp")]
    assert backends(found) == [
        [{"name": "qwen-pool", "port": 8000}],
        [{"name": "phi-3-mini-4k-instruct-pool", "port": 8000}],
    ]
    assert one(found, "Service", "qwen-pool")["spec"] == {
        "selector": {"app": "qwen"},
        "ports": [{"name": "http", "port": 8000, "targetPort": 8000}],
    }
    assert "--alias-rewrite=body" in router(found)["args"]


@pytest.mark.parametrize("provider", ["istio", "agentgateway", "gke"])
def test_pools_stand_where_nothing_else_is_said(tmp_path, provider):
    found = rendered(tmp_path, provider)
    assert {backend["kind"] for (backend,) in backends(found)} == {"InferencePool"}
    assert not [argument for argument in router(found)["args"] if argument.startswith("--alias-rewrite")]


POOLS = "inference.networking.k8s.io/v1"


@pytest.mark.parametrize(
    ("apis", "kinds"),
    [
        ((POOLS, "aigateway.envoyproxy.io/v1beta1"), {"InferencePool"}),
        ((POOLS, "aigateway.envoyproxy.io/v1alpha1"), {"InferencePool"}),
        ((POOLS,), {"Service"}),
        (("aigateway.envoyproxy.io/v1beta1",), {"Service"}),
    ],
)
def test_envoy_gateway_gets_pools_where_envoy_ai_gateway_and_their_kind_are_installed(tmp_path, apis, kinds):
    found = rendered(tmp_path, "envoy-gateway", apis)
    assert {backend.get("kind", "Service") for (backend,) in backends(found)} == kinds
    assert {backend.get("kind", "Service") for (backend,) in backends(rendered(tmp_path, "kgateway", apis))} == {
        "Service"
    }


def test_a_flag_of_the_user_s_counts_and_gke_takes_no_services(tmp_path):
    found = rendered(tmp_path, "kgateway", bbr={"flags": {"alias-rewrite": "off"}})
    assert [each for each in router(found)["args"] if each.startswith("--alias-rewrite")] == ["--alias-rewrite=off"]
    with pytest.raises(helm.HelmError, match="backends: services is not for gke"):
        rendered(tmp_path, "gke", backends="services")


@pytest.mark.parametrize("provider", ["envoy-gateway", "kgateway", "istio", "agentgateway"])
def test_a_catch_all_of_the_user_s_has_his_backend_and_the_cors_filter(tmp_path, provider):
    backend = {"name": "ui", "port": 80}
    found = rendered(tmp_path, provider, catchAll={"backendRef": backend, "cors": CORS})
    (rule,) = one(found, "HTTPRoute", CATCH_ALL)["spec"]["rules"]
    assert rule["backendRefs"] == [backend]
    assert rule["filters"] == [{"type": "CORS", "cors": CORS}]
    assert not [each for each in found if each["kind"] in ("HTTPRouteFilter", "DirectResponse")]
    (plain,) = one(rendered(tmp_path, provider, catchAll={"backendRef": backend}), "HTTPRoute", CATCH_ALL)["spec"][
        "rules"
    ]
    assert "filters" not in plain


def test_istio_gets_no_settings_for_a_picker_that_is_not_known(tmp_path):
    own = {"baseModel": "a/b", "name": "own", "pool": {"create": False}, "epp": {"create": False}}
    known = {"baseModel": "c/d", "name": "known", "pool": {"selector": {"app": "d"}}, "epp": {"create": False}}
    found = rendered(tmp_path, "istio", models=[own, known])
    rules = {each["metadata"]["name"] for each in found if each["kind"] == "DestinationRule"}
    assert rules == {"body-based-router", "known-epp"}


def test_istio_gets_cors_before_everything_where_browsers_are_let_in(tmp_path):
    def filters(**values):
        patches = one(rendered(tmp_path, "istio", **values), "EnvoyFilter")["spec"]["configPatches"]
        return [patch["patch"]["value"]["name"] for patch in patches if patch["applyTo"] == "HTTP_FILTER"]

    ours = "envoy.filters.http.ext_proc.bbr"
    assert filters() == [ours]
    # The last one that is put first is the first.
    assert filters(catchAll={"backendRef": {"name": "ui", "port": 80}, "cors": CORS}) == [
        ours,
        "envoy.filters.http.cors",
    ]


@pytest.mark.parametrize(
    ("provider", "catch_all", "why"),
    [
        ("istio", {"cors": CORS}, "catchAll.cors needs catchAll.backendRef"),
        ("istio", {"backendRef": {"name": "ui"}}, "port"),
        ("istio", {"backendRef": {"name": "ui", "port": 80}, "cors": {"allowMethods": ["GET"]}}, "allowOrigins"),
        ("gke", {"backendRef": {"name": "ui", "port": 80}}, "catchAll.backendRef is not for provider gke"),
    ],
)
def test_a_catch_all_that_cannot_work_is_refused(tmp_path, provider, catch_all, why):
    with pytest.raises(helm.HelmError, match=why):
        rendered(tmp_path, provider, catchAll=catch_all)


def test_envoy_gateway_sends_no_request_to_a_replica_that_is_not_ready_unless_none_is(tmp_path):
    """With 0 it fails them all for a minute if the first replicas begin to listen after the first health checks."""
    (policy,) = one(rendered(tmp_path, "envoy-gateway"), "EnvoyExtensionPolicy")["spec"]["extProc"]
    assert policy["backendSettings"]["healthCheck"]["panicThreshold"] == 1


def test_connections_to_a_router_that_hangs_are_closed(tmp_path):
    keepalive = {"interval": "5s", "timeout": "5s"}
    spec = one(rendered(tmp_path, "kgateway"), "BackendConfigPolicy")["spec"]
    assert spec["http2ProtocolOptions"] == {"connectionKeepalive": keepalive}
    (policy,) = one(rendered(tmp_path, "envoy-gateway"), "EnvoyExtensionPolicy")["spec"]["extProc"]
    assert policy["backendSettings"]["http2"] == {"connectionKeepalive": keepalive | {"timeout": "4s"}}
    patches = one(rendered(tmp_path, "istio"), "EnvoyFilter")["spec"]["configPatches"]
    (cluster,) = [each["patch"]["value"] for each in patches if each["applyTo"] == "CLUSTER"]
    (options,) = cluster["typed_extension_protocol_options"].values()
    assert options["explicit_http_config"]["http2_protocol_options"] == {"connection_keepalive": keepalive}


def test_retries_on_envoy_gateway_go_round_robin(tmp_path):
    """A retry may go to the dead replica again: with two replicas and six attempts one of 64 requests is lost."""
    (policy,) = one(rendered(tmp_path, "envoy-gateway"), "EnvoyExtensionPolicy")["spec"]["extProc"]
    assert policy["backendSettings"]["loadBalancer"] == {"type": "RoundRobin"}
    assert policy["backendSettings"]["retry"]["numRetries"] == 5


def test_an_old_router_stays_until_health_checks_have_seen_the_new_one(tmp_path):
    found = rendered(tmp_path, "envoy-gateway")
    (policy,) = one(found, "EnvoyExtensionPolicy")["spec"]["extProc"]
    deployment = one(found, "Deployment", "body-based-router")
    interval = policy["backendSettings"]["healthCheck"]["active"]["interval"]
    assert deployment["spec"]["minReadySeconds"] > 2 * int(interval.removesuffix("s"))


def test_kgateway_is_told_of_breakers_health_and_deadline_for_the_router_s_service(tmp_path):
    spec = one(rendered(tmp_path, "kgateway"), "BackendConfigPolicy")["spec"]
    assert spec["targetRefs"] == [{"group": "", "kind": "Service", "name": "body-based-router"}]
    assert spec["commonHttpProtocolOptions"] == {"maxStreamDuration": "600s"}
    assert spec["circuitBreakers"]["maxRequests"] == 100000
    assert spec["healthCheck"]["grpc"] == {}
    assert spec["outlierDetection"]["consecutive5xx"] == 3
    assert spec["loadBalancer"] == {"roundRobin": {}, "updateMergeWindow": "0s", "healthyPanicThreshold": 1}


def test_the_router_s_place_among_kgateway_s_filters(tmp_path):
    assert "filterStage" not in one(rendered(tmp_path, "kgateway"), "GatewayExtension")["spec"]["extProc"]
    (file := tmp_path / "stage.yaml").write_text(
        yaml.safe_dump({"provider": {"name": "kgateway", "kgateway": {"filterStage": {"stage": "Fault"}}}}), "utf-8"
    )
    spec = one(documents([*TWO, file]), "GatewayExtension")["spec"]["extProc"]
    assert spec["filterStage"] == {"stage": "Fault", "predicate": "Before"}


def hosts(found):
    """Return the hosts of each route; None for one without."""
    return {each["metadata"]["name"]: each["spec"].get("hostnames") for each in found if each["kind"] == "HTTPRoute"}


QWEN, PHI = "qwen-model-route", "phi-3-mini-4k-instruct-model-route"
OURS = ["llm.example.com", "*.llm.example.com"]


@pytest.mark.parametrize("provider", ATTACHES)
def test_routes_name_no_host_unless_it_is_asked_for(tmp_path, provider):
    assert set(hosts(rendered(tmp_path, provider)).values()) == {None}


@pytest.mark.parametrize("provider", ATTACHES)
def test_all_routes_are_for_the_gateway_s_hosts(tmp_path, provider):
    found = hosts(rendered(tmp_path, provider, inferenceGateway={"hostnames": OURS}))
    needs_one = provider in ("envoy-gateway", "kgateway")
    assert found == {QWEN: OURS, PHI: OURS} | ({CATCH_ALL: OURS} if needs_one else {})


@pytest.mark.parametrize("provider", ["envoy-gateway", "kgateway"])
@pytest.mark.parametrize("backend", [{}, {"name": "ui", "port": 80}], ids=["answer", "backend"])
def test_a_host_that_a_model_s_route_names_has_a_catch_all(tmp_path, provider, backend):
    """A request for a host that some route names does not meet routes without hosts, so it needs one of its own."""
    models = [
        {"baseModel": "a", "name": "a", "pool": {"selector": {"app": "a"}}, "route": {"hostnames": ["a.example.com"]}},
        {"baseModel": "b", "name": "b", "pool": {"selector": {"app": "b"}}},
    ]
    catch_all = {"catchAll": {"backendRef": backend}}
    both = rendered(tmp_path, provider, models=models, **catch_all)
    assert hosts(both) == {
        "a-model-route": ["a.example.com"],
        "b-model-route": None,
        CATCH_ALL: None,
        f"{CATCH_ALL}-2": ["a.example.com"],
    }
    # Both do the same, except that they are for other hosts.
    first, second = (one(both, "HTTPRoute", name)["spec"] for name in (CATCH_ALL, f"{CATCH_ALL}-2"))
    assert {**first, "hostnames": ["a.example.com"]} == second
    named = rendered(tmp_path, provider, models=models, inferenceGateway={"hostnames": OURS}, **catch_all)
    assert hosts(named) == {
        "a-model-route": ["a.example.com"],
        "b-model-route": OURS,
        CATCH_ALL: [*OURS, "a.example.com"],
    }


def test_a_catch_all_has_no_more_hosts_than_a_route_may_have(tmp_path):
    many = [f"h{number}.example.com" for number in range(17)]
    found = hosts(rendered(tmp_path, "kgateway", inferenceGateway={"hostnames": many[:16]}))
    assert found == {QWEN: many[:16], PHI: many[:16], CATCH_ALL: many[:16]}
    models = [
        {"baseModel": "a", "name": "a", "pool": {"selector": {"app": "a"}}, "route": {"hostnames": many[16:]}},
    ]
    found = hosts(rendered(tmp_path, "kgateway", models=models, inferenceGateway={"hostnames": many[:16]}))
    assert found == {"a-model-route": many[16:], CATCH_ALL: many[:16], f"{CATCH_ALL}-2": many[16:]}


@pytest.mark.parametrize(
    "written",
    [
        "https://llm.example.com",
        "llm.example.com:443",
        "LLM.example.com",
        "*",
        "llm.*.com",
        "192.0.2.1",
        "llm.example.com.",
        "",
        f"{'a.' * 126}ab",
    ],
)
def test_what_is_not_a_host_is_rejected(tmp_path, written):
    with pytest.raises(helm.HelmError, match="/inferenceGateway/hostnames/0"):
        rendered(tmp_path, "gke", inferenceGateway={"hostnames": [written]})
    own = {"baseModel": "a", "pool": {"selector": {"app": "a"}}, "route": {"hostnames": [written]}}
    with pytest.raises(helm.HelmError, match="/models/0/route/hostnames/0"):
        rendered(tmp_path, "gke", models=[own])


def test_a_route_has_16_hosts_at_most(tmp_path):
    many = [f"h{number}.example.com" for number in range(17)]
    own = {"baseModel": "a", "pool": {"selector": {"app": "a"}}, "route": {"hostnames": many}}
    with pytest.raises(helm.HelmError, match="/models/0/route/hostnames"):
        rendered(tmp_path, "gke", models=[own])
    with pytest.raises(helm.HelmError, match="/inferenceGateway/hostnames"):
        rendered(tmp_path, "gke", inferenceGateway={"hostnames": many})
