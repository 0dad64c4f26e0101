import time

import pytest

from bbr.models.hosts import MAX_HOST, NO_HOSTS, Hosts, asked, declared

LONGEST = ".".join(["x" * 63, "x" * 63, "x" * 63, "x" * 61])

DECLARED = {
    "a.example.com": "a.example.com",
    "A.Example.COM": "a.example.com",
    "localhost": "localhost",
    "*.example.com": "*.example.com",
    "*": "*",
    "xn--bcher-kva.example": "xn--bcher-kva.example",
    "my_host.example": "my_host.example",
    "10.0.0.1": "10.0.0.1",
    LONGEST: LONGEST,
    "x" * 64: None,
    f"x.{LONGEST}": None,
    "": None,
    "a.example.com.": None,
    "a.example.com:80": None,
    "bücher.example": None,
    "\u212aelvin.example": None,
    "a..b": None,
    ".example.com": None,
    "-a.example": None,
    "a-.example": None,
    "*.*.example": None,
    "a.*.example": None,
    "*example.com": None,
    "**": None,
    "*.": None,
    "a example": None,
    "a.example\n": None,
    "[::1]": None,
    "https://a.example": None,
    "a.example/": None,
    "user@a.example": None,
}


@pytest.mark.parametrize(("text", "host"), DECLARED.items(), ids=ascii)
def test_declared(text, host):
    assert declared(text) == host


ASKED = {
    b"a.example.com": "a.example.com",
    b"A.EXAMPLE.com": "a.example.com",
    b"a.example.com:8080": "a.example.com",
    b"a.example.com:": "a.example.com",
    b"a.example.com.": "a.example.com",
    b"a.example.com.:443": "a.example.com",
    b"[::1]": "[::1]",
    b"[::FFFF:10.0.0.1]:80": "[::ffff:10.0.0.1]",
    b"xn--bcher-kva.example": "xn--bcher-kva.example",
    LONGEST.encode(): LONGEST,
    LONGEST.encode() + b".:65535": LONGEST,
    LONGEST.encode() + b"x": None,
    b"x" * (1 << 20): None,
    b"": None,
    b".": None,
    b":80": None,
    b"..": None,
    b"a.example.com..": None,
    b"a..example.com": None,
    b".example.com": None,
    b"a.example.com:80:80": None,
    b"a.example.com:x": None,
    b"a.example.com:123456": None,
    b"a.example.com,b.example.com": None,
    b"user@a.example.com": None,
    b"a.example.com@b.example.com": None,
    b"a.example.com/": None,
    b"http://a.example.com/": None,
    b"a.example.com#": None,
    b"a.example.com?": None,
    b"a.example.com\\": None,
    b"a%2eexample.com": None,
    b" a.example.com": None,
    b"a.example.com ": None,
    b"a.example.com\n": None,
    b"a.example.com\x00": None,
    "bücher.example".encode(): None,
    "a.example\u3002com".encode(): None,
    "\u212aelvin.example".encode(): None,
    b"\xff": None,
    b"[::1": None,
    b"[a.example.com]": None,
    b"*.example.com": None,
    b"*": None,
}


@pytest.mark.parametrize(("authority", "host"), ASKED.items(), ids=lambda value: ascii(value)[:40])
def test_asked(authority, host):
    assert asked(authority) == host


HOSTS = Hosts(
    {
        "a.example.com": "a",
        "*.example.com": "below",
        "*.deep.example.com": "deep",
        "*.com": "com",
        "deep.example.com": "itself",
    }
)


@pytest.mark.parametrize(
    ("authority", "scope"),
    [
        (b"a.example.com", "a"),
        (b"A.example.com.:1", "a"),
        (b"b.example.com", "below"),
        (b"x.a.example.com", "below"),
        (b"x.deep.example.com", "deep"),
        (b"y.x.deep.example.com", "deep"),
        (b"deep.example.com", "itself"),
        (b"example.com", "com"),
        (b"com", ""),
        (b"xexample.com", "com"),
        (b"a.example.com.evil.org", ""),
        (b"evil.org", ""),
        (b"[::1]", ""),
        (b"a b.example.com", ""),
        (b"", ""),
    ],
)
def test_the_scope_of_a_host(authority, scope):
    assert HOSTS.scope_of(authority) == scope
    assert NO_HOSTS.scope_of(authority) == ""


def test_a_star_alone_is_any_host_and_nothing_else():
    hosts = Hosts({"*": "rest", "a.example": "a"})
    assert [hosts.scope_of(each) for each in (b"a.example", b"b", b"[::1]:80", b"10.0.0.1")] == ["a", *["rest"] * 3]
    assert [hosts.scope_of(each) for each in (b"", b"a b", b"x" * 300, b"a.example, b")] == [""] * 4


def test_hosts_by_scope():
    hosts = Hosts({"b": "one", "*.a": "one", "c": "two"})
    assert hosts.by_scope() == {"one": ["b", "*.a"], "two": ["c"]}
    assert hosts.scopes() == {"one", "two"}


def test_the_longest_way_through_the_labels_is_short():
    longest = ("x." * (MAX_HOST // 2)).encode() + b"x"
    began = time.process_time()
    for _ in range(100):
        assert HOSTS.scope_of(longest) == ""
    assert time.process_time() - began < 5
