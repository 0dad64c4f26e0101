"""Any octets as a path: the model is a name that can be routed on, or the request is refused."""

from bbr.reading.name import check_model
from bbr.reading.templates import parse_templates
from bbr.reading.uri import model_in_path, model_in_query
from tests.support.bodies import outcome

TEMPLATES = parse_templates("/openai/deployments/{model}/** azure-openai gemini bedrock")


def check(octets: bytes) -> None:
    kind, found = outcome(model_in_path, octets, TEMPLATES)
    if kind == "model" and found is not None:
        assert check_model(found.name) == found.name
    kind, model = outcome(model_in_query, octets)
    if kind == "model" and model is not None:
        assert check_model(model) == model
