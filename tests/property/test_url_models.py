"""A model that is taken from a path is the one that servers take from it, each in its own way, or none."""

import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

from hypothesis import example, given
from hypothesis import strategies as st

from bbr.reading.templates import parse_templates
from bbr.reading.uri import model_in_path
from tests.support.bodies import outcome

TEMPLATES = parse_templates("azure-openai gemini bedrock")

# Servers' own routes: a name may hold slashes for these, or none.
OPERATIONS = rb"(?:chat/completions|completions|embeddings)/?"
ROUTES = [
    *(re.compile(rb"/openai/deployments/([^/]+)/" + OPERATIONS), re.compile(rb"/v1beta/models/([^/]+):[a-zA-Z]+")),
    *(re.compile(rb"/openai/deployments/(.+?)/" + OPERATIONS), re.compile(rb"/v1beta/models/(.+):[a-zA-Z]+")),
    *(re.compile(rb"/model/([^/]+)/(?:invoke|converse)"), re.compile(rb"/model/(.+)/(?:invoke|converse)")),
]

FRAGMENTS = [
    *(b"/openai/deployments/", b"/v1beta/models/", b"/model/", b"models/", b"/chat/completions", b"/completions"),
    *(b"/invoke", b"/converse", b":generateContent", b"%3AgenerateContent", b"a", b"org", b"/", b"%2F", b"%2f", b":"),
    *(b"%3A", b"%253A", b"%252F", b"%5C", b"..", b"//", b"%2e", b";", b"#"),
]
BEGINS, ENDS = FRAGMENTS[:3], [*FRAGMENTS[4:10], b"/embeddings"]
paths = st.tuples(
    st.sampled_from(BEGINS), st.lists(st.sampled_from(FRAGMENTS), max_size=6).map(b"".join), st.sampled_from(ENDS)
).map(b"".join)


def merged(path: bytes) -> bytes:
    return re.sub(rb"//+", b"/", path)


# What happens to a path before a server compares it, and whether the name is decoded after that.
WAYS: list[tuple[Callable[[bytes], bytes], bool]] = [
    (lambda path: path, True),
    (unquote_to_bytes, False),
    (merged, True),
    (lambda path: merged(unquote_to_bytes(path)), False),
    (lambda path: unquote_to_bytes(unquote_to_bytes(path)), False),
]


def read_by_servers(path: bytes) -> Iterator[bytes]:
    for prepare, decodes in WAYS:
        for route in ROUTES:
            if found := route.fullmatch(prepare(path)):
                yield unquote_to_bytes(found[1]) if decodes else found[1]


@given(paths)
@example(b"/openai/deployments/org%2Fa/chat/completions")
@example(b"/v1beta/models/a:a%3AgenerateContent")
@example(b"/model/a%3Aa%2Fa/invoke")
def test_servers_read_the_same_model_or_none(path: bytes) -> None:
    kind, found = outcome(model_in_path, path, TEMPLATES)
    servers = set(read_by_servers(path))
    if kind != "refused":
        assert servers <= ({found.name.encode()} if found else set())
