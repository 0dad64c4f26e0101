import msgspec

from bbr.sources.http_routes import EXACT, Backend, Header, Match, Route, RouteSpec, Rule

METADATA = {"name": "chat", "namespace": "models"}


def read(**spec):
    return msgspec.json.decode(msgspec.json.encode({"metadata": METADATA, **spec}), type=Route)


def test_a_route_is_its_rules():
    header = {"name": "x-model", "value": "qwen"}
    rules = [{"matches": [{"headers": [header]}, {}, {"headers": None}], "backendRefs": [{"name": "a", "weight": 0}]}]
    route = read(spec={"hostnames": ["example.com"], "rules": rules})
    (rule,) = route.rules
    assert list(rule.headers()) == [Header("x-model", "qwen", EXACT)]
    assert rule.backend_refs == [Backend("a", "Service", "", None, 0)]


def test_without_rules_there_are_none():
    assert [read(**fields).rules for fields in ({}, {"spec": {}}, {"spec": {"rules": None}})] == [()] * 3
    assert list(Rule().headers()) == []


def test_it_is_the_same_after_another_process():
    route = Route(read().metadata, RouteSpec([Rule([Match([Header("a", "b")])], [Backend("c")])]))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(route), type=Route) == route
