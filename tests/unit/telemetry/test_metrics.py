from bisect import bisect_left

import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.models.entries import Alias, BaseModel, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.registry import Registry
from bbr.models.routing import MissingModel, Route, Rule, Rules, UnknownModel
from bbr.models.steps import finish
from bbr.telemetry import metrics, observed
from bbr.telemetry.metrics import Histogram, Metrics
from bench.harness import messages
from bench.harness.model_tables import merged

TABLE, _ = merged([BaseModel("qwen", ("sql-lora",)), BaseModel("phi")])
HEADERS = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)


def run(counted, body, registry=TABLE, headers=HEADERS, **policy):
    exchange = Exchange(Policy(Replies(), **policy), registry, observed.clock)
    exchange.receive(headers)
    if body is not None:
        exchange.receive(messages.request_body(body, end_of_stream=True))
    exchange.over()
    counted.count(exchange)
    return exchange


SIZES = [0, 1, *(int(bound) + by for bound in metrics.BODY_BOUNDS for by in (-1, 0, 1)), 1 << 40]


@pytest.mark.parametrize("size", SIZES)
def test_a_size_falls_into_the_bucket_of_the_first_bound_that_is_not_below_it(size):
    counted = Metrics()
    exchange = Exchange(Policy(Replies()), TABLE)
    exchange.verdict.body_bytes = size
    counted.count(exchange)
    assert counted.body.buckets.index(1) == bisect_left(metrics.BODY_BOUNDS, size)


def outcomes(counted):
    return {
        name: {str(outcome): number for outcome, number in each.outcomes.items()}
        for name, each in counted.models.items()
    }


def test_requests_are_counted_by_outcome_and_base_model():
    counted = Metrics()
    for body in (
        b'{"model": "sql-lora"}',
        b'{"model": "qwen"}',
        b'{"model": "phi"}',
        b"{}",
        b'{"model": "x"}',
        b"[",
        None,
    ):
        run(counted, body)
    assert outcomes(counted) == {
        "": {"no-model": 1, "refused": 2, "pending": 1},
        "qwen": {"routed": 2},
        "phi": {"routed": 1},
    }
    assert counted.reasons == {("refused", "model-not-found"): 1, ("refused", "invalid-json"): 1}
    assert counted.duration.count == 6
    assert counted.busy.count == 6  # the one that never came is in neither
    assert counted.body.count == 7
    assert (
        counted.body.total
        == sum(map(len, (b'{"model": "sql-lora"}', b'{"model": "qwen"}', b'{"model": "phi"}'))) + 2 + 14 + 1
    )


@pytest.mark.parametrize(
    ("registry", "policy"),
    [
        (Registry(identity=True), {}),
        (TABLE, {"rules": Rules(UnknownModel.PASSTHROUGH)}),
        (TABLE, {"rules": Rules(UnknownModel.EMPTY)}),
    ],
    ids=["no table", "passthrough", "empty"],
)
def test_a_name_that_only_the_client_knows_becomes_no_label(registry, policy):
    counted = Metrics()
    for number in range(100):
        run(counted, b'{"model": "made-up-%d"}' % number, registry, **policy)
    assert outcomes(counted) == {"": {"routed": 100}}


@pytest.mark.parametrize("unknown", UnknownModel)
def test_an_unknown_model_is_noted_whatever_becomes_of_its_request(unknown):
    counted = Metrics()
    exchange = run(counted, b'{"model": "x"}', rules=Rules(unknown, default_model="phi"))
    run(counted, b'{"model": "phi"}', rules=Rules(unknown, default_model="phi"))
    assert [(each.name, each.times) for each in counted.unknown.since(exchange.times.began)] == [("x", 1)]


def test_without_a_table_or_a_name_no_model_is_unknown():
    counted = Metrics()
    exchange = run(counted, b'{"model": "x"}', Registry(identity=True))
    run(counted, b"{}", rules=Rules(missing_model=MissingModel.DEFAULT, default_model="phi"))
    assert counted.models["phi"].outcomes == {Outcome.ROUTED: 1}
    assert counted.unknown.since(exchange.times.began) == []


def test_a_default_model_is_one_of_the_table():
    counted = Metrics()
    run(counted, b'{"model": "x"}', rules=Rules(UnknownModel.DEFAULT, default_model="phi"))
    assert outcomes(counted) == {"": {}, "phi": {"routed": 1}}


def test_a_table_that_never_stops_changing_is_bounded():
    counted = Metrics(max_base_models=3)
    for number in range(10):
        table, _ = merged([BaseModel(f"m{number}")])
        run(counted, b'{"model": "m%d"}' % number, table)
    assert outcomes(counted) == {"": {"routed": 7}, **{f"m{number}": {"routed": 1} for number in range(3)}}


def test_what_few_requests_have():
    counted = Metrics()
    run(counted, b'{"model": "x"}')
    run(counted, b'{"model": "x"}')
    exchange = Exchange(Policy(Replies()), TABLE, observed.clock)
    exchange.receive(HEADERS)
    exchange.receive(messages.request_body(b'{"model": "phi"}', end_of_stream=True))
    exchange.receive(messages.request_body(b"", end_of_stream=True))
    exchange.verdict.early = True
    counted.count(exchange)
    assert (counted.early, counted.late_bodies) == (1, 1)
    ((name, times, _),) = counted.unknown.since(exchange.times.began)
    assert (name, times) == ("x", 2)


def test_a_refused_model_of_which_no_name_is_known_is_not_noted():
    counted = Metrics()
    exchange = run(counted, b"{}")
    exchange.verdict.reason = "model-not-found"
    counted.count(exchange)
    assert counted.unknown.since(exchange.times.began) == []


def test_buckets_include_their_bound():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.add(value)
    assert (histogram.buckets, histogram.total, histogram.count) == ([2, 2, 1], 7.5, 5)


@pytest.mark.parametrize(
    ("share", "bound"), [(0.0, 1.0), (0.5, 1.0), (0.51, 2.0), (0.9, 2.0), (0.91, float("inf")), (1.0, float("inf"))]
)
def test_quantiles_are_bounds(share, bound):
    histogram = Histogram((1.0, 2.0))
    histogram.buckets = [5, 4, 1]
    assert histogram.quantile(share) == bound


def test_nothing_has_no_quantile():
    assert Histogram((1.0,)).quantile(0.5) is None


def test_a_route_by_the_table_is_counted_for_its_base_model_and_no_rule_is_forgotten():
    by_name = {Rule.NO_TABLE, Rule.UNKNOWN_PASSTHROUGH, Rule.UNKNOWN_EMPTY}
    for rule in Rule:
        counted = Metrics()
        exchange = Exchange(Policy(Replies()), TABLE, observed.clock)
        exchange.verdict.route = Route("asked", "base", rule)
        counted.count(exchange)
        assert ("base" in counted.models) == (rule not in by_name), rule


def responded(counted, body, registry=TABLE, **policy):
    exchange = Exchange(Policy(Replies(), **policy), registry, observed.clock)
    exchange.receive(HEADERS)
    exchange.receive(messages.request_body(body, end_of_stream=True))
    exchange.receive(messages.response_body(b"{}", end_of_stream=True))
    counted.count(exchange)


def test_responses_are_timed_by_models_of_the_table():
    counted = Metrics()
    run(counted, b'{"model": "qwen"}')  # whose response the gateway does not show
    for body in (b'{"model": "qwen"}', b'{"model": "sql-lora"}', b'{"model": "qwen"}', b"{}"):
        responded(counted, body)
    responded(counted, b'{"model": "of a client"}', rules=Rules(UnknownModel.EMPTY))
    responded(counted, b'{"model": "of a client"}', registry=Registry())
    assert {model: histogram.count for model, histogram in counted.responses.items()} == {
        "qwen": 2,
        "sql-lora": 1,
        "": 3,
    }
    assert 0 < counted.responses["qwen"].total < 60


def test_aliases_are_counted_by_their_pattern():
    table, _ = finish(merging([Declaration(Origin(), (BaseModel("phi"),), (Alias("gpt-*", "phi"),))]))
    counted = Metrics()
    for number in range(3):
        run(counted, b'{"model": "gpt-%d"}' % number, table)
    assert counted.aliases == {("gpt-*", "phi"): 3}


def test_responses_for_names_that_fit_a_pattern_are_timed_by_that():
    table, _ = finish(merging([Declaration(Origin(), (BaseModel("qwen", ("team-*",)),))]))
    counted = Metrics()
    for number in range(3):
        responded(counted, b'{"model": "team-%d"}' % number, registry=table)
    assert {model: histogram.count for model, histogram in counted.responses.items()} == {"team-*": 3}


def test_models_of_responses_are_bounded():
    counted = Metrics(max_base_models=1)
    for model in (b"qwen", b"phi", b"sql-lora", b"qwen"):
        responded(counted, b'{"model": "%s"}' % model)
    assert {model: histogram.count for model, histogram in counted.responses.items()} == {"qwen": 2, "": 2}


@pytest.mark.parametrize("took", [0.05, 30.0, 31.0])
def test_a_response_falls_into_the_payload_processors_buckets(took):
    counted = Metrics()
    exchange = Exchange(Policy(Replies()), TABLE)
    exchange.times.responded = exchange.times.began + took
    counted.count(exchange)
    assert counted.responses[""].buckets.index(1) == bisect_left(metrics.RESPONSE_BOUNDS, took)


def test_aliases_are_counted_by_what_they_stood_for():
    models = (BaseModel("qwen", ("sql",)), BaseModel("phi"))
    weights = (("sql", 1), ("phi", 1))
    table, _ = finish(merging([Declaration(Origin(), models, (Alias("a", "sql", weights), Alias("b", "phi")))]))
    draws = iter([0.0, 0.9, 0.9])
    rules = Rules(draw=lambda: next(draws))
    counted = Metrics()
    for name in ("a", "a", "a", "b", "qwen"):
        run(counted, b'{"model": "%s"}' % name.encode(), table, rules=rules)
    assert counted.aliases == {("a", "sql"): 1, ("a", "phi"): 2, ("b", "phi"): 1}
    assert outcomes(counted)["phi"] == {"routed": 3}
    counted = Metrics(max_alias_pairs=0)
    run(counted, b'{"model": "b"}', table)
    run(counted, b'{"model": "b"}', table)
    assert counted.aliases == {("", ""): 2}


def test_adapters_are_counted_by_their_names_or_patterns():
    registry, _ = merged([BaseModel("qwen", ("sql-lora", "team-*")), BaseModel("phi")])
    counted = Metrics()
    for model in ("sql-lora", "team-a", "team-b", "qwen", "phi", "x", "sql-lora"):
        run(counted, b'{"model": "%s"}' % model.encode(), registry)
    assert counted.adapters == {"sql-lora": 2, "team-*": 2}


def test_adapters_beyond_the_bound_count_as_one():
    registry, _ = merged([BaseModel("qwen", tuple("abcd"))])
    counted = Metrics(max_adapters=2)
    for model in "abcdab":
        run(counted, b'{"model": "%s"}' % model.encode(), registry)
    assert counted.adapters == {"a": 2, "b": 2, "": 2}


def asking(host):
    return messages.request_headers({**messages.JSON_POST, ":authority": host}, mode=BodyMode.FULL_DUPLEX_STREAMED)


def test_requests_are_counted_by_declared_scopes():
    table, _ = finish(merging([Declaration(Origin(), (BaseModel("phi"),), scope="a", hosts=("a.example",))]))
    counted = Metrics()
    for host, model in (("a.example", "phi"), ("a.example", "x"), ("other.example", "phi"), ("evil", "phi")):
        run(counted, b'{"model": "%s"}' % model.encode(), table, asking(host))
    assert counted.scopes == {("a", "routed"): 1, ("a", "refused"): 1}


def test_so_many_scopes_are_counted():
    table, _ = finish(merging([Declaration(Origin(), (BaseModel("phi"),), scope="a", hosts=("a.example",))]))
    counted = Metrics(max_scope_pairs=0)
    run(counted, b'{"model": "phi"}', table, asking("a.example"))
    assert counted.scopes == {("", ""): 1}
