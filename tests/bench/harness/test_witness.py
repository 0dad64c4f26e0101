import pytest

from bench.harness import witness
from bench.trials.accuracy_requests import CODERS, Mix, write_table
from deploy.local.traffic import Routed

TABLE = {"sql-lora": "sql-lora", "gpt-4": "sql-lora"}


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


class TestWire:
    class Transport:
        def __init__(self):
            self.written = []

        def write(self, octets):
            self.written.append(octets)

    HEAD = b"POST /v1 HTTP/1.1\r\nX-Gateway-Model-Name: a\r\nx-gateway-model-name: b\r\n"
    BODY = b'{"model":"gpt-4"}'

    @pytest.mark.parametrize(
        "octets",
        [
            HEAD + b"content-length: 17\r\n\r\n" + BODY,
            HEAD + b"transfer-encoding: chunked\r\n\r\n7\r\n" + BODY[:7] + b"\r\na\r\n" + BODY[7:] + b"\r\n0\r\n\r\n",
        ],
    )
    @pytest.mark.parametrize("step", [1, 1000])
    def test_requests_in_pieces(self, octets, step):
        transport = self.Transport()
        protocol = witness.Witness("qwen-pool", TABLE)
        protocol.connection_made(transport)
        for _ in range(2):
            for start in range(0, len(octets), step):
                protocol.data_received(octets[start : start + step])
        first, second = transport.written
        assert first == second
        assert b"x-seen-model-name: a, b\r\n" in first
        assert b"x-pod: qwen-1\r\n" in first
        assert first.endswith(b'{"model":"sql-lora"}')

    def test_a_model_of_another_pool(self):
        assert witness.answer("phi-pool", {}, {}, self.BODY).startswith(b"HTTP/1.1 404 ")

    def test_the_default_pool_reads_nothing(self):
        assert b"x-pool: default\r\n" in witness.answer("default", {}, {}, b"no JSON")
