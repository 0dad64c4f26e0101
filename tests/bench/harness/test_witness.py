import pytest

from bench.harness import witness

TABLE = {"sql-lora": "sql-lora", "gpt-4": "sql-lora"}


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
