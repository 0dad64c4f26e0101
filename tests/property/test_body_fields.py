"""What headers get of a body's fields is what json.loads reads there, however the body was split, whoever reads it."""

import itertools
import json
from hashlib import sha256
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from bbr.exchange.convention import Ours
from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.models.registry import Registry
from bbr.reading.document import DocumentReading
from bbr.reading.fields import BodyField, BodyFields
from bbr.refusal import Refusal
from bench.harness.conversation import converse
from bench.harness.messages import request_body, request_headers, set_headers
from tests.support.readings import work

FIELDS = BodyFields(
    [
        BodyField("user", "x-user", max_bytes=12),
        BodyField("user", "x-hash", hashed=True),
        BodyField("k.s", "x-k"),
        BodyField("k.m-1", "x-m"),
        BodyField("n_1", "x-n", early=True),
    ],
    1 << 20,  # as in a server, no less than what is read whole
)
EARLY = BodyFields(FIELDS.fields, 60)
NAMES = ("user", "k", "n_1")
INNER = ("s", "m-1")
REFUSED = "refused"


class Number(str):
    """A number as it is written."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """All members of an object, in their order."""

    __slots__ = ()


def fold(key: str) -> str:
    """Return a key as parsers compare it that take no notice of letter case, or end at a NUL."""
    return key.partition("\0")[0].translate({0x17F: "s", 0x212A: "k"}).lower()


def one(pairs: Pairs, name: str) -> Any:
    """Return the one value of a key; None without any; raises if it is not the same for all parsers."""
    found = [(key, value) for key, value in pairs if fold(key) == name]
    if len(found) > 1 or any(key != name for key, _ in found):
        raise ValueError
    return found[0][1] if found else None


def text(value: Any, most: int, *, hashed: bool = False) -> bytes | None:
    """Return what a header gets of a value; raises if the body is refused for it."""
    if isinstance(value, list):
        raise ValueError
    if value is None or value == "":
        return None
    octets = str(value).lower().encode() if isinstance(value, bool) else value.encode()
    if len(octets) > most:
        raise ValueError
    if hashed:
        return sha256(octets).hexdigest().encode()
    told = octets.decode()
    if told != told.strip() or not told.isprintable():
        raise ValueError
    return bytes(octets)


def expected(body: bytes) -> list[bytes | None] | str:
    """Return what headers get by json.loads."""
    decoded = json.loads(body, object_pairs_hook=Pairs, parse_int=Number, parse_float=Number)
    if not isinstance(decoded, Pairs):
        return [None] * 5
    try:
        user, within, number = (one(decoded, name) for name in NAMES)
        if within is not None and not isinstance(within, Pairs):
            return REFUSED
        inner = [text(one(within or Pairs(), name), 256) for name in INNER]
        return [text(user, 12), text(user, 256, hashed=True), *inner, text(number, 256)]
    except ValueError:
        return REFUSED


def spelled(key: str) -> st.SearchStrategy[str]:
    """Give a key as it may be written in a document."""
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)
    others = {
        key.upper(),
        key.replace("s", "\u017f"),
        key.replace("k", "\\u212A"),
        f"{key}\\u0000x",
        f"{key}x",
        key[1:],
    }
    return st.sampled_from([key, key, key, key, escaped, *sorted(others - {key})])


# Printable or not as both sides see it: no letters of which Python's isprintable and the list of invisible ones differ.
strings = st.text(st.sampled_from('ab Z\u00e9\u4e2d\n\u200b\\"/{}[]:,'), max_size=14)
scalars = (
    st.none().map(json.dumps)
    | st.booleans().map(json.dumps)
    | strings.map(json.dumps)
    | strings.map(lambda each: json.dumps(each, ensure_ascii=False))
    | st.sampled_from(["0", "-1.50", "1e3", "2E-1", '"user"', '"k"'])
)
blanks = st.sampled_from(["", "", " ", "\n\t"])


def objects(names: tuple[str, ...], values: st.SearchStrategy[str], most: int) -> st.SearchStrategy[str]:
    """Give objects that have keys like these."""
    keys = st.sampled_from(names).flatmap(spelled) | st.sampled_from(["x", "model\u00e9", "role", ""])
    members = st.tuples(blanks, keys, blanks, blanks, values, blanks)
    written = members.map(lambda each: f'{each[0]}"{each[1]}"{each[2]}:{each[3]}{each[4]}{each[5]}')
    return st.lists(written, max_size=most).map(lambda each: "{" + ",".join(each) + "}")


inner = objects(INNER, scalars | st.sampled_from(["[]", '{"s":1}']), 3)
values = scalars | inner | st.lists(scalars | inner, max_size=2).map(lambda each: f"[{','.join(each)}]")
roots = objects(NAMES, values, 4) | values
models = st.sampled_from(["", '"model":"qwen",'])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    root = draw(roots)
    if root.startswith("{") and len(root) > 2:
        root = "{" + draw(models) + root[1:]
        if draw(st.booleans()):
            root = root[:-1] + ',"model":"qwen"}' if '"model"' not in root else root
    return root.encode()


def read(pieces: list[bytes], whole_bytes: int, fields: BodyFields = FIELDS) -> list[bytes | None] | str:
    reading = DocumentReading(256, whole_bytes, fields)
    try:
        for piece in pieces:
            reading.feed(piece)
            work(reading)
        reading.close()
        work(reading)
        reading.result()
    except Refusal as refused:
        return REFUSED if refused.reason.startswith("field-") else refused.reason
    assert reading.fields is not None
    return list(reading.fields.values)


def split(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(edges)]


def on_time(body: bytes, found: list[bytes | None] | str) -> list[bytes | None] | str:
    """Leave out an early field that ends too late, which only a scanner does."""
    if isinstance(found, str) or found[4] is None:
        return found
    key = body.index(b"n_1")
    end = json.JSONDecoder().raw_decode(body.decode("latin-1"), body.index(b":", key) + 1 + _blank(body, key))[1]
    return [*found[:4], found[4] if end <= 60 else None]


def _blank(body: bytes, key: int) -> int:
    rest = body[body.index(b":", key) + 1 :]
    return len(rest) - len(rest.lstrip())


@given(body=bodies(), places=st.lists(st.integers(0, 10_000), max_size=6))
@example(body=b'{"user":"a","us\\u0065r":"b"}', places=[])
@example(body=b'{"k":{"s":"1","\\u017f":2}}', places=[])
@example(body=b'{"k":{"K":{"s":1}},"x":{"user":1}}', places=[5])
def test_headers_say_what_json_loads_reads(body: bytes, places: list[int]) -> None:
    want = expected(body)
    octets = [body[at : at + 1] for at in range(len(body))]
    for pieces in ([body], split(body, places), octets):
        for whole_bytes in (1 << 20, 0):
            assert read(pieces, whole_bytes) == want
    early = read([body], 0, EARLY)
    for pieces in (split(body, places), octets):
        assert read(pieces, 0, EARLY) == early
    if body.count(b"n_1") == 1:
        assert early == on_time(body, want)


@given(body=bodies())
def test_the_quotes_of_a_long_body_lead_to_the_same(body: bytes) -> None:
    if body.startswith(b"{"):
        body = b'{"messages":"%b"%b%b' % (b"x" * (33 << 10), b"" if body[1:].strip() == b"}" else b",", body[1:])
    assert read([body], 1 << 20) == expected(body)


TABLE = Registry()
POLICIES = [
    Policy(Replies(Ours(fields=fields)), stream_threshold_bytes=fields.early_bytes) for fields in (FIELDS, EARLY)
]


def told(policy: Policy, pieces: list[bytes], mode: BodyMode) -> tuple[dict[str, bytes], str]:
    """Return which headers go on, and why it was refused."""
    talk = Exchange(policy, TABLE)
    *most, last = pieces
    sent = [*map(request_body, most), request_body(last, end_of_stream=True)]
    if mode is BodyMode.BUFFERED:
        sent = [request_body(b"".join(pieces), end_of_stream=True)]
    answers = converse(talk, request_headers(mode=mode), *sent)
    if talk.verdict.reason:
        return {}, talk.verdict.reason
    found: dict[str, bytes] = {}
    for answer in answers:
        common = getattr(answer, answer.WhichOneof("response") or "").response
        for name in common.header_mutation.remove_headers:
            found.pop(name, None)
        found |= set_headers(common.header_mutation)
    return found, ""


@given(body=bodies(), places=st.lists(st.integers(0, 10_000), max_size=6), policy=st.sampled_from(POLICIES))
def test_splits_and_modes_change_no_header(body: bytes, places: list[int], policy: Policy) -> None:
    whole = told(policy, [body], BodyMode.FULL_DUPLEX_STREAMED)
    assert told(policy, split(body, places), BodyMode.FULL_DUPLEX_STREAMED) == whole
    assert told(policy, [body], BodyMode.BUFFERED) == whole
