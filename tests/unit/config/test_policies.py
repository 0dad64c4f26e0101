import pytest

from bbr.config import loading, policies
from bbr.config.settings import Settings
from bbr.exchange.convention import Ours
from bbr.exchange.go_router import GoRouter
from bbr.exchange.policy import AliasRewrite, ClientSteering, Compat
from bbr.headers import DESTINATION_HEADER, PRIORITY_HEADERS, REWRITE_HEADERS, STEERING_HEADERS
from bbr.models.routing import MissingModel, Rules, UnknownModel
from bbr.reading.paths import PathPattern
from bench.harness.messages import parse, set_headers


def test_by_default_every_path_is_read_and_no_list_is_served():
    policy = policies.policy(Settings())
    assert (policy.paths, policy.models_list, policy.rules) == (None, None, Rules())


def test_rules_of_the_settings():
    settings = Settings(unknown_model=UnknownModel.DEFAULT, missing_model=MissingModel.REJECT, default_model="qwen")
    assert policies.policy(settings).rules == Rules(UnknownModel.DEFAULT, MissingModel.REJECT, "qwen")


def test_paths_of_the_settings():
    include, exclude = (PathPattern("/v1/**"),), (PathPattern("/v1/files/**"),)
    paths = policies.policy(Settings(include_path=include, exclude_path=exclude)).paths
    assert [paths.reads(path) for path in (b"/v1/chat", b"/v1/files/1", b"/x")] == [True, False, False]
    assert policies.policy(Settings(include_path=include)).paths.reads(b"/v1/files/1")
    assert policies.policy(Settings(exclude_path=exclude)).paths.reads(b"/x")


def test_the_list_of_the_settings():
    assert policies.policy(Settings(serve_models_list=9)).models_list


@pytest.mark.parametrize("compat", Compat)
def test_whose_answers(compat):
    settings = Settings(
        compat=compat,
        client_steering=ClientSteering.ALL,
        strip_header=("x-tenant",),
        model_header=("X-M",),
        base_model_header=(),
    )
    policy = policies.policy(settings)
    assert type(policy.replies.convention) is (Ours if compat is Compat.NONE else GoRouter)
    mutation = parse(policy.replies.route(("m", "b", None))).request_headers.response.header_mutation
    assert set_headers(mutation) == {"X-M": b"m"}
    ours = ["X-Gateway-Model-Name", "X-Gateway-Base-Model-Name", "x-gateway-destination-endpoint"]
    assert list(mutation.remove_headers) == [*(ours if compat is Compat.NONE else []), "x-tenant"]


STEERING = {
    ClientSteering.NONE: [*STEERING_HEADERS, *PRIORITY_HEADERS],
    ClientSteering.PRIORITY: [*STEERING_HEADERS],
    ClientSteering.ALL: [],
}


def removed(**settings):
    replies = policies.policy(Settings(**settings)).replies
    routed, stripped = parse(replies.route(("m", "b", None))), parse(replies.stripped(""))
    return [list(each.request_headers.response.header_mutation.remove_headers) for each in (routed, stripped)]


@pytest.mark.parametrize("level", ClientSteering)
def test_what_a_client_may_steer_by(level):
    routed, stripped = removed(client_steering=level)
    assert routed == [DESTINATION_HEADER, *STEERING[level]]
    assert stripped == ["X-Gateway-Model-Name", "X-Gateway-Base-Model-Name", *routed]
    assert removed(client_steering=level, trust_client_headers=True)[1] == routed
    assert removed(client_steering=level, compat=Compat.GIE) == [STEERING[level]] * 2


def test_by_default_a_client_steers_nothing_but_with_compat():
    assert removed() == removed(client_steering=ClientSteering.NONE)
    assert loading.load({"compat": "ipp"}, {}).client_steering is ClientSteering.ALL
    assert loading.load({"compat": "ipp", "client_steering": "none"}, {}).client_steering is ClientSteering.NONE


def test_a_header_that_the_router_sets_is_not_removed():
    routed, stripped = removed(model_header=("X-Gateway-Model-Name", "X-LLM-D-Model-Name-Rewrite"))
    assert "x-llm-d-model-name-rewrite" not in [name.lower() for name in routed]
    assert [name.lower() for name in stripped].count("x-llm-d-model-name-rewrite") == 1


@pytest.mark.parametrize("compat", [Compat.NONE, Compat.GIE])
def test_a_prefix_is_not_removed_by_its_name(compat):
    settings = Settings(compat=compat, strip_header=("x-llm-d-*", "x-tenant"))
    convention = policies.policy(settings).replies.convention
    assert convention.guarded.prefixes == ("x_llm_d_",)
    assert removed(compat=compat, strip_header=("x-llm-d-*", "x-tenant"))[0][-1] == "x-tenant"


def test_aliases_are_rewritten_by_the_picker_unless_it_is_told_otherwise():
    rewritten = dict.fromkeys(REWRITE_HEADERS, b"m")
    replies = policies.policy(Settings()).replies
    for asked, more in (("alias", rewritten), (None, {})):
        mutation = parse(replies.route(("m", "b", asked))).request_headers.response.header_mutation
        assert set_headers(mutation) == {"X-Gateway-Model-Name": b"m", "X-Gateway-Base-Model-Name": b"b", **more}
        assert not {*mutation.remove_headers} & {*more}
    assert not policies.policy(Settings(alias_rewrite=AliasRewrite.OFF)).replies.convention.rewrites
    in_bodies = policies.policy(Settings(alias_rewrite=AliasRewrite.BODY))
    assert (in_bodies.rewrites_body, in_bodies.replies.convention.rewrites) == (True, False)
    assert not policies.policy(loading.load({"compat": "gie"}, {})).replies.convention.rewrites


def test_how_aliases_of_several_models_are_shared_out():
    rules = policies.policy(Settings(alias_sticky_header="x-session-id")).rules
    assert rules.sticky_header == "x-session-id"
    assert len({rules.draw() for _ in range(10)}) > 1
