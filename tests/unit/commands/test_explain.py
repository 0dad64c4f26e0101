import gzip
import io
import json
import sys

import pytest

import bbr.commands.explain
from bbr import cli
from bbr.commands.explain import SampleRequest, explain
from bbr.config.settings import ConfigError, Settings
from bbr.exchange.asker import Asker
from bbr.exchange.policy import AliasRewrite, BodyMode, ClientSteering, Compat, InvalidJson
from bbr.headers import DESTINATION_HEADER, PRIORITY_HEADERS, STEERING_HEADERS
from bbr.models.routing import MissingModel, UnknownModel
from bbr.sources.objects import SourceError
from bench.harness.background import Background
from bench.harness.fake_kubernetes import FakeKubernetes
from tests.support.commands import failure

JSON = ("content-type", "application/json")
STRIPPED = (
    "  remove  X-Gateway-Model-Name\n  remove  X-Gateway-Base-Model-Name\n  remove  x-gateway-destination-endpoint\n"
    "  remove  27 headers that steer pickers and sidecars\n"
)


@pytest.fixture
def models(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: qwen, adapters: [sql]}]\naliases: {gpt: sql}\n", encoding="utf-8")
    return path


def chat(body, *headers):
    return SampleRequest("POST", "/v1/chat/completions", headers or (JSON,), body)


BOTH = pytest.mark.parametrize("mode", [BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED], ids=lambda mode: mode.name)


@BOTH
def test_a_routed_request(models, mode):
    text = explain(Settings(models=models, assume_body_mode=mode), chat(b'{"model": "gpt"}'))
    assert text == (
        f"Routed gpt: it is an alias (file {models}, line 2).\n"
        "  set     X-Gateway-Model-Name: sql\n"
        "  set     X-Gateway-Base-Model-Name: qwen\n"
        "  set     x-llm-d-model-name-rewrite: sql\n"
        "  set     x-gateway-model-name-rewrite: sql\n"
        "  remove  x-gateway-destination-endpoint\n"
        "  remove  25 headers that steer pickers and sidecars\n"
    )


def test_a_files_name_forges_no_line(models):
    odd = models.rename(models.with_name("a\nRouted b: \u202ehere\x1b[2J.yaml"))
    text = explain(Settings(models=odd), chat(b'{"model": "gpt"}'))
    assert text.startswith(
        f"Routed gpt: it is an alias (file {models.parent}/a\\nRouted b: \\u202ehere\\x1b[2J.yaml, line 2).\n"
    )


def test_an_alias_of_several_models(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: a}, {name: b}]\naliases: {c: {a: 0, b: 9}}\n", encoding="utf-8")
    text = explain(Settings(models=path), chat(b'{"model": "c"}'))
    assert text.startswith(f"Routed c: it is an alias (file {path}, line 2): this request is for b, of a (0), b (9).\n")
    found = json.loads(explain(Settings(models=path), chat(b'{"model": "c"}'), as_json=True))
    assert found["shares"][1] == {"model": "b", "base_model": "b", "weight": 9}


def test_a_name_that_fits_a_pattern(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: a}]\naliases: {c: a, c-*: a, c-d*: a}\n", encoding="utf-8")
    text = explain(Settings(models=path), chat(b'{"model": "c-de"}'))
    assert text.startswith(f"Routed c-de: it fits the pattern c-d* of an alias (file {path}, line 2).\n")
    found = json.loads(explain(Settings(models=path), chat(b'{"model": "c-x"}'), as_json=True))
    assert (found["pattern"], found["rule"]) == ("c-*", "it fits the pattern c-* of an alias")


@BOTH
def test_a_refused_request(models, mode):
    text = explain(Settings(models=models, assume_body_mode=mode), chat(b'{"model": "x"}'))
    first, second = text.splitlines()
    assert first == "The router answers itself: 404, bbr:model-not-found."
    assert json.loads(second)["error"]["code"] == "model_not_found"


PASSED = {
    "no model": (chat(b"{}"), "its body names no model"),
    "no body": (SampleRequest("GET", "/x"), "it has no body, and nothing else that names a model"),
    "not read": (
        chat(b"x", ("Content-Type", "audio/wav")),
        "its body is not read: by its method or content type, or by --include-path and --exclude-path",
    ),
    "invalid": (chat(b"{"), "its body is not strict JSON, and --on-invalid-json lets it pass (invalid-json)"),
}


@BOTH
@pytest.mark.parametrize(("asked", "why"), PASSED.values(), ids=PASSED)
def test_a_request_that_passes(models, mode, asked, why):
    settings = Settings(models=models, assume_body_mode=mode, on_invalid_json=InvalidJson.PASS_STRIPPED)
    assert explain(settings, asked) == f"Passed on without routing headers: {why}.\n{STRIPPED}"


def test_a_request_by_a_rule_of_the_settings(models):
    settings = Settings(models=models, missing_model=MissingModel.DEFAULT, default_model="sql")
    assert explain(settings, chat(b"{}")).startswith(
        f"Routed: the request names no model: --missing-model=default (file {models}, line 1).\n"
    )
    settings = Settings(models=models, unknown_model=UnknownModel.EMPTY)
    assert explain(settings, chat(b'{"model": "x"}')) == (
        "Routed x: the table does not hold it: --unknown-model=empty.\n"
        "  set     X-Gateway-Model-Name: x\n"
        "  set     X-Gateway-Base-Model-Name: \n"
        "  remove  x-gateway-destination-endpoint\n"
        "  remove  27 headers that steer pickers and sidecars\n"
    )


def test_the_answers_of_a_go_router(models):
    settings = Settings(
        models=models, compat=Compat.GIE, client_steering=ClientSteering.ALL, unknown_model=UnknownModel.EMPTY
    )
    text = explain(settings, chat(b'{"model": 1}'))
    assert text.splitlines()[1:] == [
        "  set     X-Gateway-Model-Name: 1",
        "  set     X-Gateway-Base-Model-Name: ",
        "  set     Content-Length: 12",
    ]
    assert explain(settings, chat(b"{")) == (
        "The router answers itself: 400, bbr:invalid-json.\n"
        "inference error: BadRequest - failed to parse request body: unexpected end of data at byte 1.\n"
    )


def test_a_long_body(models):
    body = b'{"prompt": "%s", "model": "sql"}' % (b"x" * 300_000)
    assert explain(Settings(models=models), chat(body)).startswith("Routed sql: ")


def test_as_json(models):
    text = explain(Settings(models=models), chat(b'{"model": "sql"}'), as_json=True)
    assert json.loads(text) == {
        "outcome": "routed",
        "reason": None,
        "scope": None,
        "requested_model": "sql",
        "forward_decoded": False,
        "body_rewritten": False,
        "rule": "it is an adapter",
        "pattern": None,
        "shares": [],
        "declared_by": {"kind": "file", "namespace": "", "name": str(models), "line": 1},
        "set_headers": {"X-Gateway-Model-Name": "sql", "X-Gateway-Base-Model-Name": "qwen"},
        "removed_headers": [DESTINATION_HEADER, *STEERING_HEADERS, *PRIORITY_HEADERS],
        "answer": None,
    }


def test_a_refusal_as_json(models):
    found = json.loads(explain(Settings(models=models), chat(b'{"model": 1}'), as_json=True))
    assert (found["outcome"], found["reason"], found["rule"]) == ("refused", "model-not-string", None)
    assert (found["answer"]["status"], found["answer"]["details"]) == (400, "bbr:model-not-string")
    assert json.loads(found["answer"]["body"])["error"]["param"] == "model"


def test_a_model_of_a_cluster(tmp_path):
    with Background() as background:
        fake = FakeKubernetes()
        fake.put("a", data={"baseModel": "gemma", "adapters": "- gemma-lora"})
        background.run(fake.start())
        settings = Settings(kubernetes=True, kubeconfig=fake.kubeconfig(tmp_path))
        text = explain(settings, chat(b'{"model": "gemma-lora"}'))
        background.run(fake.stop())
    assert text.startswith("Routed gemma-lora: it is an adapter (ConfigMap default/a).\n")


def test_a_table_that_can_not_be_used(models):
    models.write_text("models: x", encoding="utf-8")
    with pytest.raises(SourceError, match="line 1: models must be a list"):
        explain(Settings(models=models), chat(b"{}"))


BODY = b'{"model": "sql"}'


def test_explain_reads_the_body_from_a_file(capsys, models, tmp_path):
    (tmp_path / "body").write_bytes(BODY)
    assert cli.main(["explain", str(tmp_path / "body"), f"--models={models}"]) == 0
    assert capsys.readouterr().out.startswith("Routed sql: it is an adapter")


def test_explain_reads_the_body_from_stdin(capsys, models, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BODY)))
    assert cli.main(["explain", "-", f"--models={models}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["set_headers"]["X-Gateway-Base-Model-Name"] == "qwen"


ASKED = [
    pytest.param([], ("GET", "/v1/chat/completions", [], None, []), id="nothing"),
    pytest.param(["--path=/x", "--method=PUT"], ("PUT", "/x", [], None, []), id="path and method"),
    pytest.param(
        ["BODY"], ("POST", "/v1/chat/completions", [("content-type", "application/json")], BODY, []), id="a body"
    ),
    pytest.param(
        ["BODY", "--header=Content-Type: text/plain", "--header", "a:b:c"],
        ("POST", "/v1/chat/completions", [("Content-Type", "text/plain"), ("a", "b:c")], BODY, []),
        id="headers",
    ),
    pytest.param(["--asked-by= a,,b "], ("GET", "/v1/chat/completions", [], None, ["a", "b"]), id="who asks"),
]


@pytest.mark.parametrize(("arguments", "asked"), ASKED)
def test_explain_takes_a_request(monkeypatch, tmp_path, arguments, asked):
    found = []
    monkeypatch.setattr(bbr.commands.explain, "explain", lambda *args, **_: found.append(args[1]) or "")
    (tmp_path / "body").write_bytes(BODY)
    assert cli.main(["explain", *[each.replace("BODY", str(tmp_path / "body")) for each in arguments]]) == 0
    assert found == [SampleRequest(*asked)]


@pytest.mark.parametrize(
    "flag", ["--path=/v1/\udcff", "--host=\udcff", "--method=\udcff", "--header=user-agent: \udcff"]
)
def test_values_may_be_any_bytes_as_a_gateway_sends_them(capsys, flag):
    assert cli.main(["explain", flag, '{"model": "qwen"}']) == 0
    assert capsys.readouterr().out.startswith("Routed qwen: ")


@pytest.mark.parametrize("source", ["a file without end", "stdin without end"])
def test_of_a_body_one_byte_more_than_the_limit_is_read(capsys, monkeypatch, source):
    name = "-" if source == "stdin without end" else "/dev/zero"
    with open("/dev/zero", "rb") as opened, io.TextIOWrapper(opened) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert cli.main(["explain", "--max-body-bytes=1MiB", "--header=content-type: application/json", name]) == 0
    assert capsys.readouterr().out.startswith("The router answers itself: 413, bbr:body-too-large.\n")


BODY_FORMS = "give JSON that begins with { or [, the name of a file, or - for stdin"
EXPLAIN_MISUSES = {
    "a header without a colon": (["--header=x"], "bbr explain: --header: 'x' is not NAME:VALUE.\n"),
    "a header without a name": (["--header= :x"], "bbr explain: --header: ' :x' is not NAME:VALUE.\n"),
    "a header whose name is none": (["--header=a b:x"], "bbr explain: --header: 'a b:x' is not NAME:VALUE.\n"),
    "a header's name that is not ASCII": (
        ["--header=a\udcff: x"],
        "bbr explain: --header: 'a\\udcff: x' is not NAME:VALUE.\n",
    ),
    "a header of two lines": (
        ["--header=a: x\ny: z"],
        "bbr explain: --header: ' x\\ny: z' has a control character, which no header can have.\n",
    ),
    "a path of two lines": (
        ["--path=/\r"],
        "bbr explain: --path: '/\\r' has a control character, which no header can have.\n",
    ),
    "a name that is not UTF-8": (
        ["--asker=metadata:a:b", "--asked-by=\udcff"],
        "bbr explain: --asked-by: '\\udcff' is not UTF-8.\n",
    ),
    "a scope that is not UTF-8": (
        ["--scope=attribute:a", "--in-scope=\udcff"],
        "bbr explain: --in-scope: '\\udcff' is not UTF-8.\n",
    ),
    "a body that is not there": (
        ["/none/such"],
        f"bbr explain: /none/such: No such file or directory: {BODY_FORMS}.\n",
    ),
    "a body that is a directory": (["/"], "bbr explain: /: Is a directory.\n"),
    "an empty body": (
        [""],
        f"bbr explain: the body is an empty argument: {BODY_FORMS}.\n",
    ),
    "a wrong setting": (["--grpc-port=0"], "bbr explain: --grpc-port: '0' is not a port (1 to 65535).\n"),
}


@pytest.mark.parametrize(("arguments", "sentence"), EXPLAIN_MISUSES.values(), ids=EXPLAIN_MISUSES)
def test_explain_misuse_is_one_sentence(capsys, arguments, sentence):
    assert failure(capsys, "explain", *arguments) == (2, sentence)


@BOTH
def test_an_encoded_body_that_goes_on_decoded(models, mode):
    asked = chat(gzip.compress(b'{"model": "sql"}'), JSON, ("Content-Encoding", "gzip"))
    text = explain(Settings(models=models, forward_decoded=True, assume_body_mode=mode), asked)
    assert "  body    goes on decoded (--forward-decoded)\n" in text
    assert "  remove  content-encoding\n" in text
    assert "decoded" not in explain(Settings(models=models, assume_body_mode=mode), asked)


@BOTH
def test_an_alias_that_is_replaced_in_the_body(models, mode):
    settings = Settings(models=models, alias_rewrite=AliasRewrite.BODY, assume_body_mode=mode)
    assert "  body    names sql from here on (--alias-rewrite=body)\n" in explain(settings, chat(b'{"model": "gpt"}'))
    assert "  body  " not in explain(settings, chat(b'{"model": "sql"}'))


@pytest.mark.parametrize(
    "where", ["header:x-team", "metadata:auth:payload/team", "attribute:connection.requested_server_name"]
)
@pytest.mark.parametrize(
    ("asker", "told"), [("team-a", "Routed qwen: "), ("team-b", "The router answers itself: 403, ")]
)
def test_explain_tells_who_may_use_a_model(tmp_path, capsys, where, asker, told):
    models, body = tmp_path / "models.yaml", tmp_path / "body"
    models.write_text("models: [{name: qwen, allow: [team-a]}]")
    body.write_text('{"model": "qwen"}')
    assert cli.main(["explain", str(body), f"--models={models}", f"--asker={where}", f"--asked-by={asker}"]) == 0
    assert capsys.readouterr().out.startswith(told)


def test_explain_needs_to_know_where_a_gateway_tells_who_asks(capsys):
    assert cli.main(["explain", "--asked-by=a"]) == 2
    assert (
        capsys.readouterr().err == "bbr explain: --asked-by needs --asker, which says where a gateway tells who asks.\n"
    )


@pytest.mark.parametrize("body", ['{"model": "sql"}', ' {"model": "sql"}', '["no object"]', "{broken"])
def test_explain_takes_json_itself(capsys, models, body):
    assert cli.main(["explain", body, f"--models={models}"]) == 0
    out = capsys.readouterr().out
    assert out == explain(Settings(models=models), chat(body.encode()))


@pytest.fixture
def scoped(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text(
        "models: [{name: qwen, adapters: [sql]}]\n"
        "scopes:\n  a: {hosts: [a.example], models: [{name: phi, adapters: [sql]}], allow: {phi: [team-a]}}\n",
        encoding="utf-8",
    )
    return path


def test_a_host_has_a_scope(scoped):
    request = chat(b'{"model": "sql"}')
    settings = Settings(models=scoped)
    assert "X-Gateway-Base-Model-Name: qwen\n" in explain(settings, request)
    found = explain(settings, request._replace(host="A.example:8443"))
    assert found.startswith("In scope a.\nThe router answers itself: 403, bbr:model-not-allowed.\n")
    facts = [json.loads(explain(settings, request._replace(host=host), as_json=True)) for host in ("a.example", "b")]
    assert [each["scope"] for each in facts] == ["a", None]


@pytest.mark.parametrize(
    "where", [Asker(header="x-scope"), Asker(metadata=("auth", "s")), Asker(attribute="request.id")]
)
def test_the_gateway_names_the_scope(scoped, where):
    settings = Settings(models=scoped, scope=where, asker=Asker(metadata=("auth", "team")))
    request = chat(b'{"model": "sql"}')._replace(askers=["team-a"], host="a.example")
    assert "X-Gateway-Base-Model-Name: qwen\n" in explain(settings, request)
    found = explain(settings, request._replace(scope="a"))
    assert found.startswith("In scope a.\nRouted sql: it is an adapter")
    assert "X-Gateway-Base-Model-Name: phi\n" in found


def test_a_scope_that_no_gateway_could_name_is_an_error(scoped):
    with pytest.raises(ConfigError, match=r"^--in-scope needs --scope, which says where"):
        explain(Settings(models=scoped), chat(b"{}")._replace(scope="a"))


def test_host_and_scope_on_the_command_line(scoped, capsys):
    assert cli.main(["explain", "--models", str(scoped), "--host", "a.example", "{}"]) == 0
    assert capsys.readouterr().out.startswith("In scope a.\nPassed on")
    arguments = ["--models", str(scoped), "--scope", "header:x-s", "--in-scope", "a", "{}"]
    assert cli.main(["explain", *arguments]) == 0
    assert capsys.readouterr().out.startswith("In scope a.\nPassed on")
