"""The least configuration of docs/reference/envoy.md routes as the page says, in a real Envoy."""

import json
import re
from pathlib import Path

import pytest
import yaml

from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, Router
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

PAGE = Path(__file__).parents[2] / "docs/reference/envoy.md"


@pytest.fixture
def configuration(background: Background):
    """The page's configuration, on free ports."""
    (text,) = re.findall(r"^```yaml\n(# envoy\.yaml\n.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    found = yaml.safe_load(text)
    router = Router(background)
    (listener,), (cluster,) = found["static_resources"]["listeners"], found["static_resources"]["clusters"]
    listener["address"]["socket_address"]["port_value"] = 0
    (place,) = cluster["load_assignment"]["endpoints"]
    place["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["port_value"] = router.port
    yield found | {"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}}
    router.stop()


def test_it_routes_by_the_body(configuration):
    with envoy.gateway(configuration) as gateway:

        def ask(body: dict[str, str]) -> tuple[int, str]:
            headers = [("content-type", "application/json"), ("x-gateway-base-model-name", PHI)]  # a client's own
            reply = http1.request(gateway.port, "POST", "/v1/chat/completions", headers, json.dumps(body).encode())
            return reply.status, reply.body.decode()

        assert ask({"model": "sql-lora"}) == (200, "qwen\n")
        assert ask({"model": PHI}) == (200, "phi\n")
        assert ask({"messages": ""}) == (404, "the request names no model\n")
        status, told = ask({"model": "no-such-model"})
        assert (status, json.loads(told)["error"]["code"]) == (404, "model_not_found")
