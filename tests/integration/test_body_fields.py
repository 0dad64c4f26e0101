"""Through a real Envoy: fields of the body go into headers, by which routes go, and a client's own never do."""

import copy
import gzip
import hashlib
import json
from collections.abc import Iterator

import pytest

from bbr.exchange.convention import Ours
from bbr.exchange.go_router import GoRouter
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.models.routing import Rules, UnknownModel
from bbr.reading.fields import BodyField, BodyFields
from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from bench.harness.recording import Received, Upstreams
from tests.integration.conftest import Setup
from tests.integration.test_edges import until
from tests.support.h2_client import H2Client
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

THRESHOLD = 64 << 10
FIELDS = BodyFields(
    [
        BodyField("user", "X-User"),
        BodyField("metadata.session_id", "x-session", hashed=True),
        BodyField("service_tier", "x-tier"),
        BodyField("stream", "x-stream", early=True),
    ],
    THRESHOLD,
)
NAMES = ("x-user", "x-session", "x-tier", "x-stream")
MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]
JSON = ("content-type", "application/json")
LONG = "x" * 200_000
SESSION = "a person's name"
HASHED = hashlib.sha256(SESSION.encode()).hexdigest()


@pytest.fixture(scope="module")
def router(request: pytest.FixtureRequest, background: Background) -> Iterator[Router]:
    policy = Policy(Replies(Ours(fields=FIELDS)), stream_threshold_bytes=THRESHOLD)
    router = Router(background, policy=policy, transport=request.param)
    yield router
    router.stop()


def configuration(mode: str, port: int, upstreams: Upstreams) -> dict[str, object]:
    """Return one whose first route is for a tier, whatever the model."""
    config = envoy.configuration([envoy.router_filter(mode)], port, upstreams.ports)
    listener = config["static_resources"]["listeners"][0]
    listener["per_connection_buffer_limit_bytes"] = 16 << 20
    (chain,) = listener["filter_chains"]
    (host,) = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    flex = {"prefix": "/", "headers": [{"name": "x-tier", "string_match": {"exact": "flex"}}]}
    host["routes"].insert(0, {"match": flex, "route": {"cluster": PHI, "timeout": "60s"}})
    return config


@pytest.fixture(scope="module", params=MODES)
def gateway(request: pytest.FixtureRequest, router: Router, upstreams: Upstreams) -> Iterator[envoy.Gateway]:
    with envoy.gateway(configuration(request.param, router.port, upstreams)) as gateway:
        yield gateway


@pytest.fixture
def setup(gateway: envoy.Gateway, router: Router, upstreams: Upstreams) -> Setup:
    router.verdicts()
    upstreams.forget()
    return Setup(gateway, router, upstreams)


def hashing(mode: str, port: int, upstreams: Upstreams) -> dict[str, object]:
    """Return a configuration in which a request with a session goes to one of all servers, by the session's hash."""
    config = envoy.configuration([envoy.router_filter(mode)], port, upstreams.ports)
    resources = config["static_resources"]
    (pool,) = (each for each in resources["clusters"] if each["name"] == PHI)
    ring = copy.deepcopy(pool) | {"name": "ring", "lb_policy": "RING_HASH"}
    servers = [each for each in resources["clusters"] if each["name"] in upstreams.ports]
    found = [endpoint for each in servers for endpoint in each["load_assignment"]["endpoints"][0]["lb_endpoints"]]
    ring["load_assignment"] = {"cluster_name": "ring", "endpoints": [{"lb_endpoints": found}]}
    resources["clusters"].append(ring)
    (host,) = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["route_config"][
        "virtual_hosts"
    ]
    with_session = {"prefix": "/", "headers": [{"name": "x-session", "present_match": True}]}
    route = {"cluster": "ring", "hash_policy": [{"header": {"header_name": "x-session"}}]}
    host["routes"].insert(0, {"match": with_session, "route": route})
    return config


def sent(setup: Setup, body: bytes, *headers: tuple[str, str]) -> Received:
    """Send a request, and return what came to a pool."""
    reply = http1.request(setup.port, "POST", "/v1/chat/completions", [JSON, *headers], body)
    assert reply.status == 200, reply
    (got,) = setup.upstreams.received
    if got.size:
        assert got.digest == hashlib.sha256(body).hexdigest()
    return got


def told(got: Received) -> dict[str, str]:
    """Return the headers of fields, each of which stands there once."""
    found = {name: got.header(name) for name in NAMES}
    assert all(len(values) <= 1 for values in found.values())
    return {name: values[0] for name, values in found.items() if values}


def chat(**fields: object) -> bytes:
    return json.dumps({"model": "sql-lora", "messages": [], **fields}).encode()


FORGED = [(name, "forged") for name in ("x-user", "x-session", "x-tier", "x-stream", "X_User")]


@pytest.mark.grpcio
def test_headers_are_set_and_hashed(setup: Setup) -> None:
    got = sent(setup, chat(user="bob", metadata={"session_id": SESSION}, stream=True))
    assert told(got) == {"x-user": "bob", "x-session": HASHED, "x-stream": "true"}
    assert (got.pool, got.header("x-gateway-model-name")) == (QWEN, ["sql-lora"])


@pytest.mark.grpcio
def test_a_client_s_own_are_removed(setup: Setup) -> None:
    got = sent(setup, chat(user="bob"), *FORGED)
    assert told(got) == {"x-user": "bob"}
    assert got.header("x_user") == []
    setup.upstreams.forget()
    assert told(sent(setup, b'{"messages":[]}', *FORGED)) == {}


def test_a_client_s_own_are_removed_from_what_is_not_read(setup: Setup) -> None:
    http1.request(setup.port, "GET", "/", FORGED, None)
    form = [("content-type", "application/x-www-form-urlencoded"), *FORGED]
    http1.request(setup.port, "POST", "/", form, b"model=sql-lora&user=bob")
    http1.request(setup.port, "POST", "/", [("content-type", "text/html"), *FORGED], chat(user="bob"))
    assert [told(got) for got in setup.upstreams.received] == [{}] * 3


@pytest.mark.grpcio
def test_a_route_goes_by_the_header_and_not_by_a_client_s(setup: Setup) -> None:
    assert sent(setup, chat(service_tier="flex")).pool == PHI
    setup.upstreams.forget()
    assert sent(setup, chat(), ("x-tier", "flex")).pool == QWEN


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (chat(user="bob")[:-1] + b',"user":"eve"}', "field-duplicate"),
        (chat(User="eve"), "field-spelling"),
        (chat(user=["eve"]), "field-type"),
        (chat(user="a\nb"), "field-illegal"),
        (chat(user="a" * 257), "field-too-long"),
        (chat(user="bob", x=LONG)[:-1] + b',"user":"eve"}', "field-duplicate"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_refused(setup: Setup, body: bytes, reason: str) -> None:
    reply = http1.request(setup.port, "POST", "/v1/chat/completions", [JSON], body)
    assert reply.status == 400
    assert setup.router.verdicts()[0].reason == reason
    until(lambda: all(not got.complete for got in setup.upstreams.received))


@pytest.mark.grpcio
@pytest.mark.parametrize("user_first", [True, False])
def test_a_long_body(setup: Setup, user_first: bool) -> None:
    rest = {"messages": [{"role": "user", "content": LONG}]}
    fields = {"user": "bob", "metadata": {"session_id": SESSION}, "service_tier": "auto"}
    body = json.dumps(
        {"model": "sql-lora", **fields, **rest} if user_first else {"model": "sql-lora", **rest, **fields}
    )
    assert told(sent(setup, body.encode(), *FORGED)) == {"x-user": "bob", "x-session": HASHED, "x-tier": "auto"}


def test_an_early_field_is_looked_for_at_the_beginning(setup: Setup) -> None:
    whole = {"user": "bob", "metadata": None, "service_tier": "auto"}
    first = json.dumps({"model": "sql-lora", "stream": True, "x": LONG, **whole})
    assert told(sent(setup, first.encode())) == {"x-user": "bob", "x-tier": "auto", "x-stream": "true"}
    setup.upstreams.forget()
    last = json.dumps({"model": "sql-lora", **whole, "x": LONG, "stream": True})
    assert told(sent(setup, last.encode())) == {"x-user": "bob", "x-tier": "auto"}


@pytest.mark.parametrize("content", ["", LONG], ids=["short", "long"])
def test_an_encoded_body(setup: Setup, content: str) -> None:
    body = gzip.compress(chat(content=content, user="bob"))
    assert told(sent(setup, body, ("content-encoding", "gzip"))) == {"x-user": "bob"}


@pytest.mark.grpcio
def test_a_long_body_goes_on_once_all_is_known(router: Router, upstreams: Upstreams) -> None:
    with envoy.gateway(configuration("FULL_DUPLEX_STREAMED", router.port, upstreams)) as gateway:
        upstreams.forget()
        begun = b'{"model":"sql-lora","user":"bob","service_tier":"auto","metadata":{},"x":"'
        with H2Client(gateway.port) as client:
            stream = client.start("POST", "/v1/completions", [JSON])
            client.send(stream, begun + b"y" * 600_000)
            until(lambda: len(upstreams.received) == 1)
            (got,) = upstreams.received
            assert not got.complete
            assert told(got) == {"x-user": "bob", "x-tier": "auto"}
            client.send(stream, b'"}', end_stream=True)
            assert client.wait(stream).status == 200


@pytest.mark.parametrize("mode", MODES)
def test_all_requests_of_a_session_go_to_one_server(router: Router, upstreams: Upstreams, mode: str) -> None:
    sessions = [f"session {number}" for number in range(30)]
    with envoy.gateway(hashing(mode, router.port, upstreams)) as gateway:
        router.verdicts()
        setup = Setup(gateway, router, upstreams)
        servers: dict[str, set[str]] = {session: set() for session in sessions}
        for turn in range(3):
            for session in sessions:
                upstreams.forget()
                body = chat(metadata={"session_id": session}, turn=turn)
                servers[session].add(sent(setup, body, ("x-session", "forged")).pool)
    assert {len(each) for each in servers.values()} == {1}
    assert set().union(*servers.values()) == set(upstreams.ports)


def test_the_go_routers_convention(background: Background, upstreams: Upstreams) -> None:
    fields = BodyFields([BodyField("user", "X-User")], THRESHOLD)
    policy = Policy(Replies(GoRouter(fields=fields)), rules=Rules(UnknownModel.EMPTY))
    router = Router(background, policy=policy)
    try:
        with envoy.gateway(configuration("BUFFERED", router.port, upstreams)) as gateway:
            upstreams.forget()
            setup = Setup(gateway, router, upstreams)
            assert told(sent(setup, chat(user="bob"), ("x-user", "forged"))) == {"x-user": "bob"}
            upstreams.forget()
            assert told(sent(setup, chat(), ("x-user", "forged"))) == {}
    finally:
        router.stop()
