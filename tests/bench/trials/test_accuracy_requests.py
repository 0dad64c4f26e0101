import pytest

from bench.harness import witness
from bench.trials.accuracy_requests import CODERS, Mix, write_table
from deploy.local.traffic import Routed


@pytest.fixture
def served(tmp_path):
    path = tmp_path / "models.yaml"
    write_table(path)
    return witness.served_names(path)


def test_aliases_are_served_where_their_models_are(served):
    assert served["default"] == {}
    assert served["qwen-pool"]["gpt-4o-mini"] == "sql-lora"
    assert served["phi-pool"]["模型-latest"] == "travel-lora"
    assert "gpt-4" not in served["phi-pool"]


def test_every_body_of_the_mix_is_read(served):
    kinds = set()
    for request, _ in Mix(3, everything=True).requests(600):
        if isinstance(request.expected, Routed):
            kinds.add(request.kind)
            name, stream = witness.read(request.headers, request.body)
            assert served[request.expected.pool.name][name] == request.expected.model
            assert stream == request.expected.stream
    assert kinds >= {"alias", "multipart form", "urlencoded form", "streamed answer", *CODERS}
