import copy

import pytest

from bbr.commands.doctor import checks_filter
from tests.support.doctor import EXT_PROC, OFF, bbr, demo, entry, mode, per_route, routes, saved

CONFIGS = {name: demo(name) for name in ("FULL_DUPLEX_STREAMED", "BUFFERED")}
X = {"regex": "x-gateway-.*"}


def found(edit, body_mode="FULL_DUPLEX_STREAMED"):
    config = copy.deepcopy(CONFIGS[body_mode])
    edit(config)
    return {each.id: each for each in checks_filter.check(saved(config))}


def filter_with(**fields):
    return lambda config: bbr(config).update(fields)


def mode_with(**fields):
    return lambda config: mode(config).update(fields)


def last_route_with(**overrides):
    setting = {"@type": f"{EXT_PROC}.ExtProcPerRoute", "overrides": overrides}
    return lambda config: per_route(routes(config)[-1], setting)


def patterns(kind, *several):
    return filter_with(forward_rules={f"{kind}_headers": {"patterns": list(several)}})


def no_grpc(config):
    del bbr(config)["grpc_service"]
    bbr(config)["http_service"] = {}


NONE_SENT = {"response_header_mode": "SKIP", "request_body_mode": "NONE"}


@pytest.mark.parametrize(
    ("ids", "edit"),
    [
        ("", lambda _: None),
        ("", filter_with(route_cache_action="CLEAR")),
        ("route-cache-pinned", filter_with(route_cache_action="RETAIN")),
        ("route-cache-pinned", filter_with(disable_clear_route_cache=True)),
        ("", filter_with(disable_clear_route_cache=False, observability_mode=False, disable_immediate_response=False)),
        ("observability-mode", filter_with(observability_mode=True)),
        ("refusals-disabled", filter_with(disable_immediate_response=True)),
        ("", filter_with(mutation_rules={})),
        ("", filter_with(mutation_rules={"allow_expression": {"regex": "x-other"}})),
        ("", filter_with(mutation_rules={"disallow_expression": {"regex": "x-gateway"}})),  # RE2 matches the whole name
        (
            "",
            filter_with(
                mutation_rules={"disallow_all": True, "allow_expression": {"regex": "x-.*|epp-.*|test-.*|serve_.*"}}
            ),
        ),
        ("mutation-disallowed", filter_with(mutation_rules={"disallow_all": True, "allow_expression": X})),
        ("expression-not-evaluated", filter_with(mutation_rules={"disallow_expression": {"regex": r"\C("}})),
        ("expression-not-evaluated", filter_with(mutation_rules={"allow_expression": {"regex": "(?=x).*"}})),
        ("expression-not-evaluated", patterns("disallowed", {"safe_regex": {"regex": "(" * 40}})),
        ("mutation-disallowed", filter_with(mutation_rules={"disallow_expression": {"regex": "(x*)*(.*)*"}})),
        ("mutation-disallowed", filter_with(mutation_rules={"disallow_all": True})),
        ("mutation-disallowed", filter_with(mutation_rules={"disallow_expression": X, "allow_expression": X})),
        ("headers-not-sent", mode_with(request_header_mode="SKIP")),
        ("", mode_with(request_header_mode="DEFAULT")),
        ("body-not-sent", mode_with(request_body_mode="NONE")),
        ("body-not-sent", lambda config: mode(config).pop("request_body_mode")),
        ("body-mode-unsuitable", mode_with(request_body_mode="STREAMED")),
        ("body-mode-unsuitable", mode_with(request_body_mode="GRPC")),
        ("body-mode-partial", mode_with(request_body_mode="BUFFERED_PARTIAL")),
        ("response-events", mode_with(response_header_mode="SEND")),
        ("response-events", lambda config: mode(config).pop("response_header_mode")),
        ("response-events", mode_with(response_body_mode="STREAMED")),
        ("response-events", mode_with(response_trailer_mode="SEND")),
        ("fails-open", filter_with(failure_mode_allow=True)),
        ("fails-open", last_route_with(failure_mode_allow=True)),
        ("not-grpc", no_grpc),
        ("body-not-sent", last_route_with(processing_mode=NONE_SENT)),
        ("headers-not-forwarded", patterns("disallowed", {"exact": "Content-Type", "ignore_case": True})),
        ("headers-not-forwarded", patterns("disallowed", {"suffix": "-encoding"})),
        ("headers-not-forwarded", patterns("disallowed", {"contains": "tent-ty"})),
        ("headers-not-forwarded", patterns("disallowed", {"safe_regex": {"regex": "upgr.*"}})),
        ("headers-not-forwarded", patterns("allowed", {"exact": "content-type"})),
        ("", patterns("allowed", {"prefix": ":"}, {"prefix": "content-"}, {"exact": "upgrade"})),
        ("", patterns("disallowed", {"exact": "cookie"})),
        ("", patterns("disallowed", {"exact": "Upgrade"})),
    ],
)
def test_full_duplex(ids, edit):
    assert set(found(edit)) == set(ids.split())


@pytest.mark.parametrize(
    ("ids", "edit"),
    [
        ("mode-override-off", lambda _: None),
        ("", filter_with(allow_mode_override=True)),
        ("mode-override-off trailers-not-sent", mode_with(request_trailer_mode="SKIP")),
        ("mode-override-off trailers-not-sent", lambda config: mode(config).pop("request_trailer_mode")),
    ],
)
def test_buffered(ids, edit):
    assert set(found(edit, "BUFFERED")) == set(ids.split())


def test_an_expression_that_is_not_evaluated_is_shown():
    evil = "(a|a)*" * 200
    (told,) = found(filter_with(mutation_rules={"allow_expression": {"regex": evil}})).values()
    assert (told.severity, [each.value for each in told.evidence]) == ("info", [evil[:300] + "..."])
    assert told.evidence[0].path.endswith(".mutation_rules.allow_expression.regex")
    assert told.sentence.startswith("These expressions were not evaluated (longer than 1,024 characters). Check")


def test_a_mode_of_a_route_where_the_filter_is_off_is_none():
    def edit(config):
        last_route_with(processing_mode=NONE_SENT)(config)
        per_route(routes(config)[-1], OFF)

    assert found(edit) == {}


def test_a_filter_that_is_off_everywhere_still_has_its_own_mode():
    def edit(config):
        entry(config)["disabled"] = True
        mode(config)["request_header_mode"] = "SKIP"

    assert set(found(edit)) == {"headers-not-sent"}


def test_a_gateway_without_a_router_has_no_filter_to_look_at():
    config = copy.deepcopy(CONFIGS["BUFFERED"])
    config["static_resources"]["listeners"] = []
    assert list(checks_filter.check(saved(config))) == []


def test_the_sentence_names_what_is_forbidden_and_what_comes_of_it():
    (kept,) = found(filter_with(mutation_rules={"disallow_all": True})).values()
    assert "x-gateway-base-model-name, x-gateway-model-name, x-gateway-destination-endpoint" in kept.sentence
    assert "and" not in kept.sentence.partition("change")[0]
    assert "headers that steer pickers and sidecars. Requests keep" in kept.sentence
    assert "their first route" in kept.sentence
    (failed,) = found(filter_with(mutation_rules={"disallow_all": True, "disallow_is_error": True})).values()
    assert "a 500" in failed.sentence
    assert [each.value for each in failed.evidence] == [True, True]
