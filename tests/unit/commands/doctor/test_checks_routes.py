import copy

import pytest

from bbr.commands.doctor import checks_routes
from bbr.commands.doctor.gateway import read
from tests.support.doctor import EXT_PROC, OFF, ON, OUT, answers, demo, entry, hcm, host, per_route, routes, saved

CONFIG = demo()


def found(edit, router=""):
    config = copy.deepcopy(CONFIG)
    edit(config)
    return {each.id: each for each in checks_routes.check(read(answers(config).config_dump, router=router))}


def picker(config):
    return hcm(config)["http_filters"][1]


def off_on(*places):
    def edit(config):
        entry(config)["disabled"] = True
        for place in places:
            per_route(place(config), ON)

    return edit


def picker_by_route(config):
    picker(config)["disabled"] = True
    for route in routes(config)[2:]:
        del route["typed_per_filter_config"]


def picker_nowhere(config):
    picker(config)["disabled"] = True
    for route in routes(config):
        route.pop("typed_per_filter_config", None)


def picker_first(config):
    hcm(config)["http_filters"][:2] = reversed(hcm(config)["http_filters"][:2])


def another_first(config):
    other = copy.deepcopy(entry(config))
    other["name"] = "authorization"
    other["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"] = "authorization"
    hcm(config)["http_filters"].insert(0, other)


def no_name_is_known(config):
    picker_nowhere(config)
    entry(config)["name"] = "one"
    entry(config)["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"] = "x"


def without_last(edit):
    def both(config):
        edit(config)
        routes(config).pop()

    return both


def bare_listener(config):
    other = copy.deepcopy(config["static_resources"]["listeners"][0])
    manager = other["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["http_filters"][:2]
    config["static_resources"]["listeners"].append(other)


def unrelated_listener(config):
    bare_listener(config)
    manager = config["static_resources"]["listeners"][1]["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["route_config"]["virtual_hosts"][0]["routes"][:3]


@pytest.mark.parametrize(
    ("ids", "edit"),
    [
        ("", lambda _: None),
        ("router-not-found", lambda config: hcm(config).update(http_filters=[])),
        ("router-not-found", lambda config: config["static_resources"].update(listeners=[])),
        ("routes-without-router", bare_listener),
        ("", unrelated_listener),
        ("no-header-routes", lambda config: routes(config).__delitem__(slice(0, 3))),
        ("routes-not-seen", lambda config: hcm(config).update(scoped_routes=hcm(config).pop("route_config"))),
        ("routes-not-seen", lambda config: host(config).update(matcher={}, routes=[])),
        ("router-uncertain", no_name_is_known),
        ("no-catch-all", lambda config: routes(config).pop()),
        ("", off_on(host)),
        ("", off_on(lambda config: hcm(config)["route_config"])),
        ("catch-all-missing", without_last(off_on(host))),
        ("catch-all-without-router spoofable-route", off_on()),
        ("spoofable-route", off_on(lambda config: routes(config)[-1])),
        ("catch-all-without-router", lambda config: per_route(routes(config)[-1], OFF)),
        ("catch-all-without-router", lambda config: per_route(routes(config)[-1], OUT)),
        ("spoofable-route", lambda config: per_route(routes(config)[1], OFF)),
        ("catch-all-first", lambda config: routes(config).insert(0, routes(config).pop())),
        ("", picker_nowhere),
        ("picker-skipped", picker_by_route),
        ("no-catch-all picker-skipped", without_last(picker_by_route)),
        ("picker-skipped", lambda config: per_route(routes(config)[-1], OUT, "epp")),
        ("picker-before-router", picker_first),
        ("", another_first),
    ],
)
def test_routes(ids, edit):
    assert set(found(edit)) == set(ids.split())


def test_a_name_that_no_filter_has():
    assert set(found(lambda _: None, "nobody")) == {"router-not-found"}
    assert set(found(no_name_is_known, "one")) == set()


def test_an_update_that_was_refused():
    dump = answers(CONFIG).config_dump
    dump["configs"][1]["dynamic_listeners"] = [{"name": "x", "error_state": {"details": "this is why"}}]
    (refused,) = checks_routes.check(read(dump))
    assert (refused.id, refused.evidence[0].value) == ("config-rejected", "this is why")


def test_why_a_filter_is_off_stands_in_the_evidence():
    evidence = found(lambda config: per_route(routes(config)[-1], OUT))["catch-all-without-router"].evidence
    assert [(each.path[-30:], each.value) for each in evidence] == [("per_filter_config.bbr.disabled", True)]
    evidence = found(off_on())["spoofable-route"].evidence
    assert [(each.path.rpartition("]")[2], each.value) for each in evidence] == [
        (".disabled", True),
        (".typed_per_filter_config.bbr", None),
    ]


def test_a_route_that_no_client_can_begin_at_is_not_spoofable():
    def edit(config):
        off_on(lambda config: routes(config)[-1])(config)
        mutations = [{"remove": "X-Gateway-Base-Model-Name"}, {"remove": "X-Gateway-Model-Name"}]
        hcm(config)["early_header_mutation_extensions"] = [{"typed_config": {"mutations": mutations}}]

    assert "spoofable-route" not in found(edit)


def test_of_many_routes_some_are_named():
    def edit(config):
        routes(config)[:1] = [{**copy.deepcopy(routes(config)[0]), "name": f"pool-{n}"} for n in range(9)]
        for route in routes(config)[:9]:
            per_route(route, OFF)

    assert "pool-4 and 4 more" in found(edit)["spoofable-route"].sentence


def test_a_picker_that_a_route_overrides_and_does_not_silence():
    override = {"@type": f"{EXT_PROC}.ExtProcPerRoute", "overrides": {"failure_mode_allow": True}}
    assert found(lambda config: per_route(host(config), override, "epp")) == {}


def test_a_saved_gateway_is_read_like_any_other():
    assert list(checks_routes.check(saved(CONFIG))) == []
