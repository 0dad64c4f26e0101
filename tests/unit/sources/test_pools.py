import msgspec
import pytest

from bbr.models.steps import finish
from bbr.sources import pools
from bbr.sources.pools import GROUP, MAX_POOLS, OLD_GROUP, KeptPools, KeptRoutes, Pool, Reference, Serves, serving

BASE = "X-Gateway-Base-Model-Name"
METADATA = {"name": "qwen", "namespace": "models", "creationTimestamp": "2026-01-01T00:00:00Z"}
CREATED = 1767225600.0


def new(spec):
    return msgspec.convert({"metadata": METADATA, "spec": spec}, pools.InferencePool)


def old(spec):
    return msgspec.convert({"metadata": METADATA, "spec": spec}, pools.OldInferencePool)


def route(*rules, namespace="models"):
    value = {"metadata": {"name": "r", "namespace": namespace}, "spec": {"rules": list(rules)}}
    return msgspec.convert(value, pools.ServingRoute)


def rule(*base_models, header=BASE, type_="Exact", **backend):
    backend = {"kind": "InferencePool", "group": GROUP, "name": "qwen"} | backend
    matches = [{"headers": [{"name": header, "value": each, "type": type_}]} for each in base_models]
    return {"matches": matches, "backendRefs": [backend]}


def test_a_pool_of_either_api_is_read():
    found = new(
        {"selector": {"matchLabels": {"b": "2", "app": "qwen"}}, "targetPorts": [{"number": 80}, {"number": 81}]}
    )
    assert found.pool() == Pool(GROUP, "models", "qwen", CREATED, "app=qwen,b=2", (80, 81))
    found = old({"selector": {"app": "qwen"}, "targetPortNumber": 8000})
    assert found.pool() == Pool(OLD_GROUP, "models", "qwen", CREATED, "app=qwen", (8000,))
    assert found.reduced() is found
    assert str(found.pool().reference) == f"models/qwen ({OLD_GROUP})"
    assert str(found.pool().origin) == "the servers of InferencePool models/qwen"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"selector": {"matchLabels": {}}, "targetPorts": [{"number": 80}]},
        {"selector": {"matchLabels": {"a": "b"}}},
        {"selector": {"matchLabels": {"a": "b"}}, "targetPorts": [{"number": 65536}, {"number": 0}]},
        {"selector": {"matchLabels": {"a": "b,c=d"}}, "targetPorts": [{"number": 80}]},
        {"selector": {"matchLabels": {"a in (b)": "c"}}, "targetPorts": [{"number": 80}]},
    ],
)
def test_a_pool_that_selects_no_pods_or_all_of_them_is_none(spec):
    assert new(spec).pool() is None


def test_an_object_without_a_spec_is_no_pool_and_says_nothing():
    metadata = msgspec.convert(METADATA, pools.Metadata)
    assert pools.InferencePool(metadata).pool() is None
    assert pools.InferencePool(metadata).reduced().spec is None
    assert pools.OldInferencePool(metadata).pool() is None
    assert pools.serves(pools.ServingRoute(metadata)) == frozenset()
    assert pools.ServingRoute(metadata).reduced().spec.rules == []


def test_ports_are_counted_and_an_object_without_a_date_is_the_oldest():
    spec = {"selector": {"matchLabels": {"a": ""}}, "targetPorts": [{"number": each} for each in range(1, 20)]}
    found = msgspec.convert({"metadata": {"name": "a"}, "spec": spec}, pools.InferencePool).pool()
    assert (found.created, found.selector, found.ports) == (0.0, "a=", tuple(range(1, 9)))


def test_a_route_says_which_base_models_a_pool_serves():
    pool, other = Reference(GROUP, "models", "qwen"), Reference(OLD_GROUP, "other", "phi")
    found = route(
        rule("a", "b", header=BASE.lower()),
        rule("c", group=OLD_GROUP, namespace="other", name="phi"),
        rule("canary", weight=0),
        rule("d", type_="RegularExpression"),
        rule("e", header="X-Gateway-Model-Name"),
        rule("f", kind="Service", group=""),
        rule("g", group="example.com"),
        {},
    )
    assert pools.serves(found) == {Serves(pool, "a"), Serves(pool, "b"), Serves(other, "c")}


def test_what_goes_between_processes_says_the_same():
    found = route(rule("a", "b"), rule("e", header="other"), rule("f", kind="Service"))
    reduced = msgspec.msgpack.decode(msgspec.msgpack.encode(found.reduced()), type=pools.ServingRoute)
    assert pools.serves(reduced) == pools.serves(found) != frozenset()
    assert len(reduced.spec.rules) == 1


def test_so_much_of_a_route_is_looked_at():
    found = route(*(rule(*(f"{number}-{each}" for each in range(100))) for number in range(30)))
    assert len(pools.serves(found)) == pools.MAX_SERVES


def pool(name, created=0.0, group=GROUP):
    return Pool(group, "models", name, created, "a=b", (80,))


def test_pools_serve_what_any_route_says():
    one, two, alone = pool("one", 2.0), pool("two", 1.0), pool("alone")
    routes = {
        "models/r": [Serves(one.reference, "a"), Serves(two.reference, "b")],
        "models/s": [Serves(one.reference, "c"), Serves(Reference(GROUP, "models", "gone"), "d")],
    }
    found = finish(serving([{"models/one": one, "x": None}, {"models/two": two, "models/alone": alone}], routes))
    assert found == {two: {"b"}, one: {"a", "c"}}
    assert list(found) == [two, one]


def test_so_many_pools_are_followed_the_oldest_first():
    several = {str(number): pool(str(number), float(-number)) for number in range(MAX_POOLS + 5)}
    routes = {"r": [Serves(each.reference, "a") for each in several.values()]}
    found = finish(serving([several], routes))
    assert len(found) == MAX_POOLS
    assert next(iter(found)).name == str(MAX_POOLS + 4)


def test_what_is_known_of_a_collection_follows_its_reflector():
    changes = []
    kept = KeptPools(lambda: changes.append(1))
    assert kept.objects is None
    finish(kept.replace({"models/a": pool("a")}))
    kept.put("models/b", pool("b"))
    kept.remove("models/a")
    kept.remove("models/a")
    assert kept.objects == {"models/b": pool("b")}
    assert len(changes) == 3
    spec = {"selector": {"app": "qwen"}, "targetPortNumber": 8000}
    assert kept.read(old(spec)) == old(spec).pool()
    assert KeptRoutes(changes.clear).read(route(rule("a"))) == {Serves(Reference(GROUP, "models", "qwen"), "a")}


def test_many_claims_of_routes_are_looked_at_in_steps():
    pool = Reference(GROUP, "ns", "pool")
    routes = {f"ns/r{number}": [Serves(pool, f"m{each}") for each in range(500)] for number in range(20)}
    several = {f"ns/p{number}": None for number in range(3_000)}
    assert sum(1 for _ in serving([several], routes)) == 10 + 3
