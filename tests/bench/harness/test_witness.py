from bench.harness import witness
from bench.harness.http1 import ReplyReader
from bench.harness.upstream import Head

TABLE = {"sql-lora": "sql-lora", "gpt-4": "sql-lora"}


BODY = b'{"model":"gpt-4"}'
NAMED = "X-Gateway-Model-Name: a\r\nx-gateway-model-name: b\r\nx-gateway-base-model-name: 模型".encode()


def test_a_pool_tells_what_came():
    head = witness.fields(Head("POST", "/", NAMED))
    (reply,) = ReplyReader().feed(witness.answer("qwen-pool", TABLE, head, BODY))
    assert reply.body == b'{"model":"sql-lora"}'
    assert reply.headers["x-seen-model-name"] == "a, b"
    assert reply.headers["x-seen-base-model-name"].encode("latin-1").decode() == "模型"
    assert (reply.headers["x-pod"], reply.headers["x-body-bytes"]) == ("qwen-1", "17")


def test_a_model_of_another_pool():
    assert witness.answer("phi-pool", {}, {}, BODY).startswith(b"HTTP/1.1 404 ")


def test_the_default_pool_reads_nothing():
    assert b"x-pool: default\r\n" in witness.answer("default", {}, {}, b"no JSON")
