"""Any octets as a path: the model is a name that can be routed on, or the request is refused."""

from bbr.reading.name import check_model
from bbr.reading.uri import model_in_path, model_in_query, parse_templates
from tests.support.bodies import outcome

TEMPLATES = parse_templates("/openai/deployments/{model}/** /**/models/{model}:* /model/{model}/invoke")


def check(octets: bytes) -> None:
    for kind, model in (
        outcome(model_in_path, octets, TEMPLATES),
        outcome(model_in_query, octets),
    ):
        if kind == "model" and model is not None:
            assert check_model(model) == model
