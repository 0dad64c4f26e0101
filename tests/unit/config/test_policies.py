import pytest

from bbr.config import policies
from bbr.config.settings import Settings
from bbr.exchange.convention import Ours
from bbr.exchange.go_router import GoRouter
from bbr.exchange.policy import Compat
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
    assert policies.policy(Settings(serve_models_list=True, models_list_max_bytes=9)).models_list


@pytest.mark.parametrize("compat", Compat)
def test_whose_answers(compat):
    settings = Settings(compat=compat, strip_header=("x-tenant",), model_header=("X-M",), base_model_header=())
    policy = policies.policy(settings)
    assert type(policy.replies.convention) is (Ours if compat is Compat.NONE else GoRouter)
    mutation = parse(policy.replies.route(("m", "b", None))).request_headers.response.header_mutation
    assert set_headers(mutation) == {"X-M": b"m"}
    ours = ["X-Gateway-Model-Name", "X-Gateway-Base-Model-Name", "x-gateway-destination-endpoint"]
    assert list(mutation.remove_headers) == [*(ours if compat is Compat.NONE else []), "x-tenant"]
