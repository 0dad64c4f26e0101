import json

from bbr.models.entries import BaseModel
from bbr.models.listing import ModelsList
from bench.harness.conversation import (
    converse,
    exchange,
)
from bench.harness.messages import request_headers
from bench.harness.model_tables import merged


def test_anthropics_clients_get_their_list() -> None:
    table, _ = merged([BaseModel("qwen")])
    for path, version, keys in (
        ("/v1/models", {}, {"object", "data"}),
        ("/v1/models/", {"anthropic-version": "2023-06-01"}, {"data", "has_more", "first_id", "last_id"}),
        ("/v1/models/qwen", {"anthropic-version": "2023-06-01"}, {"type", "id", "display_name", "created_at"}),
        ("/v1/models/x", {"anthropic-version": "2023-06-01"}, {"type", "error"}),
        ("/v1/models/x", {}, {"error"}),
    ):
        talk = exchange(table, models_list=ModelsList())
        (answer,) = converse(talk, request_headers({":method": "GET", ":path": path, **version}, end_of_stream=True))
        assert json.loads(answer.immediate_response.body).keys() == keys
