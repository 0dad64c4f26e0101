import asyncio
import json
import os

import pytest

from bbr import __version__
from bbr.admin.endpoints import endpoints
from bbr.admin.http import Request
from bbr.admin.window import Window
from bbr.config import settings as config
from bbr.sources.routes import Mismatches, Unknown
from bbr.system.supervisor import Failures
from bench.harness.certificates import Authority
from bench.harness.vitals import vitals


def ask(of, path, headers=None, query=None):
    return asyncio.run(endpoints(of, Window(of.metrics))[path](Request(path, headers or {}, query or {})))


def get(of, path, **headers):
    answer = ask(of, path, headers)
    return answer.status, answer.content_type, b"".join(answer.body).decode()


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "a.yaml").write_text("models: [{name: qwen, adapters: [sql-lora]}]\naliases: {best: qwen}\n")
    (tmp_path / "b.yaml").write_text("models: [{name: phi, adapters: [sql-lora]}]\n")
    return tmp_path


def test_the_status_page_and_what_it_shows(directory):
    of = vitals(directory)
    answer = ask(of, "/", query={"q": " sql "})
    assert (answer.status, answer.content_type) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in dict(answer.headers)["content-security-policy"]
    assert 'name="q" value="sql"' in b"".join(answer.body).decode()
    answer = ask(of, "/status.json", query={"q": "qwen", "after": "qwen"})
    assert (answer.status, answer.content_type) == (200, "application/json")
    names = json.loads(b"".join(answer.body))["names"]
    assert (names["query"], names["after"]) == ("qwen", "qwen")
    assert [row["name"] for row in names["rows"]] == ["sql-lora", "best"]


def test_a_long_search_is_cut(directory):
    answer = ask(vitals(directory), "/status.json", query={"q": "x" * 5000})
    assert json.loads(b"".join(answer.body))["names"]["query"] == "x" * 512


def test_the_page_of_help():
    answer = ask(vitals(), "/help")
    assert (answer.status, answer.content_type) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in dict(answer.headers)["content-security-policy"]
    assert 'id="r-model-not-found"' in b"".join(answer.body).decode()


def test_metrics_by_accept():
    status, content_type, text = get(vitals(), "/metrics")
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "\nbbr_ready 1.0\n" in text
    _, content_type, text = get(vitals(), "/metrics", accept="application/openmetrics-text;version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("\n# EOF\n")


def test_health_and_readiness():
    of = vitals()
    assert get(of, "/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
    assert get(of, "/readyz")[::2] == (200, "ready\n")
    of.supervisor.failures["certificates"] = Failures(1, "MemoryError")
    trouble = "certificates: it keeps failing (MemoryError) and is restarted each time"
    assert get(of, "/readyz")[::2] == (200, f"ready\n{trouble}\n")
    of.serving.stop()
    assert get(of, "/readyz")[::2] == (503, "not ready: it is shutting down: running requests may finish\n")
    assert get(of, "/healthz")[0] == 200


def test_models(directory, monkeypatch):
    monkeypatch.setattr("bbr.admin.endpoints._ROWS_AT_ONCE", 1)
    of = vitals(directory)
    found = json.loads(get(of, "/debug/models")[2])
    declared_by = {"kind": "file", "namespace": "", "name": str(directory / "a.yaml"), "line": 1}
    assert len(found["models"]) == 4
    assert {each["name"]: each["base_model"] for each in found["models"]} == {
        **dict.fromkeys(("qwen", "sql-lora", "best"), "qwen"),
        "phi": "phi",
    }
    assert next(each for each in found["models"] if each["name"] == "qwen") == {
        "name": "qwen",
        "scope": None,
        "kind": "base model",
        "base_model": "qwen",
        "alias_of": None,
        "shares": [],
        "pattern": False,
        "declared_by": declared_by,
        "allow": None,
    }
    assert [each["name"] for each in found["conflicts"]] == ["sql-lora"]
    assert found["synced"] is True
    assert found["age_seconds"] >= 0
    assert found["unrouted_base_models"] == found["unknown_models_in_routes"] == []


@pytest.mark.parametrize("allow", ["", "allow: {a0: [team]}\n"], ids=["for everyone", "with lists"])
def test_models_and_ignored_claims_are_given_a_few_at_a_time(tmp_path, allow):
    names = ", ".join(f"a{number}" for number in range(1000))
    (tmp_path / "1.yaml").write_text(f"models: [{{name: qwen, adapters: [{names}]}}]\n{allow}")
    (tmp_path / "2.yaml").write_text(f"models: [{{name: phi, adapters: [{names}]}}]")
    answer = ask(vitals(tmp_path), "/debug/models")
    pieces = list(answer.body)
    found = json.loads(b"".join(pieces))
    assert (len(found["models"]), len(found["conflicts"])) == (1002, 1000)
    # All ignored claims at once took 0.6 s when they were 100,000.
    assert max(piece.count(b'"declared_by"') for piece in pieces) <= 2 * 100
    assert max(piece.count(b'"allow"') for piece in pieces) <= (5 if allow else 100)


def test_models_of_a_file_whose_name_is_no_text(tmp_path):
    name = os.fsdecode(b"\xff.yaml")
    (tmp_path / name).write_text("models: [{name: qwen}]")
    found = json.loads(get(vitals(tmp_path), "/debug/models")[2])
    assert found["models"][0]["declared_by"]["name"] == str(tmp_path / "\\udcff.yaml")


def test_models_without_a_table_and_with_mismatches(monkeypatch):
    of = vitals()
    unfit = Mismatches(("phi",), (Unknown("X-Gateway-Model-Name", "x", "HTTPRoute default/x"),))
    monkeypatch.setattr(type(of.sources), "mismatches", property(lambda _: unfit))
    found = json.loads(get(of, "/debug/models")[2])
    assert (found["identity"], found["models"]) == (True, [])
    assert found["unrouted_base_models"] == ["phi"]
    assert found["unknown_models_in_routes"] == [str(unfit.unknown[0])]


def test_config_shows_every_setting(tmp_path):
    (tmp_path / "ca.crt").write_bytes(Authority().root_pem)
    flags = {
        "secure_serving": "true",
        "tls_client_ca": str(tmp_path / "ca.crt"),
        "tls_client_san": "*.example,spiffe://a/*",
        "include_path": "/v1/**",
        "query_model_path": "/a,/b",
        "path_template": "/m/{model}/x",
        "unknown_model": "empty",
        "assume_body_mode": "buffered",
    }
    found = json.loads(get(vitals(**flags), "/debug/config")[2])
    assert (found["version"], found["started"]) == (__version__, 1_700_000_000.0)
    settings = found["settings"]
    assert settings.keys() == config.OPTIONS.keys()
    assert settings["include_path"] == ["/v1/**"]
    assert settings["query_model_path"] == ["/a", "/b"]
    assert settings["path_template"] == ["/m/{model}/x"]
    assert settings["unknown_model"] == "empty"
    assert settings["assume_body_mode"] == "buffered"
    assert settings["max_body_bytes"] == 64 << 20
    assert settings["tls_key"] is None
    assert settings["tls_client_ca"] == str(tmp_path / "ca.crt")
    assert settings["tls_client_san"] == ["*.example", "spiffe://a/*"]
