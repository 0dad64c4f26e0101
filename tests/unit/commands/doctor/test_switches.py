"""Both ways are tried in a real Envoy by tests/integration/test_policies.py."""

import pytest

from bbr.commands.doctor.node import Node
from bbr.commands.doctor.switches import turns_off
from tests.support.doctor import looking, switch, wrapped

HTTP = "type.googleapis.com/envoy.extensions.filters.http"
WAYS = {
    "looks itself": looking({"@type": f"{HTTP}.ext_authz.v3.ExtAuthz"}),
    "is wrapped": wrapped({"@type": f"{HTTP}.jwt_authn.v3.JwtAuthentication"}),
}
SETS = switch()["typed_config"]


def answer(setter, config):
    return turns_off(Node("", setter), Node("", config))


def changed(value, key, new):
    """Return a copy in which each `key` has another value, wherever it stands."""
    if isinstance(value, dict):
        return {name: new if name == key else changed(each, key, new) for name, each in value.items()}
    return [changed(each, key, new) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_metadata_that_a_filter_must_not_find_turns_it_off(way):
    assert answer(SETS, way)
    old = {"@type": SETS["@type"], "metadata_namespace": "off", "value": {"disable": True}}
    assert answer(old, way)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    "setter",
    [
        {"@type": f"{HTTP}.rbac.v3.RBAC"},
        {"@type": f"{HTTP}.header_to_metadata.v3.Config", "metadata": SETS["metadata"]},
        changed(SETS, "metadata_namespace", "other"),
        changed(SETS, "disable", False),
        changed(SETS, "value", {"other": True}),
        changed(SETS, "value", {"disable": {"deeper": True}}),
        changed(SETS, "value", "no mapping"),
    ],
)
def test_other_filters_and_other_metadata_do_not(way, setter):
    assert not answer(setter, way)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("key", "value"),
    [("invert", False), ("bool_match", False), ("bool_match", "true"), ("filter", ""), ("path", [{"key": "other"}])],
)
def test_a_filter_that_looks_for_something_else_is_not_turned_off(way, key, value):
    assert not answer(SETS, changed(way, key, value))


def test_a_matcher_that_may_act_in_another_way_is_not_judged():
    way = WAYS["is wrapped"]
    (matcher,) = way["xds_matcher"]["matcher_list"]["matchers"]
    assert not answer(SETS, changed(way, "matchers", [matcher, matcher]))
    assert not answer(SETS, way | {"xds_matcher": way["xds_matcher"] | {"on_no_match": matcher["on_match"]}})


def test_a_filter_without_any_condition():
    assert not answer(SETS, {"@type": f"{HTTP}.ext_authz.v3.ExtAuthz"})
    assert not answer(SETS, {})
