from hypothesis import given
from hypothesis import strategies as st

from bbr.models.steps import finish
from bbr.sources.settling import Contest, settling


def settle(claimed, before=None):
    frozen = {pool: {base: frozenset(names) for base, names in of.items()} for pool, of in claimed.items()}
    return finish(settling(frozen, before or {}))


def test_what_nobody_else_claims_is_granted():
    found = settle({"one": {"qwen": {"b", "a"}}, "two": {"phi": {"c"}, "gemma": set()}})
    assert found.granted == {"one": {"qwen": ("a", "b")}, "two": {"phi": ("c",), "gemma": ()}}
    assert found.holders == {"a": "qwen", "b": "qwen", "c": "phi"}
    assert found.contests == ()


def test_pools_of_one_base_model_agree():
    found = settle({"one": {"qwen": {"a"}}, "two": {"qwen": {"a"}}})
    assert found.granted == {"one": {"qwen": ("a",)}, "two": {"qwen": ("a",)}}


def test_a_new_name_that_several_claim_is_nobodys():
    for claimed in ({"one": {"qwen": {"a"}}, "two": {"phi": {"a"}}}, {"two": {"phi": {"a"}}, "one": {"qwen": {"a"}}}):
        found = settle(claimed)
        assert found.granted == {"one": {"qwen": ()}, "two": {"phi": ()}}
        assert found.contests == (Contest("a", None, ("phi", "qwen")),)
        # Nor does it become somebody's by and by.
        assert settle(claimed, found.holders) == found
    assert str(found.contests[0]) == (
        "the adapter a is claimed for several base models (phi, qwen): nobody gets it until an object declares it"
    )


def test_a_name_stays_with_whoever_had_it_until_he_lets_go():
    before = settle({"one": {"qwen": {"a"}}}).holders
    both = settle({"two": {"phi": {"a", "b"}}, "one": {"qwen": {"a"}}}, before)
    assert both.granted == {"two": {"phi": ("b",)}, "one": {"qwen": ("a",)}}
    assert str(both.contests[0]) == ("the adapter a is claimed for several base models (phi, qwen): it stays with qwen")
    assert settle({"two": {"phi": {"a"}}}, both.holders).granted == {"two": {"phi": ("a",)}}


def test_many_names_are_settled_in_steps():
    names = frozenset(map(str, range(2000)))
    assert sum(1 for _ in settling({"one": {"qwen": names}}, {})) >= 4


NAMES = st.dictionaries(st.sampled_from("QPG"), st.sets(st.sampled_from("abc")), max_size=3)


@given(st.lists(st.dictionaries(st.integers(0, 2), NAMES, max_size=3), max_size=6))
def test_no_claim_takes_a_name_from_whoever_has_it(history):
    holders = {}
    for claimed in history:
        found = settle(claimed, holders)
        assert found == settle(dict(reversed(claimed.items())), holders)
        wanted = {(name, base) for of in claimed.values() for base, names in of.items() for name in names}
        for name, base in found.holders.items():
            assert (name, base) in wanted
            assert holders.get(name) == base or (name, holders.get(name)) not in wanted
        granted = {(name, base) for of in found.granted.values() for base, names in of.items() for name in names}
        assert granted == set(found.holders.items())
        holders = found.holders
