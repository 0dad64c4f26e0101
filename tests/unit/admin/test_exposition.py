import json
from dataclasses import replace

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as strict

from bbr import __version__, built
from bbr.admin import exposition
from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.reading.fields import BodyField, BodyFields
from bbr.sources.routes import Mismatches, Unknown
from bbr.system.supervisor import Failures
from bbr.telemetry import observed
from bbr.telemetry.field_counts import RESULTS, FieldCounts
from bbr.telemetry.genai import FIRST_TOKEN_BOUNDS, GenAi, Requests
from bbr.telemetry.metrics import RESPONSE_BOUNDS, Histogram, ModelCounts
from bbr.transports.serving import TransportCounts
from bench.harness import messages
from bench.harness.vitals import NOT_AFTER, vitals
from tests.support.steps import lines

OPEN_METRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
MODELS = "models:\n  - {name: qwen, adapters: [sql-lora]}\n  - {name: phi}\n"


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text(MODELS)
    return path


def run(of, body):
    exchange = Exchange(Policy(Replies()), of.sources.table.registry, observed.clock)
    exchange.receive(messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED))
    exchange.receive(messages.request_body(body, end_of_stream=True))
    of.metrics.count(exchange)


def scrape(of, accept=""):
    """Return every sample: (name, labels) -> value."""
    content_type, pieces = exposition.expose(of, accept)
    text = b"".join(pieces).decode()
    parse = parser.text_string_to_metric_families
    if content_type.startswith("application/openmetrics-text"):
        parse = strict.text_string_to_metric_families
    found = {}
    for family in parse(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def value(found, name, **labels):
    return found[name, tuple(sorted(labels.items()))]


@pytest.mark.parametrize("accept", ["", "*/*", OPEN_METRICS])
def test_everything_is_there_in_either_format(model_file, accept):
    of = vitals(model_file, secure_serving="true")
    for body in (b'{"model": "sql-lora"}', b'{"model": "phi"}', b"{}", b'{"model": ""}', b"[", b'{"model": "x"}'):
        run(of, body)
    of.metrics.running = 4
    of.metrics.aliases["gpt", "qwen"] = 7
    of.metrics.scopes["team-a", "routed"] = 6
    of.ledger.take(100)
    assert not of.ledger.take(1000)
    of.supervisor.failures |= {"model files": Failures(3, "MemoryError"), "model table": Failures(1)}
    found = scrape(of, accept)
    assert value(found, "bbr_requests_total", outcome="routed", base_model="qwen") == 1
    assert value(found, "bbr_requests_total", outcome="routed", base_model="phi") == 1
    assert value(found, "bbr_requests_total", outcome="no-model", base_model="") == 1
    assert value(found, "bbr_requests_total", outcome="refused", base_model="") == 3
    assert value(found, "bbr_request_reasons_total", outcome="refused", reason="model-not-found") == 1
    assert value(found, "bbr_alias_requests_total", alias="gpt", model="qwen") == 7
    assert value(found, "bbr_scope_requests_total", scope="team-a", outcome="routed") == 6
    assert value(found, "bbr_request_duration_seconds_count") == 6
    assert value(found, "bbr_request_busy_seconds_bucket", le="+Inf") == 6
    assert value(found, "bbr_request_body_bytes_sum") == of.metrics.body.total
    assert value(found, "bbr_request_body_bytes_bucket", le="1024.0") == 6
    assert value(found, "bbr_buffered_bytes") == 100
    assert value(found, "bbr_buffered_bytes_peak") == 100
    assert value(found, "bbr_buffered_bytes_limit") == 1000
    assert value(found, "bbr_buffer_refusals_total") == 1
    assert value(found, "bbr_connections") == 1
    assert value(found, "bbr_connections_opened_total") == 2
    assert value(found, "bbr_connections_turned_away_total") == 3
    assert value(found, "bbr_streams") == 4
    assert value(found, "bbr_connection_failures_total", layer="HTTP/2", reason="preface") == 5
    assert value(found, "bbr_stream_resets_total", reason="refused") == 6
    assert value(found, "bbr_models") == 3
    assert value(found, "bbr_base_models") == 2
    assert value(found, "bbr_table_synced") == 1
    assert value(found, "bbr_table_age_seconds") >= 0
    assert value(found, "bbr_table_reloads_total") == 1
    assert value(found, "bbr_ready") == 1
    for source in ("model files", "model table", "certificates"):
        assert 0 <= value(found, "bbr_source_age_seconds", source=source) < 60
    assert value(found, "bbr_task_restarts_total", task="model files") == 3
    assert value(found, "bbr_task_failing", task="model files") == 1
    assert value(found, "bbr_task_restarts_total", task="model table") == 1
    assert value(found, "bbr_task_failing", task="model table") == 0
    assert value(found, "bbr_certificate_expiry_timestamp_seconds") == NOT_AFTER.timestamp()
    ((labels, one),) = [(dict(key[1]), each) for key, each in found.items() if key[0] == "bbr_build_info"]
    assert (labels["version"], labels["transport"], labels["build"], one) == (__version__, "uv", built.HOW, 1)
    assert value(found, "process_open_fds") > 0
    assert value(found, "process_resident_memory_bytes") > 1 << 20
    assert value(found, "python_gc_collections_total", generation="0") >= 0


def test_fields_of_the_body():
    of = vitals()
    assert not [key for key in scrape(of) if key[0].startswith("bbr_body_fields")]
    counts = FieldCounts(BodyFields([BodyField("user", "X-User"), BodyField("a.b", "x-b")], 0))
    counts.requests[1, "refused"] = 3
    found = scrape(replace(of, body_fields=counts))
    assert value(found, "bbr_body_fields_total", field="a.b", header="x-b", result="refused") == 3
    for result in RESULTS:
        assert value(found, "bbr_body_fields_total", field="user", header="X-User", result=result) == 0


def test_what_follows_a_cluster(tmp_path):
    config = {"current-context": "x", "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}]}
    config["contexts"] = [{"name": "x", "context": {"cluster": "x"}}]
    (tmp_path / "config").write_text(json.dumps(config))
    of = vitals(kubernetes="true", kubeconfig=str(tmp_path / "config"), discover_routes="true")
    source = of.sources.kubernetes.reflectors[0]
    source.lists_total, source.failures_total, source.failing = 4, 7, "401: Unauthorized"
    found = scrape(of)
    assert value(found, "bbr_source_lists_total", source=source.what) == 4
    assert value(found, "bbr_source_failures_total", source=source.what) == 7
    assert value(found, "bbr_source_lists_total", source="HTTPRoutes") == 0
    assert value(found, "bbr_source_age_seconds", source="HTTPRoutes") >= 0
    assert value(found, "bbr_source_failing", source=source.what) == 1
    assert value(found, "bbr_source_failing", source="HTTPRoutes") == 0


def test_what_asks_model_servers(tmp_path):
    config = {"current-context": "x", "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}]}
    config["contexts"] = [{"name": "x", "context": {"cluster": "x"}}]
    (tmp_path / "config").write_text(json.dumps(config))
    of = vitals(kubernetes="true", kubeconfig=str(tmp_path / "config"), discover_adapters="true")
    of.sources.discovery.polls["timeout"] = 3
    of.sources.discovery.adapters = 5
    found = scrape(of)
    assert value(found, "bbr_discovery_polls_total", result="timeout") == 3
    assert value(found, "bbr_discovery_polls_total", result="ok") == 0
    assert value(found, "bbr_discovery_adapters") == 5
    assert value(found, "bbr_discovery_pools") == 0
    assert value(found, "bbr_discovery_servers", state="answering") == 0
    assert value(found, "bbr_discovery_refused", reason="contested") == 0
    assert value(found, "bbr_source_failing", source="model servers") == 0
    assert value(found, "bbr_source_lists_total", source="InferencePools") == 0


@pytest.mark.parametrize("prefix", ["bbr", "ipp"])
def test_the_go_routers_names(model_file, prefix):
    of = vitals(model_file)
    for body in (b'{"model": "sql-lora"}', b"{}", b"{}", b'{"model": ""}', b"[", b"\xff", b'{"model": "x"}'):
        run(of, body)
    found = scrape(of)
    assert value(found, f"{prefix}_info", commit="", build_ref=__version__) == 1
    assert value(found, f"{prefix}_success_total") == 3
    assert value(found, f"{prefix}_body_field_not_found_total", field="model") == 2
    assert value(found, f"{prefix}_body_field_empty_total", field="model") == 1
    assert value(found, "bbr_model_not_in_body_total") == 2
    assert value(found, "bbr_model_not_parsed_total") == 2
    plugin = {
        "extension_point": "request",
        "plugin_type": "body-field-to-header",
        "plugin_name": "body-field-to-header",
    }
    bounds = sorted(
        float(dict(labels)["le"]) for name, labels in found if name == f"{prefix}_plugin_duration_seconds_bucket"
    )
    assert bounds == [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, float("inf")]
    assert value(found, f"{prefix}_plugin_duration_seconds_bucket", le="+Inf", **plugin) == 7
    assert value(found, f"{prefix}_plugin_duration_seconds_sum", **plugin) == pytest.approx(of.metrics.busy.total)


def test_responses_are_told_by_model(model_file):
    of = vitals(model_file)
    assert not [name for name, _ in scrape(of) if name.startswith("ipp_request_ttft")]
    for number in range(20):
        of.metrics.responses[f"model-{number}"] = histogram = Histogram(RESPONSE_BOUNDS)
        histogram.add(0.3)
    found = scrape(of)
    assert value(found, "ipp_request_ttft_seconds_bucket", le="0.2", model="model-7") == 0
    assert value(found, "ipp_request_ttft_seconds_bucket", le="0.5", model="model-19") == 1
    assert value(found, "ipp_request_ttft_seconds_sum", model="model-0") == 0.3
    assert value(found, "ipp_request_ttft_seconds_count", model="model-0") == 1


def test_what_a_transport_does_not_tell_is_not_there():
    found = scrape(vitals(counts=TransportCounts()))
    names = {name for name, _ in found}
    assert value(found, "bbr_streams") == 0
    assert not any(name.startswith(("bbr_connection", "bbr_certificate", "bbr_route")) for name in names)


def test_mismatches_of_routes(monkeypatch):
    of = vitals()
    unfit = Mismatches(("phi",), (Unknown("X-Gateway-Model-Name", "x", "HTTPRoute default/x"),) * 2)
    monkeypatch.setattr(type(of.sources), "mismatches", property(lambda _: unfit))
    found = scrape(of)
    assert value(found, "bbr_route_mismatches", kind="unrouted-base-model") == 1
    assert value(found, "bbr_route_mismatches", kind="unknown-model-in-route") == 2


def test_many_samples_come_in_many_pieces_and_are_one_family(model_file):
    of = vitals(model_file)
    for number in range(1000):
        of.metrics.reasons["refused", f"reason-{number}"] = number
    for accept in ("", OPEN_METRICS):
        content_type, pieces = exposition.expose(of, accept)
        lengths = [sum(not line.startswith(b"#") for line in piece.splitlines()) for piece in pieces]
        assert max(lengths) == 100
        # Families of few samples count as more.
        assert sum(lengths) // 100 < len(lengths) < sum(lengths) // 100 + 8
        found = scrape(of, accept)
        assert value(found, "bbr_request_reasons_total", outcome="refused", reason="reason-999") == 999
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")


def test_what_the_system_knows_may_be_asked_elsewhere(model_file, monkeypatch):
    given = exposition.of_system()
    monkeypatch.setattr(exposition, "of_system", lambda: pytest.fail("asked again"))
    of = vitals(model_file)
    text = b"".join(exposition.expose(of, "", given)[1])
    assert b"\nprocess_open_fds " in text
    assert b"\npython_gc_collections_total{" in text


def test_of_many_counts_no_piece_is_long(model_file):
    of = vitals(model_file)
    for number in range(2000):
        of.metrics.models[f"m{number}"] = counts = ModelCounts()
        counts.outcomes.update({Outcome.ROUTED: 1, Outcome.NO_MODEL: 2})
        of.metrics.responses[f"m{number}"] = Histogram(RESPONSE_BOUNDS)
    pieces = exposition.expose(of, "")[1]
    made: list[bytes | None] = []
    longest = 0
    while None not in made:
        longest = max(longest, lines(lambda: made.append(next(pieces, None))))
    assert longest < 3_000  # to add the outcomes up once more were 4,000
    text = b"".join(filter(None, made))
    assert b"\nbbr_success_total 6000.0\n" in text
    assert b'\nipp_body_field_not_found_total{field="model"} 4000.0\n' in text


@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
def test_the_counts_of_many_base_models_are_taken_a_few_at_a_time_and_are_one_family(model_file, accept):
    of = vitals(model_file)
    for number in range(1000):
        of.metrics.models[f"m{number}"] = counts = ModelCounts()
        counts.outcomes[Outcome.ROUTED] = number
    family, *_ = families = [each for each in exposition.families(of) if each.name == "bbr_requests"]
    assert max(len(each.samples) for each in families) == 50
    _, pieces = exposition.expose(of, accept)
    assert b"".join(pieces).count(family.documentation.encode()) == 1
    assert value(scrape(of, accept), "bbr_requests_total", outcome="routed", base_model="m999") == 999


@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
@pytest.mark.parametrize(
    ("name", "labels"), [("bbr_scope_requests", ("scope", "outcome")), ("bbr_alias_requests", ("alias", "model"))]
)
def test_many_scopes_and_aliases_are_taken_a_few_at_a_time_and_are_one_family(model_file, name, labels, accept):
    of = vitals(model_file)
    counts = of.metrics.scopes if labels[0] == "scope" else of.metrics.aliases
    for number in range(950):
        counts[f"s{number}", "routed"] = number
    families = [each for each in exposition.families(of) if each.name == name]
    assert [len(each.samples) for each in families] == [100] * 9 + [50]
    _, pieces = exposition.expose(of, accept)
    assert b"".join(pieces).count(families[0].documentation.encode()) == 1
    assert value(scrape(of, accept), f"{name}_total", **dict(zip(labels, ("s949", "routed"), strict=True))) == 949
    counts.clear()
    assert [len(each.samples) for each in exposition.families(of) if each.name == name] == [0]


def test_a_model_name_is_escaped(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text('models: [{name: "q\\"w\\\\e é"}]\n')
    of = vitals(path)
    run(of, '{"model": "q\\"w\\\\e é"}'.encode())
    for accept in ("", OPEN_METRICS):
        assert value(scrape(of, accept), "bbr_requests_total", outcome="routed", base_model='q"w\\e é') == 1


@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
def test_counts_by_the_conventions_for_generative_ai(model_file, accept):
    of = replace(vitals(model_file), genai=GenAi())
    for number in range(exposition._SAMPLES_AT_ONCE + 1):
        of.genai.requests[Requests("chat", "openai", f"lora-{number}", "", "qwen", "")] = number
    labels = Requests("chat", "openai", "sql-lora", "sql-lora", "qwen", "")
    of.genai.requests[labels] = 7
    of.genai.first_token[labels] = histogram = Histogram(FIRST_TOKEN_BOUNDS)
    histogram.add(0.3)
    found = scrape(of, accept)
    told = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "openai",
        "gen_ai_request_model": "sql-lora",
        "bbr_routed_model": "sql-lora",
        "bbr_base_model": "qwen",
    }
    assert value(found, "bbr_gen_ai_requests_total", **told, error_type="") == 7
    assert value(found, "gen_ai_server_time_to_first_token_seconds_bucket", **told, le="0.25") == 0
    assert value(found, "gen_ai_server_time_to_first_token_seconds_bucket", **told, le="0.5") == 1
    assert sum(name == "bbr_gen_ai_requests_total" for name, _ in found) == exposition._SAMPLES_AT_ONCE + 2


def test_without_the_flag_nothing_of_generative_ai_is_exposed(model_file):
    assert not [name for name, _ in scrape(vitals(model_file)) if "gen_ai" in name]


@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
def test_a_label_that_is_no_text_costs_no_other_sample(model_file, accept):
    of = vitals(model_file)
    of.supervisor.failures["a\udcff"] = Failures(3, "")
    text = b"".join(exposition.expose(of, accept)[1]).decode()
    assert 'bbr_task_restarts_total{task="a\\\\udcff"} 3.0\n' in text
    assert "bbr_ready 1.0\n" in text


def test_a_label_that_looks_like_a_heading_stays_within_its_sample(model_file):
    of = vitals(model_file)
    of.metrics.aliases.update({("a\r# b", str(number)): 1 for number in range(250)})
    text = b"".join(exposition.expose(of, "")[1]).decode()
    assert text.count('{alias="a\r# b",model="') == 250
