import pytest

from deploy.render.cel import RuleError, Rules, quantity


@pytest.fixture(scope="module")
def rules():
    return Rules()


def ruled(rule, **more):
    return {"x-kubernetes-validations": [{"rule": rule, "message": "broken", **more}]}


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("self.size() < 3", ["a", "b"], ["a", "b", "c"]),
        ("has(self.a) || has(self.b)", {"a": 1}, {}),
        ("self.all(x, x.startsWith('a'))", ["a", "ab"], ["a", "b"]),
        ("self.matches('^[a-z]+$')", "a", "A"),
        ("isURL(self)", "https://a.example/x", "no"),
        ("url(self).getScheme() == 'https'", "https://a", "http://a"),
        ("url(self).getHost() == 'a.example:8443'", "https://a.example:8443/x", "https://a.example/x"),
        ("url(self).getHostname() == 'a.example'", "https://a.example:1", "https://b.example:1"),
        ("url(self).getPort() == '8443'", "https://a:8443", "https://a"),
        ("isQuantity(self)", "1500m", "many"),
        ("quantity(self).isGreaterThan(quantity('1Gi'))", "2Gi", "1024Mi"),
        ("quantity(self).isLessThan(quantity('1'))", "999m", "1k"),
        ("isIP(self)", "::1", "10.0.0.256"),
        ("isCIDR(self)", "10.0.0.0/8", "10.0.0.0/33"),
    ],
)
def test_rules_have_an_outcome(rules, rule, good, bad):
    assert list(rules.faults(ruled(rule), good)) == []
    assert list(rules.faults(ruled(rule), bad, "spec")) == ["spec: broken"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1.0), ("1500m", 1.5), ("2Gi", 2.0 * 2**30), ("1.5k", 1500.0), (".5", 0.5), ("1e3", 1000.0), ("-1n", -1e-9)],
)
def test_quantities(text, number):
    assert quantity(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "1 Gi", "1gi", "Gi", "1e", "1.2.3"])
def test_what_is_no_quantity(text):
    with pytest.raises(ValueError, match="is no quantity"):
        quantity(text)


def test_rules_are_asked_wherever_they_stand(rules):
    inner = ruled("self > 0")
    schema = {
        "properties": {"list": {"items": inner}, "none": inner},
        "additionalProperties": inner,
    }
    found = list(rules.faults(schema, {"list": [1, 0, -1], "more": 0, "none": None}))
    assert found == ["list[1]: broken", "list[2]: broken", "more: broken"]


def test_a_rule_says_what_its_schema_has_it_say(rules):
    schema = ruled("self > 1", messageExpression="'it is ' + string(self)", fieldPath=".size")
    assert list(rules.faults(schema, 1, "spec")) == ["spec.size: it is 1"]
    bare = {"x-kubernetes-validations": [{"rule": "self > 1"}]}
    assert list(rules.faults(bare, 1, "spec")) == ["spec: it breaks the rule self > 1"]


def test_a_message_that_fails_gives_way(rules):
    assert list(rules.faults(ruled("self > 1", messageExpression="self.text"), 1, "a")) == ["a: broken"]


def test_a_rule_without_a_result_refuses(rules):
    (found,) = rules.faults(ruled("self.missing == 1"), {}, "spec")
    assert found.startswith("spec: broken (the rule has no result: ")


def test_rules_about_changes_are_not_asked_of_new_objects(rules):
    assert list(rules.faults(ruled("self == oldSelf"), 1)) == []
    assert list(rules.faults(ruled("self > 1 || oldSelf.hasValue()", optionalOldSelf=True), 2)) == []


def test_a_rule_that_cannot_be_compiled_is_an_error(rules):
    with pytest.raises(RuleError, match="the rule 'nobody\\(self\\)' can't be compiled"):
        list(rules.faults(ruled("nobody(self)"), 1))
