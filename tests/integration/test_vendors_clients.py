"""The vendors' own clients whose URLs name the model, through a real Envoy: each reaches the pool of its model."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache, cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx
import pytest

from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.models.entries import BaseModel
from bbr.models.listing import ModelsList
from bbr.models.routing import MissingModel, Rules
from bbr.reading.templates import parse_templates
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from bench.harness.model_tables import merged
from tests.differential.children import CLIENTS, UnavailableError, built
from tests.integration.conftest import Setup
from tests.support.late import late
from tests.support.tools import needs_envoy

anthropic = late("anthropic")
boto3 = late("boto3")
config = late("botocore.config")
exceptions = late("botocore.exceptions")
genai = late("google.genai")
google = late("google.auth.credentials")
openai = late("openai")

pytestmark = needs_envoy

MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]
ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-haiku-20240307-v1:0"
# One with a slash, one with a colon, one with both, one with neither.
MODELS = [QWEN, "llama3:8b", ARN, "sql-lora"]
TABLE, _ = merged([BaseModel(QWEN, ("sql-lora", "llama3:8b", ARN)), BaseModel(PHI)])
# What Phi gets was sent there in silence.
DEFAULT = Rules(missing_model=MissingModel.DEFAULT, default_model=PHI)
VECTOR = {"embedding": [0.5], "index": 0, "object": "embedding"}


class Got(NamedTuple):
    """A request as a pool got it."""

    pool: str
    target: str
    body: bytes


class PoolServer(ThreadingHTTPServer):
    """Says nothing of clients that go away."""

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has closed a stream of events: nobody waits for the rest."""


class Pools:
    """Model servers that answer whatever they are asked with an object, and note it."""

    def __init__(self, *pools: str) -> None:
        self.received: list[Got] = []
        self._servers = [PoolServer(("127.0.0.1", 0), self._handler(pool)) for pool in pools]
        self.ports = {pool: server.server_port for pool, server in zip(pools, self._servers, strict=True)}
        self._threads = [threading.Thread(target=server.serve_forever) for server in self._servers]
        for thread in self._threads:
            thread.start()

    def _handler(self, pool: str) -> type[BaseHTTPRequestHandler]:
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # the body does not wait until the head is acknowledged, in 40 ms

            def do_POST(self) -> None:
                received.append(Got(pool, self.path, self.read_body()))
                answer = json.dumps({"data": [VECTOR], "content": [], "type": "message"}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def read_body(self) -> bytes:
                if "chunked" not in self.headers.get("transfer-encoding", ""):
                    return self.rfile.read(int(self.headers.get("content-length", 0)))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name)
                pass

        return Handler

    def forget(self) -> None:
        self.received.clear()

    def stop(self) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture(scope="module")
def upstreams() -> Iterator[Pools]:
    pools = Pools(QWEN, PHI, "default")
    yield pools
    pools.stop()


@pytest.fixture(scope="module")
def router(request: pytest.FixtureRequest, background: Background) -> Iterator[Router]:
    templates = parse_templates("azure-openai,gemini,bedrock")
    policy = Policy(Replies(), path_templates=templates, rules=DEFAULT, models_list=ModelsList())
    router = Router(background, TABLE, policy, transport=request.param)
    yield router
    router.stop()


@pytest.fixture(params=MODES)
def setup(request: pytest.FixtureRequest, gateways: Callable[..., Setup]) -> Setup:
    return gateways(request.param)


def token() -> Any:
    """Return credentials for Google's that need no one else."""

    class Token(google.Credentials):
        def __init__(self) -> None:
            super().__init__()
            self.token = "none"  # noqa: S105 (no password)

        def refresh(self, request: object) -> None:
            """There is nothing to refresh."""

    return Token()


class Clients:
    """The vendors' clients of one gateway, each made when it is asked for."""

    def __init__(self, url: str, closing: ExitStack) -> None:
        self._url = url
        self._closing = closing

    @cached_property
    def platform(self) -> Any:
        http = openai.DefaultHttpxClient(trust_env=False)
        client = openai.OpenAI(base_url=f"{self._url}/v1", api_key="none", http_client=http, max_retries=0)
        return self._closing.enter_context(client)

    @cache  # noqa: B019 (they are as many as gateways)
    def azure(self, **options: str) -> Any:
        http = openai.DefaultHttpxClient(trust_env=False)
        keys = {"azure_endpoint": self._url, "api_key": "none", "api_version": "2024-10-21", **options}
        return self._closing.enter_context(openai.AzureOpenAI(http_client=http, max_retries=0, **keys))

    @cached_property
    def gemini(self) -> Any:
        client = genai.Client(api_key="none", vertexai=False, http_options=self._google("v1beta"))
        self._closing.callback(client.close)
        return client

    @cached_property
    def vertex(self) -> Any:
        options = self._google("v1")
        client = genai.Client(vertexai=True, project="p", location="l", credentials=token(), http_options=options)
        self._closing.callback(client.close)
        return client

    def _google(self, version: str) -> dict[str, Any]:
        return {"base_url": self._url, "api_version": version, "client_args": {"trust_env": False}}

    @cached_property
    def bedrock(self) -> Any:
        keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": "us-east-1"}
        settings = config.Config(proxies={}, retries={"max_attempts": 1})
        client = boto3.client("bedrock-runtime", endpoint_url=self._url, config=settings, **keys)
        self._closing.callback(client.close)
        return client

    @cached_property
    def claude(self) -> Any:
        http = anthropic.DefaultHttpxClient(trust_env=False)
        client = anthropic.Anthropic(base_url=self._url, api_key="none", http_client=http, max_retries=0)
        return self._closing.enter_context(client)

    @cached_property
    def anthropic_bedrock(self) -> Any:
        http = anthropic.DefaultHttpxClient(trust_env=False)
        keys = {"aws_access_key": "none", "aws_secret_key": "none", "aws_region": "us-east-1"}
        client = anthropic.AnthropicBedrock(base_url=self._url, http_client=http, max_retries=0, **keys)
        return self._closing.enter_context(client)

    @cached_property
    def anthropic_vertex(self) -> Any:
        http = anthropic.DefaultHttpxClient(trust_env=False)
        keys = {"region": "r", "project_id": "p", "access_token": "none"}
        client = anthropic.AnthropicVertex(base_url=f"{self._url}/v1", http_client=http, max_retries=0, **keys)
        return self._closing.enter_context(client)


@pytest.fixture(scope="module")
def of_gateways() -> Iterator[Callable[[int], Clients]]:
    with ExitStack() as closing:
        yield cache(lambda port: Clients(f"http://127.0.0.1:{port}", closing))


@pytest.fixture
def clients(setup: Setup, of_gateways: Callable[[int], Clients]) -> Clients:
    return of_gateways(setup.port)


ASKED: Any = [{"role": "user", "content": "x"}]
SOUND = ("x.wav", b"RIFF" * 1000)
MESSAGE: Any = {"max_tokens": 1, "messages": ASKED}
CONVERSED = [{"role": "user", "content": [{"text": "x"}]}]
CALLS: dict[str, Callable[[Clients, str], object]] = {
    "OpenAI, chat": lambda to, model: to.platform.chat.completions.create(model=model, messages=ASKED),
    "Azure, chat": lambda to, model: to.azure().chat.completions.create(model=model, messages=ASKED),
    "Azure, completion": lambda to, model: to.azure().completions.create(model=model, prompt="x"),
    "Azure, embedding": lambda to, model: to.azure().embeddings.create(model=model, input="x"),
    "Azure, speech": lambda to, model: to.azure().audio.speech.create(model=model, input="x", voice="alloy"),
    "Azure, transcription": lambda to, model: to.azure().audio.transcriptions.create(model=model, file=SOUND),
    "Azure, image": lambda to, model: to.azure().images.generate(model=model, prompt="x"),
    "Azure, image edit": lambda to, model: to.azure().images.edit(model=model, prompt="x", image=b"PNG"),
    "Gemini, generate": lambda to, model: to.gemini.models.generate_content(model=model, contents="x"),
    "Gemini, models/": lambda to, model: to.gemini.models.generate_content(model=f"models/{model}", contents="x"),
    "Gemini, stream": lambda to, model: [*to.gemini.models.generate_content_stream(model=model, contents="x")],
    "Gemini, count": lambda to, model: to.gemini.models.count_tokens(model=model, contents="x"),
    "Gemini, embedding": lambda to, model: to.gemini.models.embed_content(model=model, contents="x"),
    "Bedrock, converse": lambda to, model: to.bedrock.converse(modelId=model, messages=CONVERSED),
    "Bedrock, stream": lambda to, model: to.bedrock.converse_stream(modelId=model, messages=CONVERSED)[
        "stream"
    ].close(),
    "Bedrock, invoke": lambda to, model: to.bedrock.invoke_model(modelId=model, body=b'{"prompt":"x"}'),
    "Anthropic, Bedrock": lambda to, model: to.anthropic_bedrock.messages.create(model=model, **MESSAGE),
    "Anthropic, Vertex": lambda to, model: to.anthropic_vertex.messages.create(model=model, **MESSAGE),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_each_client_reaches_its_models_pool(
    setup: Setup, clients: Clients, call: Callable[[Clients, str], object], model: str
) -> None:
    call(clients, model)
    (got,) = setup.upstreams.received
    assert got.pool == QWEN
    (verdict,) = setup.router.verdicts()
    assert (verdict.model, verdict.base_model) == (model, QWEN)


def test_vertex_has_longer_paths(setup: Setup, clients: Clients) -> None:
    clients.vertex.models.generate_content(model="sql-lora", contents="x")
    (got,) = setup.upstreams.received
    assert (got.pool, "/publishers/google/models/sql-lora:" in got.target) == (QWEN, True)


def test_each_client_gets_the_list_in_its_own_format(setup: Setup, clients: Clients) -> None:
    names = [QWEN, *sorted([ARN, "llama3:8b", "sql-lora"]), PHI]
    assert [model.id for model in clients.platform.models.list()] == names
    assert [model.id for model in clients.claude.models.list()] == names
    assert clients.claude.models.retrieve(QWEN).display_name == QWEN
    with pytest.raises(anthropic.NotFoundError, match="is not served here"):
        clients.claude.models.retrieve("nobody")
    for path in ("/v1/models", "/v1/models/", f"/v1/models/{QWEN}/"):
        with httpx.Client(base_url=f"http://127.0.0.1:{setup.port}", trust_env=False) as http:
            got, asked = http.get(path), http.head(path)
        assert (got.status_code, asked.status_code, asked.content) == (200, 200, b"")
        assert got.json()
    assert setup.upstreams.received == []


REFUSED: dict[str, tuple[Callable[[], type[Exception]], Callable[[Clients], object]]] = {
    "Azure": (lambda: openai.NotFoundError, lambda to: CALLS["Azure, chat"](to, "org/other")),
    "Gemini": (lambda: genai.errors.ClientError, lambda to: CALLS["Gemini, generate"](to, "org/other")),
    "Bedrock": (lambda: exceptions.ClientError, lambda to: CALLS["Bedrock, converse"](to, "org/other")),
    "a deployment beside another model": (
        lambda: openai.BadRequestError,
        lambda to: to.azure(azure_deployment="sql-lora").chat.completions.create(model=PHI, messages=ASKED),
    ),
}


@pytest.mark.parametrize(("error", "call"), REFUSED.values(), ids=REFUSED)
def test_what_names_no_model_of_the_table_or_two_reaches_no_pool(
    setup: Setup, clients: Clients, error: Callable[[], type[Exception]], call: Callable[[Clients], object]
) -> None:
    with pytest.raises(error()):
        call(clients)
    assert setup.upstreams.received == []


@pytest.mark.parametrize("model", MODELS)
def test_openai_for_node(setup: Setup, model: str) -> None:
    try:
        folder = built(CLIENTS, may_build=False)
    except UnavailableError as missing:
        pytest.skip(str(missing))
    command = [*CLIENTS.run, f"http://127.0.0.1:{setup.port}", model]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=True)
    assert set(json.loads(done.stdout).values()) == {200}
    assert {(got.pool, "/openai/deployments/" in got.target) for got in setup.upstreams.received} == {(QWEN, True)}
    assert len(setup.upstreams.received) == 5
