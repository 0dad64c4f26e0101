import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbr.models.entries import Alias, BaseModel, Conflict, Declaration, Entry, Kind, Origin, Share
from bbr.models.merging import MAX_SCOPES, merging
from bbr.models.patterns import MAX_PATTERNS
from bbr.models.steps import finish
from bench.harness.model_tables import merged
from tests.support.model_tables import LLAMA, QWEN, base_model_of, in_scope, meanings, merge

A, B, C = (Entry(name, Kind.ADAPTER, Origin()) for name in "abc")
BASE_A, BASE_B = (Entry(name, Kind.BASE_MODEL, Origin()) for name in "ab")

MERGED = [
    pytest.param([QWEN, LLAMA], ("qwen", "llama"), [], id="two"),
    pytest.param([LLAMA, QWEN], ("llama", "qwen"), [], id="two, the other way round"),
    pytest.param([QWEN, BaseModel("qwen", ("more",))], ("qwen",), [], id="one in two parts"),
    pytest.param([BaseModel("a", ("a", "x", "x"))], ("a",), [], id="repeats within one"),
    pytest.param(
        [BaseModel("a", ("x",)), BaseModel("b", ("x",))],
        ("a", "b"),
        [Conflict("x", A, B)],
        id="an adapter belongs to the first that claims it",
    ),
    pytest.param(
        [BaseModel("b", ("x",)), BaseModel("a", ("x",))],
        ("b", "a"),
        [Conflict("x", B, A)],
        id="precedence is order, not name",
    ),
    pytest.param(
        [BaseModel("a", ("b",)), BaseModel("b")],
        ("a", "b"),
        [Conflict("b", BASE_B, A)],
        id="a base model means itself, though claimed before",
    ),
    pytest.param(
        [BaseModel("a", ("b",)), BaseModel("b", ("a",))],
        ("a", "b"),
        [Conflict("b", BASE_B, A), Conflict("a", BASE_A, B)],
        id="base models that claim each other",
    ),
    pytest.param(
        [BaseModel("a", ("x", "y")), BaseModel("b", ("y", "x")), BaseModel("c", ("x",))],
        ("a", "b", "c"),
        [Conflict("y", A, B), Conflict("x", A, B), Conflict("x", A, C)],
        id="conflicts in the order found",
    ),
]


@pytest.mark.parametrize(("models", "base_models", "conflicts"), MERGED)
def test_merge(models, base_models, conflicts):
    registry, found = merged(models)
    assert registry.base_models == base_models
    assert found == conflicts
    for conflict in conflicts:
        assert registry.find(conflict.name) == conflict.kept


def config_map(name, model, *adapters, created=0.0, namespace="default"):
    return Declaration(Origin("ConfigMap", name, namespace, created), (BaseModel(model, adapters),))


CLAIMANTS = [
    pytest.param(("b", 1.0, "ns"), ("a", 2.0, "ns"), id="the older object wins"),
    pytest.param(("b", 1.0, "a"), ("a", 1.0, "b"), id="of one age: the first namespace"),
    pytest.param(("a", 1.0, "ns"), ("b", 1.0, "ns"), id="of one namespace: the first name"),
]


@pytest.mark.parametrize(("winner", "loser"), CLAIMANTS)
@pytest.mark.parametrize("turned", [False, True], ids=["given first", "given last"])
def test_precedence_of_objects(winner, loser, turned):
    declarations = [
        config_map(name, model, "x", created=created, namespace=namespace)
        for model, (name, created, namespace) in (("wins", winner), ("loses", loser))
    ]
    registry, conflicts = merge(*(reversed(declarations) if turned else declarations))
    assert base_model_of(registry, "x") == "wins"
    assert registry.base_models == ("wins", "loses")
    assert [(conflict.kept.base_model, conflict.refused.base_model) for conflict in conflicts] == [("wins", "loses")]


def test_files_come_before_all_other_objects_and_lines_before_later_lines():
    young = config_map("a", "of-map", "x", created=1.0)
    first = Declaration(Origin("file", "z.yaml", line=2), (BaseModel("line-2", ("x",)),))
    second = Declaration(Origin("file", "z.yaml", line=10), (BaseModel("line-10", ("x",)),))
    registry, conflicts = merge(second, young, first)
    assert registry.base_models == ("line-2", "line-10", "of-map")
    assert base_model_of(registry, "x") == "line-2"
    assert len(conflicts) == 2


def test_each_entry_knows_the_object_that_declares_it():
    registry, conflicts = merge(
        config_map("two", "qwen", "x", "y", created=2.0), config_map("one", "qwen", "x", created=1.0)
    )
    assert conflicts == []
    origins = {name: (entry.kind, entry.origin.name) for name, entry in registry.items()}
    assert origins == {
        "qwen": (Kind.BASE_MODEL, "one"),
        "x": (Kind.ADAPTER, "one"),
        "y": (Kind.ADAPTER, "two"),
    }
    assert not any(entry.alias_of for _, entry in registry.items())


def aliases(*pairs, models=(QWEN, LLAMA), origin=Origin()):  # noqa: B008 (a constant)
    return Declaration(origin, models, tuple(Alias(*pair) for pair in pairs))


def test_an_alias_stands_for_a_base_model_or_an_adapter():
    registry, conflicts = merge(aliases(("gpt-4", "llama"), ("sql", "sql-lora")))
    assert conflicts == []
    assert registry.find("gpt-4") == Entry("llama", Kind.ALIAS, Origin(), "llama")
    assert registry.find("sql") == Entry("qwen", Kind.ALIAS, Origin(), "sql-lora")
    assert base_model_of(registry, "sql") == "qwen"
    assert registry.base_models == ("qwen", "llama")


def test_an_alias_of_several_stands_for_those_that_there_are():
    weights = (("sql-lora", 90), ("llama", 10), ("gone", 5))
    registry, (conflict,) = merge(aliases(("best", "sql-lora", weights)))
    shares = (Share("sql-lora", "qwen", 90), Share("llama", "llama", 10))
    entry = registry.find("best")
    assert entry == Entry("qwen", Kind.ALIAS, Origin(), "sql-lora", shares)
    assert entry.what == "alias of sql-lora (90), llama (10)"
    assert (conflict.name, conflict.kept, conflict.refused.alias_of) == ("best", None, "gone")


@pytest.mark.parametrize("weights", [(("gone", 5),), (("gone", 5), ("llama", 0))], ids=["nobody", "none with a share"])
def test_an_alias_of_several_without_a_share_that_counts_is_none(weights):
    registry, conflicts = merge(aliases(("best", weights[0][0], weights)))
    assert registry.find("best") is None
    assert [conflict.refused.alias_of for conflict in conflicts] == ["gone"]


def test_aliases_of_several_agree_if_they_are_alike():
    several, other = ("x", "qwen", (("qwen", 1), ("llama", 1))), ("x", "qwen", (("qwen", 2), ("llama", 1)))
    assert merge(aliases(several, several))[1] == []
    for pair in ([several, other], [several, ("x", "qwen")], [("x", "qwen"), several]):
        registry, (conflict,) = merge(aliases(*pair))
        assert conflict.kept == registry.find("x")


ALIAS_CONFLICTS = [
    pytest.param([("llama", "qwen")], "llama", "llama", id="an alias does not hide a base model"),
    pytest.param([("chat-lora", "qwen")], "chat-lora", "llama", id="nor an adapter"),
    pytest.param([("x", "qwen"), ("x", "llama")], "x", "qwen", id="of two aliases the first counts"),
    pytest.param([("x", "nobody")], "x", None, id="an alias of an unknown model is none"),
    pytest.param([("x", "y"), ("y", "qwen")], "x", None, id="an alias of an alias is none"),
    pytest.param([("y", "qwen"), ("x", "y")], "x", None, id="whichever comes first"),
    pytest.param([("x", "x")], "x", None, id="an alias of itself is none"),
]


@pytest.mark.parametrize(("pairs", "name", "base_model"), ALIAS_CONFLICTS)
def test_alias_conflicts(pairs, name, base_model):
    registry, conflicts = merge(aliases(*pairs))
    assert base_model_of(registry, name) == base_model
    assert [conflict.name for conflict in conflicts] == [name]
    assert conflicts[0].kept == registry.find(name)


NO_CONFLICT = [
    pytest.param([("x", "qwen"), ("x", "qwen")], id="an alias twice"),
    pytest.param([("qwen", "qwen")], id="a base model's own name"),
    pytest.param([("sql-lora", "sql-lora")], id="an adapter's own name"),
    pytest.param([("x", "nobody"), ("x", "qwen")], id="a name that an impossible alias does not claim"),
]


@pytest.mark.parametrize("pairs", NO_CONFLICT)
def test_aliases_that_do_not_contradict(pairs):
    _, conflicts = merge(aliases(*pairs))
    assert all(conflict.kept is None for conflict in conflicts)


def test_a_conflict_tells_people_who_and_why():
    at = Origin("file", "m.yaml", line=3)
    declared = aliases(("llama", "qwen"), ("chat-lora", "qwen"), ("x", "qwen"), ("x", "llama"), ("y", "z"), origin=at)
    _, conflicts = merge(declared, config_map("mine", "phi", "sql-lora", "qwen", created=1.0))
    mine, file = "ConfigMap default/mine", "file m.yaml, line 3"
    assert [str(conflict) for conflict in conflicts] == [
        f"sql-lora can't be an adapter of phi ({mine}): it is an adapter of qwen ({file})",
        f"qwen can't be an adapter of phi ({mine}): it is a base model itself ({file})",
        f"llama can't be an alias of qwen ({file}): it is a base model itself ({file})",
        f"chat-lora can't be an alias of qwen ({file}): it is an adapter of llama ({file})",
        f"x can't be an alias of llama ({file}): it is an alias of qwen ({file})",
        f"y can't be an alias of z ({file}): z is neither a base model nor an adapter",
    ]


def test_origin_for_people():
    assert str(Origin("file", "models.yaml")) == "file models.yaml"
    assert str(Origin("ConfigMap", "qwen", "default", 3.0)) == "ConfigMap default/qwen"


def test_merge_takes_any_iterable():
    assert merged(iter([QWEN, LLAMA])) == merged([QWEN, LLAMA])
    assert finish(merging(iter([aliases(("x", "qwen"))]))) == merge(aliases(("x", "qwen")))


MANY = {
    "one object of many adapters": [config_map("one", "qwen", *map(str, range(10_000)))],
    "many base models without adapters": [config_map(str(i), f"m{i}") for i in range(10_000)],
    "many objects without models": [Declaration(Origin(name=str(i))) for i in range(10_000)],
    "many aliases": [aliases(*((f"a{i}", "qwen") for i in range(2_000)))],
    "aliases of many models": [Declaration(Origin(), (), (Alias("a", "", (("qwen", 1),) * 16),) * 200)],
}


@pytest.mark.parametrize("declarations", MANY.values(), ids=MANY)
def test_merging_pauses_at_least_every_thousand_names(declarations):
    steps = sum(1 for _ in merging(declarations))
    assert 10 <= steps <= 100


def test_merging_sees_what_there_was_when_it_began():
    declarations = [config_map("one", "qwen")]
    steps = merging(declarations)
    next(steps)
    declarations.append(config_map("two", "llama"))
    registry, _ = finish(steps)
    assert registry.base_models == ("qwen",)


NAMES = st.sampled_from("abcdef")
MODELS = st.lists(st.builds(BaseModel, NAMES, st.lists(NAMES, max_size=4).map(tuple)), max_size=4)
ORIGINS = st.builds(
    Origin, st.just("ConfigMap"), NAMES, st.sampled_from(["n", "m"]), st.sampled_from([1.0, 2.0]), st.just(0)
)
DECLARATIONS = st.lists(
    st.builds(
        Declaration,
        ORIGINS,
        MODELS.map(tuple),
        st.lists(st.builds(Alias, NAMES, NAMES), max_size=3).map(tuple),
        st.just(()),
        st.sampled_from(["", "s", "t"]),
        st.lists(NAMES, max_size=3).map(tuple),
        # What servers list gives way to what is declared. Its tests are below.
        discovered=st.just(()),
    ),
    max_size=4,
    unique_by=lambda declaration: declaration.origin,
)


@given(MODELS)
def test_every_name_is_known_and_every_base_model_its_own(models):
    registry, conflicts = merged(models)
    bases = {model.name for model in models}
    assert set(registry.base_models) == bases
    assert set(meanings(registry)) == bases | {name for model in models for name in model.adapters}
    assert all(base_model_of(registry, base) == base for base in bases)
    lost = {(conflict.name, conflict.refused.base_model) for conflict in conflicts}
    for model in models:
        for adapter in model.adapters:
            assert ((adapter, model.name) in lost) == (base_model_of(registry, adapter) != model.name)


@given(DECLARATIONS.flatmap(lambda declared: st.tuples(st.just(declared), st.permutations(declared))))
def test_the_order_in_which_objects_come_does_not_matter(pair):
    declared, shuffled = pair
    assert merge(*declared) == merge(*shuffled)


@given(DECLARATIONS)
def test_aliases_change_no_model(declared):
    with_aliases, _ = merge(*declared)
    without, _ = merge(*(declaration._replace(aliases=()) for declaration in declared))
    assert {n: e for n, e in with_aliases.items() if e.kind is not Kind.ALIAS} == dict(without.items())
    for _, entry in with_aliases.items():
        if entry.alias_of:
            assert without.find(entry.alias_of).base_model == entry.base_model


@given(MODELS, st.randoms())
def test_order_and_repeats_within_a_base_model_do_not_matter(models, random):
    shuffled = [
        BaseModel(model.name, tuple(random.sample(model.adapters * 2, len(model.adapters) * 2))) for model in models
    ]
    registry, conflicts = merged(models)
    other, found = merged(shuffled)
    assert registry == other
    assert set(conflicts) == set(found)


@given(MODELS)
def test_splitting_a_base_model_does_not_matter(models):
    parts = [BaseModel(model.name, (adapter,)) for model in models for adapter in model.adapters or (model.name,)]
    assert merged(models)[0] == merged(parts)[0]


def pattern_table(*adapters, aliases=(), models=("qwen", "phi")):
    declared = [BaseModel(models[0], adapters), *map(BaseModel, models[1:])]
    return merge(Declaration(OBJECT, tuple(declared), tuple(aliases)))


OBJECT = Origin("file", "models.yaml")


class TestPatterns:
    def test_names_before_the_longest_pattern(self):
        aliases = [
            Alias("claude-*", "qwen"),
            Alias("claude-sonnet-*", "phi"),
            Alias("*", "qwen"),
            Alias("claude-x", "phi"),
        ]
        registry, conflicts = pattern_table("claude-sonnet-lora", aliases=aliases)
        assert conflicts == []
        found = {
            name: (registry.find(name).base_model, registry.find(name).pattern)
            for name in ("claude-x", "claude-y", "claude-sonnet-4", "claude-sonnet-lora", "other", "claude-*", "*")
        }
        assert found == {
            "claude-x": ("phi", ""),
            "claude-y": ("qwen", "claude-*"),
            "claude-sonnet-4": ("phi", "claude-sonnet-*"),
            "claude-sonnet-lora": ("qwen", ""),
            "other": ("qwen", "*"),
            "claude-*": ("qwen", "claude-*"),
            "*": ("qwen", "*"),
        }
        assert [pattern.text for pattern in registry.patterns] == ["claude-sonnet-*", "claude-*", "*"]

    def test_an_adapter_may_be_one(self):
        registry, _ = pattern_table("team-*", aliases=[Alias("x-*", "phi", (("phi", 1), ("qwen", 2)))])
        assert registry.find("team-a") == Entry("qwen", Kind.ADAPTER, OBJECT, pattern="team-*")
        assert registry.find("team-a").what == "adapter pattern"
        assert registry.find("x-1").what == "alias pattern of phi (1), qwen (2)"
        assert registry.find("other") is None
        assert registry.holds("qwen")
        assert not registry.holds("team-a")
        assert dict(registry.items()).keys() == {"qwen", "phi", "team-*", "x-*"}

    def test_a_base_model_is_none_and_nothing_stands_for_one(self):
        registry, conflicts = pattern_table(
            "team-*", "q*", aliases=[Alias("x", "team-*"), Alias("y", "team-a")], models=("q*", "phi")
        )
        assert registry.find("qwen") is None
        assert registry.find("q*") == Entry("q*", Kind.BASE_MODEL, OBJECT)
        assert [str(conflict) for conflict in conflicts] == [
            "x can't be an alias of team-* (file models.yaml): team-* is neither a base model nor an adapter",
            "y can't be an alias of team-a (file models.yaml): team-a is neither a base model nor an adapter",
        ]

    def test_two_of_equal_length_that_some_name_fits(self):
        registry, conflicts = pattern_table(
            "a*", aliases=[Alias("*b", "phi"), Alias("b*", "phi"), Alias("abc*", "phi")]
        )
        (conflict,) = conflicts
        assert str(conflict) == (
            "*b can't be an alias of phi (file models.yaml): the pattern a* (file models.yaml) is as long, and some "
            "names match both"
        )
        assert registry.find("ab").pattern == "a*"
        assert registry.find("*b") is None

    def test_one_that_is_claimed_twice(self):
        registry, conflicts = pattern_table(
            "a*", "a*", aliases=[Alias("a*", "phi"), Alias("b*", "phi"), Alias("b*", "phi")]
        )
        (conflict,) = conflicts
        assert (conflict.name, conflict.kept.kind, conflict.refused.kind) == ("a*", Kind.ADAPTER, Kind.ALIAS)
        assert registry.find("ax").kind is Kind.ADAPTER
        assert "it is an adapter of qwen" in str(conflict)

    def test_so_many_and_no_more(self):
        texts = [f"{number:05}*" for number in range(MAX_PATTERNS + 1)]
        registry, conflicts = pattern_table(*texts)
        (conflict,) = conflicts
        assert str(conflict).endswith("the table has 256 patterns already")
        assert len(registry.patterns) == MAX_PATTERNS

    @given(st.data())
    def test_the_order_of_objects_changes_nothing_but_who_loses(self, data):
        texts = data.draw(
            st.lists(st.text("ab*", max_size=4).filter(lambda text: text.count("*") == 1), max_size=6, unique=True)
        )
        names = data.draw(st.lists(st.text("ab", max_size=5), max_size=8))
        registry, conflicts = pattern_table(aliases=[Alias(text, "phi") for text in texts])
        lost = {conflict.name for conflict in conflicts}
        for name in names:
            fitting = {text for text in texts if text not in lost and fnmatch.fnmatchcase(name, text)}
            entry = registry.find(name)
            assert (entry.pattern if entry else "") == max(fitting, key=len, default="")
        # Those that lose have a rival that does not.
        for text in lost:
            assert any(len(text) == len(other) for other in texts if other not in lost)


def discovered(*models, name="pool", created=0.0):
    origin = Origin("the servers of InferencePool", name, "ns", created)
    return Declaration(origin, discovered=tuple(BaseModel(base, tuple(names)) for base, names in models))


FILE_OBJECT = Origin("file", "models.yaml")


def test_adapters_of_model_servers_stand_beside_those_that_are_declared():
    registry, conflicts = merge(discovered(("qwen", ["a", "sql-lora"])), Declaration(FILE_OBJECT, (QWEN,)))
    assert conflicts == []
    assert meanings(registry) == {"qwen": "qwen", "sql-lora": "qwen", "1": "qwen", "a": "qwen"}
    assert registry.find("a").what == "adapter"
    assert str(registry.find("a").origin) == "the servers of InferencePool ns/pool"
    assert registry.find("sql-lora").origin == FILE_OBJECT
    assert registry.base_models == ("qwen",)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("qwen", "it is a base model itself (file models.yaml)"),
        ("1", "it is an adapter of qwen (file models.yaml)"),
        ("gpt", "an alias of this name is declared (file models.yaml)"),
        ("dangling", "an alias of this name is declared (file models.yaml)"),
        ("team-x", "it fits the pattern team-*, which is declared"),
        ("claude-x", "it fits the pattern claude-*, which is declared"),
    ],
)
def test_model_servers_change_nothing_that_is_declared(name, why):
    qwen = BaseModel("qwen", ("1", "team-*"))
    aliases = (Alias("gpt", "qwen"), Alias("dangling", "nobody"), Alias("claude-*", "qwen"))
    declared = Declaration(FILE_OBJECT, (qwen, LLAMA), aliases)
    before, _ = merge(declared)
    registry, conflicts = merge(declared, discovered(("llama", [name, "good"])))
    assert dict(registry.items()) == dict(before.items()) | {"good": registry.find("good")}
    assert registry.find(name) == before.find(name)
    told = [str(each) for each in conflicts if each.refused.kind is Kind.ADAPTER]
    assert told == [f"{name} can't be an adapter of llama (the servers of InferencePool ns/pool): {why}"]


def test_what_a_pattern_says_already_is_no_conflict_and_keeps_its_list():
    declared = Declaration(FILE_OBJECT, (BaseModel("qwen", ("team-*",)),))
    registry, conflicts = merge(declared, discovered(("qwen", ["team-x"])))
    assert conflicts == []
    assert registry.find("team-x").pattern == "team-*"
    assert not registry.holds("team-x")


def test_adapters_of_base_models_that_nobody_declares_are_nobodys():
    registry, conflicts = merge(Declaration(FILE_OBJECT, (QWEN,)), discovered(("sql-lora", ["a"]), ("phi", ["b"])))
    assert registry.find("a") is registry.find("b") is None
    assert [str(each).rpartition(": ")[2] for each in conflicts] == [
        "no object declares the base model sql-lora",
        "no object declares the base model phi",
    ]


def test_an_alias_may_stand_for_an_adapter_of_model_servers():
    declared = Declaration(FILE_OBJECT, (QWEN,), (Alias("gpt", "a"),))
    registry, conflicts = merge(declared, discovered(("qwen", ["a"])))
    assert conflicts == []
    assert registry.find("gpt").alias_of == "a"
    assert merge(declared)[0].find("gpt") is None


def test_of_two_pools_the_older_one_counts_and_those_of_one_base_model_agree():
    declared = Declaration(FILE_OBJECT, (QWEN, LLAMA))
    young, old = discovered(("llama", ["a"]), name="y", created=2.0), discovered(("qwen", ["a"]), name="o", created=1.0)
    for order in ((young, old), (old, young)):
        registry, conflicts = merge(declared, *order, discovered(("qwen", ["a"]), name="third", created=3.0))
        assert base_model_of(registry, "a") == "qwen"
        assert [each.refused.base_model for each in conflicts] == ["llama"]


def test_many_aliases_are_looked_through_in_steps():
    declared = Declaration(FILE_OBJECT, (QWEN,), tuple(Alias(f"alias-{number}", "qwen") for number in range(2000)))
    plain = sum(1 for _ in merging([declared]))
    assert sum(1 for _ in merging([declared, discovered(("qwen", ["a"]))])) == plain + 2


def test_so_many_names_of_model_servers_are_entered_in_one_step():
    names = [f"lora-{number}" for number in range(1000)]
    assert sum(1 for _ in merging([Declaration(FILE_OBJECT, (QWEN,)), discovered(("qwen", names))])) >= 50


def test_many_aliases_beside_model_servers_take_several_steps():
    declared = Declaration(FILE_OBJECT, (QWEN,), tuple(Alias(f"alias-{number}", "qwen") for number in range(1000)))
    without = sum(1 for _ in merging([declared]))
    assert sum(1 for _ in merging([declared, discovered(("qwen", ["a"]))])) == without + 1


def test_what_model_servers_list_exists_where_its_base_model_is_declared():
    declared = [
        in_scope("", QWEN),
        in_scope("a", BaseModel("phi"), names=[("x", "of-phi")]),
        in_scope("b", BaseModel("qwen"), BaseModel("gemma", ("of-phi",))),
    ]
    listing = discovered(
        ("phi", ["of-phi"]), ("qwen", ["of-qwen"]), ("gemma", ["of-phi", "of-qwen"]), ("nobody", ["y"])
    )
    registry, conflicts = merge(*declared, listing)
    found = {
        layer.scope: {name: base_model_of(layer, name) for name in ("of-phi", "of-qwen", "x")}
        for layer in registry.layers()
    }
    assert found == {
        "": {"of-phi": None, "of-qwen": "qwen", "x": None},
        "a": {"of-phi": "phi", "of-qwen": "qwen", "x": "phi"},
        "b": {"of-phi": "gemma", "of-qwen": "gemma", "x": None},
    }
    assert [str(each).rpartition(": ")[2] for each in conflicts] == ["no object declares the base model nobody"]


def test_a_scope_has_a_canary_of_a_model_by_the_models_own_name():
    registry, conflicts = merge(
        in_scope("", BaseModel("qwen")),
        Declaration(Origin(), (), (Alias("qwen", "qwen", (("qwen", 9), ("phi", 1))), Alias("x", "qwen")), scope="a"),
        in_scope("a", BaseModel("phi")),
    )
    assert conflicts == []
    a = registry.within("a")
    assert a.find("qwen").shares == (Share("qwen", "qwen", 9), Share("phi", "phi", 1))
    assert a.find("x").alias_of == "qwen"
    assert registry.find("qwen").kind is Kind.BASE_MODEL


def test_claims_within_a_scope_contradict_each_other_as_ever():
    _, conflicts = merge(
        in_scope("a", BaseModel("qwen", ("sql",)), BaseModel("phi", ("sql",)), names=[("y", "gone")]),
        in_scope("b", BaseModel("phi", ("sql",))),
    )
    assert [str(conflict) for conflict in conflicts] == [
        "scope a: sql can't be an adapter of phi (ConfigMap n/of-a): it is an adapter of qwen (ConfigMap n/of-a)",
        "scope a: y can't be an alias of gone (ConfigMap n/of-a): gone is neither a base model nor an adapter",
    ]


def test_a_host_belongs_to_the_scope_that_claimed_it_first():
    registry, conflicts = merge(
        in_scope("b", hosts=("x.example", "b.example"), created=2.0),
        in_scope("a", hosts=("x.example",), created=1.0),
        in_scope("a", hosts=("x.example", "y.example"), created=3.0),
    )
    (conflict,) = conflicts
    assert str(conflict) == "x.example can't be a host of b (ConfigMap n/of-b): it is one of a (ConfigMap n/of-a)"
    assert registry.hosts.by_host == {"x.example": "a", "y.example": "a", "b.example": "b"}


@pytest.mark.interpreted("replaces constants")
def test_there_are_so_many_scopes_and_hosts(monkeypatch):
    monkeypatch.setattr("bbr.models.merging.MAX_SCOPES", 2)
    monkeypatch.setattr("bbr.models.merging.MAX_HOSTS", 3)
    registry, conflicts = merge(
        in_scope("c", hosts=("c.example",), created=3.0),
        in_scope("b", hosts=("3.example", "4.example", "1.example"), created=2.0),
        in_scope("a", hosts=("1.example", "2.example"), created=1.0),
    )
    assert [*registry.scopes] == ["a", "b"]
    many = [in_scope(f"s{number}", BaseModel("qwen")) for number in range(2_100)]
    assert len(merge(*many)[0].scopes) == 2
    assert sorted(registry.hosts.by_host) == ["1.example", "2.example", "3.example"]
    assert [str(conflict) for conflict in conflicts] == [
        "c can't be a scope of the table (ConfigMap n/of-c): the table has 2 scopes already",
        "4.example can't be a host of b (ConfigMap n/of-b): the table has 3 hosts already",
        "1.example can't be a host of b (ConfigMap n/of-b): it is one of a (ConfigMap n/of-a)",
    ]


def test_many_objects_scopes_and_hosts_are_sorted_in_steps():
    several = [in_scope(f"s{number}", hosts=(f"{number}.example",)) for number in range(3_000)]
    # To sort them took 0.2 s in one go when they were 60,000. Scopes, and hosts of those that there may be: 500 a step.
    assert sum(1 for _ in merging(several)) >= 2 * 3_000 // 500 + 2 * MAX_SCOPES // 500
    assert sum(1 for _ in merging([in_scope("", grants=()) for _ in range(5_000)])) >= 3 * 5_000 // 1_000


def test_an_incomplete_table_is_so_in_each_scope():
    registry, _ = finish(merging([in_scope("a", BaseModel("phi"))], complete=False))
    assert not registry.complete
    assert not registry.within("a").complete


def test_merging_scopes_pauses_too():
    several = [in_scope("a", BaseModel("phi", tuple(map(str, range(5_000)))), hosts=tuple(map(str, range(5_000))))]
    assert 10 <= sum(1 for _ in merging(several)) <= 70
    names = [BaseModel(str(number)) for number in range(9_000)]
    for_all = sum(1 for _ in merging([in_scope("", *names)]))
    assert sum(1 for _ in merging([in_scope("a", *names)])) >= for_all + 18, "their own names, and what they hide"
    registry, _ = merge(*several, in_scope("b", BaseModel("phi")))
    assert len(registry.parts()) == 64 + 64 + 1
    assert sum(1 for _ in merging(in_scope("", BaseModel(str(number))) for number in range(5_000))) <= 70


@given(DECLARATIONS)
def test_a_scope_has_its_own_names_and_what_they_do_not_hide(declared):
    registry, _ = merge(*declared)
    # What servers list is in no scope: it exists where its base model does.
    for_all = [each._replace(models=(), aliases=(), grants=()) if each.scope else each for each in declared]
    alone, _ = merge(*(each._replace(scope="") for each in for_all))
    assert dict(registry.items()) == dict(alone.items())
    for layer in registry.scopes.values():
        own = dict(layer.own_items())
        assert dict(layer.items()) == dict(alone.items()) | own
        assert layer.size == len(dict(layer.items()))
        models = {each.name for every in declared if every.scope == layer.scope for each in every.models}
        assert models <= own.keys()
