import pytest

from bbr.tls.client_names import AllowedName, SubjectName, refusal
from tests.support.steps import lines

LONGEST = f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}"


@pytest.mark.parametrize(
    "text",
    [
        *("gateway", "gateway.example", "Gateway.Example", "*.gateways.example", "_gw.a-b.example", LONGEST),
        *(
            "spiffe://cluster.local/ns/gateways/sa/envoy",
            "spiffe://cluster.local/ns/gateways/*",
            "spiffe://cluster.local/*",
        ),
        *("https://gateway.example/path?query", "a+b-c.d1://e", "spiffe://cluster.local"),
    ],
)
def test_a_rule(text):
    assert AllowedName(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "*",
            "*.",
            "a..b",
            "a.",
            ".a",
            "a.*",
            "*a.b",
            "a.*.b",
            "*.*.a",
            "a b",
            "modèle",
            "a\n",
            "a/b",
            "a" * 64,
        ),
        *(f"{LONGEST}d", "10.0.0.1", "10.0.0.1:443", "user@example", "a,b"),
        *("spiffe://", "spiffe:///*", "://a", "1a://b", "a_b://c", "spiffe://a*", "spiffe://*/a", "spiffe://a/*/b"),
        *("spiffe://a b", "spiffe://a\n", "spiffe://a,b", "spiffe://modèle", "é://a", "s*://a"),
    ],
)
def test_no_rule(text):
    with pytest.raises(ValueError, match=r"^is neither a DNS name, perhaps with \*\. at its beginning, nor a URI "):
        AllowedName(text)


ALLOWED = [
    ("gateway.example", "DNS", "gateway.example"),
    ("gateway.example", "DNS", "GATEWAY.Example"),
    ("Gateway.Example", "DNS", "gateway.example"),
    ("*.example", "DNS", "gateway.example"),
    ("*.Example", "DNS", "GATEWAY.example"),
    ("spiffe://a/ns/b", "URI", "spiffe://a/ns/b"),
    ("spiffe://a/ns/*", "URI", "spiffe://a/ns/b"),
    ("spiffe://a/ns/*", "URI", "spiffe://a/ns/b/sa/c"),
]
NOT_ALLOWED = [
    ("gateway.example", "DNS", "gateway.example."),
    ("gateway.example", "DNS", "a.gateway.example"),
    ("gateway.example", "DNS", "gateway.example.com"),
    ("gateway.example", "URI", "gateway.example"),
    ("gateway.example", "email", "gateway.example"),
    ("gateway.example", "DNS", "*.example"),
    ("gateway.example", "DNS", "gateway.example\0.evil.example"),
    ("*.example", "DNS", "a.b.example"),
    ("*.example", "DNS", "example"),
    ("*.example", "DNS", ".example"),
    ("*.example", "DNS", "*.example"),
    ("*.example", "DNS", "a b.example"),
    ("*.example", "DNS", "a.example.com"),
    ("*.example", "URI", "a.example"),
    ("gateway.example", "IP", "gateway.example"),
    ("spiffe://a/ns/b", "DNS", "spiffe://a/ns/b"),
    ("spiffe://a/ns/b", "URI", "spiffe://a/ns/B"),
    ("spiffe://a/ns/b", "URI", "spiffe://a/ns/bc"),
    ("spiffe://a/ns/b", "URI", "spiffe://a/ns/b/"),
    ("spiffe://a/ns/*", "URI", "spiffe://a/ns/"),
    ("spiffe://a/ns/*", "URI", "spiffe://a/ns"),
    ("spiffe://a/ns/*", "URI", "spiffe://a/nsx/b"),
    ("spiffe://a/ns/*", "DNS", "spiffe://a/ns/b"),
]


@pytest.mark.parametrize(("rule", "kind", "text"), ALLOWED)
def test_allowed(rule, kind, text):
    assert refusal([SubjectName(kind, text)], (AllowedName(rule),)) == ""
    assert refusal([SubjectName("DNS", "other"), SubjectName(kind, text)], (AllowedName("x"), AllowedName(rule))) == ""


@pytest.mark.parametrize(("rule", "kind", "text"), NOT_ALLOWED)
def test_not_allowed(rule, kind, text):
    assert refusal([SubjectName(kind, text)], (AllowedName(rule),)) != ""
    assert refusal([SubjectName(kind, text)], (AllowedName("x"), AllowedName(rule))) != ""


def test_a_name_of_the_certificate_is_no_rule():
    rules = (AllowedName("spiffe://a/*"), AllowedName("spiffe://a/b/*"))
    assert refusal([SubjectName("URI", "spiffe://a/*")], rules) == ""  # it begins with spiffe://a/
    assert refusal([SubjectName("URI", "spiffe://a/")], rules) != ""


@pytest.mark.parametrize("kind", ["DNS", "URI"])
def test_the_cost_of_many_names_does_not_grow_with_the_rules(kind):
    names = [SubjectName(kind, f"a.{number}" if kind == "DNS" else f"a://{number}") for number in range(200)]
    few, many = ([f"*.b{number}" for number in range(count)] for count in (2, 40))
    steps = []
    for texts in (few, many):
        rules = (*map(AllowedName, texts), *(AllowedName(f"b://{text[2:]}/*") for text in texts))
        refusal(names, rules)
        steps.append(lines(lambda rules=rules: refusal(names, rules)))
    assert steps[1] < 1.1 * steps[0]


def test_without_rules_every_certificate_is_let_in():
    assert refusal([SubjectName("DNS", "a")], ()) == ""
    assert refusal([], ()) == ""


def test_a_refusal_says_what_the_certificate_holds():
    names = [SubjectName("DNS", "a.example"), SubjectName("URI", "spiffe://a/b")]
    assert refusal(names, (AllowedName("b"),)) == (
        "--tls-client-san allows none of the names in the client's certificate: DNS:a.example, URI:spiffe://a/b"
    )
    assert refusal([], (AllowedName("b"),)) == (
        "the client's certificate has no subject alternative name, and --tls-client-san requires one"
    )


def test_a_refusal_is_one_short_line_whatever_the_certificate_holds():
    names = [SubjectName("DNS", "a\nERROR forged \x1b[31m é\0" + "x" * 10_000)] * 100
    told = refusal(names, (AllowedName("b"),))
    assert told.isprintable()
    assert told.isascii()
    assert told.endswith(" and 92 more")
    assert len(told) < 2500
    assert r"DNS:a\nERROR forged \x1b[31m \xe9\x00xxx" in told
