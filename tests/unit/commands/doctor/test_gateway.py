import copy
import itertools
import random

import pytest

from bbr.commands.doctor.gateway import Route, read
from bbr.commands.doctor.node import Node
from tests.support.doctor import (
    EXT_PROC,
    OFF,
    ON,
    OUT,
    answers,
    cluster,
    demo,
    entry,
    hcm,
    host,
    per_route,
    routes,
    saved,
)

CONFIG = demo()


@pytest.fixture
def config():
    return copy.deepcopy(CONFIG)


def manager(config, router=""):
    return read(answers(config).config_dump, router=router).managers[0]


def wrapped(inner):
    return {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": inner}


@pytest.mark.parametrize("junk", [None, 1, "x", [], {}, {"configs": 1}, {"configs": [1, None, {"@type": 1}]}])
def test_junk_is_an_empty_gateway(junk):
    found = read(junk, junk, junk, junk)
    assert (list(found.managers), dict(found.clusters), dict(found.stats)) == ([], {}, {})


def test_the_demo(config):
    found = manager(config)
    assert (found.label, found.router.name, found.router.cluster.text, found.is_sure) == (
        "listener gateway",
        "bbr",
        "bbr",
        True,
    )
    assert [each.name for each in found.filters] == ["bbr", "epp"]
    assert [each.label for each in found.model_routes] == ["qwen-pool", "phi-pool", "no-pool"]
    assert [found.entry(each).label for each in found.model_routes] == ["no-model"] * 3
    assert (found.is_picker(found.filters[1]), found.is_picker(found.filters[0])) == (True, False)


def test_a_router_by_name(config):
    assert manager(config, "epp").router.name == "epp"
    assert manager(config, "nobody").router is None
    assert manager(config, "epp").is_sure


def test_of_unnamed_filters_the_router_is_the_one_that_is_no_picker(config):
    for each, name in zip(hcm(config)["http_filters"], ("one", "two"), strict=False):
        each["name"] = name
        each["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"] = "model_servers"
    found = manager(config)
    assert (found.router.name, found.is_sure) == ("one", False)


def test_two_that_are_called_like_a_router(config):
    hcm(config)["http_filters"][1]["name"] = "ipp"
    found = manager(config)
    assert (found.router.name, found.is_sure) == ("bbr", False)


def test_a_filter_that_one_route_points_elsewhere_is_a_picker(config):
    picker = hcm(config)["http_filters"][1]
    picker["name"] = picker["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"] = "x"
    assert not manager(config).is_picker(manager(config).filters[1])
    routes(config)[0]["typed_per_filter_config"]["x"] = routes(config)[0]["typed_per_filter_config"].pop("epp")
    found = manager(config)
    assert found.is_picker(found.filters[1])


@pytest.mark.parametrize(
    ("mine", "other", "covers"),
    [
        ({"prefix": "/"}, {"prefix": "/v1"}, True),
        ({"prefix": "/v1"}, {"path": "/v1/x"}, True),
        ({"prefix": "/v1"}, {"prefix": "/"}, False),
        ({"prefix": "/v1"}, {"safe_regex": {"regex": "/v1.*"}}, False),
        ({"prefix": "/"}, {"safe_regex": {"regex": "/v1.*"}}, True),
        ({"prefix": ""}, {"connect_matcher": {}}, True),
        ({"path_separated_prefix": "/v1"}, {"path_separated_prefix": "/v1/x"}, True),
        ({"path_separated_prefix": "/v1"}, {"path": "/v1"}, True),
        ({"path_separated_prefix": "/v1"}, {"path": "/v10"}, False),
        ({"path_separated_prefix": "/v1"}, {"prefix": "/v1/"}, False),
        ({"path": "/v1"}, {"path": "/v1"}, True),
        ({"safe_regex": {"regex": "a"}}, {"safe_regex": {"regex": "a"}}, True),
        ({"safe_regex": {"regex": "a"}}, {"safe_regex": {"regex": "b"}}, False),
        ({"prefix": "/", "grpc": {}}, {"prefix": "/"}, False),
        ({"prefix": "/", "headers": [{"name": "x"}]}, {"prefix": "/"}, False),
        ({"prefix": "/", "headers": [{"name": "x"}]}, {"prefix": "/", "headers": [{"name": "x"}]}, True),
    ],
)
def test_covers(config, mine, other, covers):
    want = {"name": "X-Gateway-Model-Name", "string_match": {"exact": "x"}}
    host(config)["routes"] = [{"match": {**other, "headers": [want, *other.get("headers", [])]}}, {"match": mine}]
    route, entry_ = manager(config).routes
    assert entry_.covers(route) is covers
    assert not route.covers(entry_)


def test_a_route_of_another_host_covers_nothing(config):
    other = copy.deepcopy(host(config))
    other.update(name="other", domains=["x"])
    hcm(config)["route_config"]["virtual_hosts"].append(other)
    found = manager(config)
    assert [each.host.get("name").text for each in map(found.entry, found.model_routes)] == ["models"] * 3 + [
        "other"
    ] * 3


@pytest.mark.parametrize("extra", ["invert_match", "treat_missing_header_as_empty"])
def test_a_match_that_a_request_without_the_header_meets(config, extra):
    routes(config)[0]["match"]["headers"][0][extra] = True
    assert [each.label for each in manager(config).model_routes] == ["phi-pool", "no-pool"]


def test_labels_of_routes_without_a_name(config):
    del routes(config)[1]["name"]
    assert [each.label for each in manager(config).routes][1] == "models[1]"


@pytest.mark.parametrize(
    ("top", "table", "of_host", "of_route", "is_on", "silenced"),
    [
        (False, None, None, None, True, False),
        (True, None, None, None, False, False),
        (True, None, None, ON, True, False),
        (True, None, ON, None, True, False),
        (True, ON, None, None, True, False),
        (True, None, ON, OUT, False, False),
        (True, None, OUT, ON, True, False),
        (False, None, None, OFF, True, True),
        (False, None, OFF, ON, True, False),
        (False, OFF, None, None, True, True),
        (True, None, None, wrapped(ON), True, False),
        (False, None, None, wrapped(OFF), True, True),
        (True, None, None, wrapped({}), True, False),
    ],
)
def test_where_a_filter_is_on(config, top, table, of_host, of_route, is_on, silenced):
    if top:
        entry(config)["disabled"] = True
    for place, setting in (
        (hcm(config)["route_config"], table),
        (host(config), of_host),
        (routes(config)[0], of_route),
    ):
        if setting is not None:
            per_route(place, setting)
    found = manager(config)
    route = found.routes[0]
    assert (found.router.is_on(route), found.router.is_silenced(route) is not None) == (is_on, silenced)
    assert found.router.calls(route) is (is_on and not silenced)
    assert found.router.calls(None) is not top


def test_overrides(config):
    override = {"@type": f"{EXT_PROC}.ExtProcPerRoute", "overrides": {"failure_mode_allow": True}}
    per_route(host(config), override)
    per_route(routes(config)[0], ON)
    found = manager(config)
    assert found.router.overridden(found.routes[0], "failure_mode_allow").value is True
    assert found.router.overridden(None, "failure_mode_allow").value is False


def test_routes_by_discovery_and_filters_by_discovery(config):
    dump = answers(config).config_dump
    manager_ = dump["configs"][1]["static_listeners"][0]["listener"]["filter_chains"][0]["filters"][0]["typed_config"]
    table = manager_.pop("route_config")
    manager_["rds"] = {"route_config_name": "pools"}
    settings = manager_["http_filters"][0].pop("typed_config")
    types = "type.googleapis.com/envoy.admin.v3"
    found = read(dump).managers[0]
    assert [each.path.rpartition("typed_config")[2] for each in found.unseen] == [".rds.route_config_name"]
    assert not found.routes
    dump["configs"] += [
        {"@type": f"{types}.RoutesConfigDump", "dynamic_route_configs": [{"route_config": table}]},
        {
            "@type": f"{types}.EcdsConfigDump",
            "ecds_filters": [{"ecds_filter": {"name": "bbr", "typed_config": settings}}],
        },
    ]
    found = read(dump).managers[0]
    assert (found.router.name, len(found.routes), list(found.unseen)) == ("bbr", 4, [])


def test_dynamic_listeners_and_errors(config):
    types = "type.googleapis.com/envoy.admin.v3"
    listener = config["static_resources"]["listeners"][0]
    states = [
        {"name": "a", "active_state": {"listener": listener}},
        {"name": "b", "warming_state": {"listener": listener}},
        {"name": "c", "error_state": {"details": "no"}},
    ]
    found = read({"configs": [{"@type": f"{types}.ListenersConfigDump", "dynamic_listeners": states}]})
    assert (len(found.managers), [each.text for each in found.errors]) == (2, ["no"])


def test_a_default_filter_chain(config):
    listener = config["static_resources"]["listeners"][0]
    listener["default_filter_chain"] = listener.pop("filter_chains")[0]
    assert len(saved(config).managers) == 1


def test_thresholds(config):
    cluster(config)["circuit_breakers"]["thresholds"].insert(0, {"priority": "HIGH", "max_requests": 1})
    found = saved(config).clusters["bbr"]
    assert found.threshold("max_requests", 1024)[0] == 65536
    assert found.threshold("max_connection_pools", 5)[0] == 5


def test_stats_and_version(config):
    stats = {"stats": [{"name": "cluster.b_r.x", "value": 3}, {"name": "h", "value": "7"}, {"histograms": {}}]}
    cluster(config)["name"] = "b:r"
    found = saved(config, stats=stats, server_info={"version": "abc/1.40.0/Clean"})
    assert found.cluster_stats(found.clusters["b:r"]) == {"x": ("cluster.b_r.x", 3)}
    assert (found.stats["h"], found.version) == (7, "1.40.0")
    assert saved(config, server_info={"version": "odd"}).version == "odd"


def test_a_filter_within_a_matcher_and_a_composite_filter(config):
    inner = entry(config)
    ext_proc = inner.pop("typed_config")
    action = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.composite.v3.ExecuteFilterAction",
        "typed_config": {"name": "any", "typed_config": ext_proc},
    }
    matcher = {"matcher_list": {"matchers": [{"on_match": {"action": {"name": "x", "typed_config": action}}}]}}
    inner["typed_config"] = {
        "@type": "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        "xds_matcher": matcher,
    }
    found = manager(config)
    assert found.router.config.value == ext_proc
    assert found.router.config.path.endswith("on_match.action.typed_config.typed_config.typed_config")
    del matcher["matcher_list"]
    found = manager(config)
    assert (found.router, found.chain[0].config.type) == (None, "ExtensionWithMatcher")


def many(count):
    """Return a gateway with so many routes to models, and as many that need no header, before its own."""
    config = demo()
    own = routes(config)
    plain = next(each for each in own if "headers" not in each["match"])
    header = {"name": "x-gateway-base-model-name", "string_match": {"exact": "m"}}
    for number in range(count):
        own.insert(0, {**plain, "match": {"prefix": f"/model-{number}", "headers": [header]}})
        own.insert(0, {**plain, "match": {"prefix": f"/plain-{number}"}})
    return saved(config)


def test_looking_for_the_routes_that_requests_have_at_first_reads_each_route_once(monkeypatch):
    real, read = Node.get, 0

    def get(node, *keys):
        nonlocal read
        read += 1
        return real(node, *keys)

    monkeypatch.setattr(Node, "get", get)
    found = []
    for count in (50, 100):
        (manager,) = many(count).managers
        read = 0
        for _ in range(2):
            assert all(manager.entry(route) for route in manager.model_routes)
        found.append(read)
    assert 0 < found[1] < 3 * found[0]


MATCHES = [
    *({"prefix": each} for each in ("", "/", "/a", "/a/b", "/ab")),
    *({"path": each} for each in ("/", "/a", "/a/b")),
    *({"path_separated_prefix": each} for each in ("/a", "/a/b", "")),
    *({"safe_regex": {"regex": each}} for each in ("/a.*", "/b")),
    {},
    {"prefix": 3, "path": "/a"},
]


@pytest.mark.parametrize("seed", range(20))
def test_the_first_route_that_covers_another_is_found(seed):
    config, rng = demo(), random.Random(seed)
    own = routes(config)
    plain = next(each for each in own if "headers" not in each["match"])
    host_header = {"name": "x", "string_match": {"exact": "y"}}
    model = {"name": "x-gateway-base-model-name", "string_match": {"exact": "m"}}
    own[:] = [
        {**plain, "match": {**match, "headers": [each for each in (host_header, model) if rng.random() < 0.4]}}
        for match in rng.choices(MATCHES, k=40)
    ]
    (manager,) = saved(config).managers
    found = 0
    for route in manager.routes:
        first = next((each for each in manager.routes if not each.wants and each.covers(route)), None)
        assert manager.entry(route) is first
        found += first is not None
    assert found > 10


def test_of_many_routes_few_are_compared(monkeypatch):
    real, compared = Route.covers, itertools.count()

    def covers(route, other):
        next(compared)
        return real(route, other)

    (manager,) = many(300).managers
    monkeypatch.setattr(Route, "covers", covers)
    for route in manager.model_routes:
        assert manager.entry(route)
    assert next(compared) < 3 * len(manager.model_routes)
