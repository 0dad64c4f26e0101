"""What Envoy's own ways can do, and what makes them no router: held against what bench/published/contenders.py says."""

import gzip
from contextlib import ExitStack

import pytest

from bench.harness import envoy, http1, workload
from bench.published import contenders
from bench.published.contenders import LUA, METADATA, MODEL_HEADER, READ
from tests.support.tools import needs_envoy

MODEL = workload.MODEL.encode()
SPOOFED = (MODEL_HEADER, workload.MODEL)

pytestmark = needs_envoy


@pytest.fixture(scope="module")
def reached():
    with ExitStack() as stack:
        pools = stack.enter_context(contenders.upstreams())
        ports = {name: stack.enter_context(envoy_of(name, pools)).port for name in (LUA, METADATA, READ)}

        def ask(name, body, *fields):
            headers = [("content-type", "application/json"), *fields]
            reply = http1.request(ports[name], "POST", "/v1/chat/completions", headers, body)
            assert reply.status == 200
            pool, _, rest = reply.body.partition(b" ")
            assert rest == contenders.tale("", body)[1:]
            return pool

        yield ask


def envoy_of(name, pools):
    return envoy.gateway(contenders.configuration([contenders.own_filter(name)], pools["default"], pools))


@pytest.mark.parametrize("name", [LUA, METADATA])
@pytest.mark.parametrize("size", [1_000, 1_000_000])
def test_a_chat_reaches_its_pool(reached, name, size):
    assert reached(name, workload.body(size)) == MODEL


@pytest.mark.parametrize("name", [LUA, METADATA])
@pytest.mark.parametrize(
    ("body", "pool"),
    [
        (b'{"a":{"model":"%b"},"model" : "%b"}' % (MODEL, MODEL), MODEL),
        (b'{"a":{"model":"%b"},"b":["model"]}' % MODEL, b"default"),
        (b'{"model":"other","a":"\\"model\\":\\"%b\\""}' % MODEL, b"default"),
        (b'{"a":"model","b":"%b"}' % MODEL, b"default"),
        (b"", b"default"),
        (b"{", b"default"),
        (gzip.compress(workload.body(1_000), mtime=0), b"default"),
    ],
)
def test_only_the_top_level_model_of_plain_json_counts(reached, name, body, pool):
    assert reached(name, body) == pool


def test_only_the_metadata_and_the_script_stand_up_to_a_header_of_the_clients_own(reached):
    other = b'{"model":"other"}'
    assert reached(LUA, other, SPOOFED) == b"default"
    assert reached(METADATA, other, SPOOFED) == b"default"
    assert reached(READ, other, SPOOFED) == MODEL
