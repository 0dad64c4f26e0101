from bbr.config.settings import Settings
from bbr.exchange.policy import ClientSteering, Compat
from bbr.models.routing import UnknownModel
from bbr.router import Router
from bench.harness.conversation import FDS, assert_routes, converse
from bench.harness.messages import request_body, request_headers


def test_an_exchange_has_the_table_and_the_policy_of_the_settings(tmp_path):
    models = tmp_path / "models.yaml"
    models.write_text("models: [{name: qwen, adapters: [sql]}]")
    settings = Settings(models=models, unknown_model=UnknownModel.PASSTHROUGH, client_steering=ClientSteering.ALL)
    router = Router(settings)
    assert router.sources.table.registry.size == 0  # nothing is read yet
    router.sources.load()
    talk = router.exchange()
    answers = converse(talk, request_headers(mode=FDS), request_body(b'{"model":"sql"}', end_of_stream=True))
    assert_routes(answers[0], "sql", "qwen")
    assert router.policy.rules.unknown_model is UnknownModel.PASSTHROUGH


def test_the_go_routers_convention_comes_with_compat():
    answers = converse(
        Router(Settings(compat=Compat.GIE)).exchange(),
        request_headers(mode=FDS),
        request_body(b'{"model":7}', end_of_stream=True),
    )
    assert answers[0].WhichOneof("response") == "request_headers"
