"""Whatever a client sends is read in time that grows as its length does, and in steps that are short.

Two measures. Lines of our own code are counted: they are the same in every run, so that any text may be tried. What the
libraries' C code does in a line (regular expressions above all) shows in the processor's time alone, which is measured
for texts that have once taken time by their square, or might: four times the text may take ten times as long at most,
where the square would be sixteen times. tests/property/test_patterns.py holds that no expression can go back over text.
"""

import contextlib
import gzip
import itertools
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import brotli
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bbr.pb.ext_proc_pb2 import HeaderValue
from bbr.reading import content_type, encodings, multipart, parameters, spelling
from bbr.reading.base import Reading
from bbr.reading.coerced import CoercedReading
from bbr.reading.fields import BodyField, BodyFields
from bbr.reading.head import Dialect, Head, read_head
from bbr.reading.kinds import open_reading
from bbr.reading.name import BodyKind
from bbr.reading.paths import PathFilter, PathPattern
from bbr.reading.templates import parse_templates
from bbr.reading.uri import model_in_path, model_in_query
from bbr.reading.zstd import zstd
from bbr.refusal import Refusal
from tests.support.steps import is_within, lines, seconds, take_as_long
from tests.support.whole import read_model

FORM = b"application/x-www-form-urlencoded"
MULTIPART = b"multipart/form-data; boundary=b"
TEMPLATES = parse_templates(
    "/openai/deployments/{model}/** /**/models/{model}:* /model/{model}/x /**/a/{model}/** /**/a/{model}/a "
    "/**/*/b/{model}"
)
PATTERNS = ("/**/models/**/generate", "/**/a*b*c/**", "/v1/*", "/**/*x*y/**/z", "/**")
PATHS = PathFilter(tuple(map(PathPattern, PATTERNS[:3])), tuple(map(PathPattern, PATTERNS[1:])))


def field(key: str) -> Callable[[bytes], object]:
    return lambda octets: read_head([HeaderValue(key=key, raw_value=octets).SerializeToString()])


def part(octets: bytes) -> object:
    reader = multipart.MultipartReader(b"b")
    body = b"--b\r\nContent-Disposition: form-data; name=x; " + octets + b"\r\n\r\nx\r\n--b--"
    at = 0
    while at < len(body):
        at = reader.feed(body, at)
    return reader.end()


class Kind(NamedTuple):
    """A kind of body."""

    kind: BodyKind
    content_types: list[bytes]
    encodings: tuple[bytes, ...] = ()
    fields: BodyFields | None = None

    def open(self, whole_bytes: int = 0) -> Reading:
        head = Head(self.kind, Dialect.OPENAI, b"", b"", self.content_types, self.encodings)
        limits = {"max_model_bytes": 256, "whole_bytes": whole_bytes, "max_decoded_bytes": 1 << 22}
        return open_reading(head, **limits, fields=self.fields)


FIELDS = BodyFields([BodyField("user", "x"), BodyField("k.s", "y"), BodyField("k.m", "z", hashed=True)], 256 << 10)
KINDS = {
    "JSON": Kind(BodyKind.JSON, []),
    "JSON with fields": Kind(BodyKind.JSON, [], (), FIELDS),
    "a form": Kind(BodyKind.FORM, [FORM]),
    "multipart": Kind(BodyKind.MULTIPART, [MULTIPART]),
    "several": Kind(BodyKind.UNSURE, [FORM + b", application/json, " + MULTIPART]),
    "JSON or a form": Kind(BodyKind.UNSURE, [FORM, b"application/json"]),
    "another": Kind(BodyKind.OTHER, [b"text/plain"]),
    "multipart of another kind": Kind(BodyKind.OTHER, [b"multipart/mixed"]),
    "a form by its word": Kind(BodyKind.OTHER, [b"text/urlencoded"]),
    "gzip": Kind(BodyKind.JSON, [], (b"gzip",)),
    "deflate": Kind(BodyKind.MULTIPART, [MULTIPART], (b"deflate",)),
    "br": Kind(BodyKind.FORM, [FORM], (b"br",)),
    "zstd": Kind(BodyKind.FORM, [FORM], (b"zstd",)),
}


def steps(reading: Reading, body: bytes) -> Iterator[Callable[[], object]]:
    """Give what is to be called to read a body as it comes."""
    for start in range(0, len(body), 16 << 10):
        reading.feed(body[start : start + (16 << 10)])
        while reading.pending:
            yield reading.work
    reading.close()
    while reading.pending:
        yield reading.work


def body(kind: Kind) -> Callable[[bytes], object]:
    def read(octets: bytes) -> object:
        reading = kind.open()
        for step in steps(reading, octets):
            step()
        return reading.result()

    return read


def coerced(octets: bytes) -> object:
    reading = CoercedReading(256)
    for step in steps(reading, octets):
        step()
    return reading.result()


PARSERS: dict[str, Callable[[bytes], object]] = {
    "content-type": field("content-type"),
    "content-encoding": field("content-encoding"),
    "content-length": field("content-length"),
    "path": field(":path"),
    "codings": lambda octets: encodings.parse([octets]),
    "the boundary": lambda octets: multipart.boundary([octets]),
    "a value": parameters.parse,
    "a charset": parameters.is_utf8,
    "types": lambda octets: content_type.body_kind([octets]),
    "a part's header section": part,
    "a name": spelling.is_alike,
    "the query": lambda octets: model_in_query(b"/?" + octets),
    "templates": lambda octets: model_in_path(b"/" + octets, TEMPLATES),
    "path patterns": lambda octets: PathFilter(PATHS._include, PATHS._exclude).reads(b"/" + octets),
    "a whole document": read_model,
    "a document of another kind of model": coerced,
    **{f"a body: {which}": body(kind) for which, kind in KINDS.items()},
}


def quietly(read: Callable[[bytes], object], octets: bytes) -> Callable[[], object]:
    def call() -> None:
        try:
            read(octets)
        except Refusal:
            return
        except ValueError:  # parameters.parse, as it says
            assert read is parameters.parse

    return call


TOKENS = [
    *(b'"user":', b'"k":{', b'"s":1,'),
    *(
        b";",
        b",",
        b"=",
        b'"',
        b"\\",
        b" ",
        b"\t",
        b"&",
        b"%",
        b"/",
        b":",
        b"*",
        b".",
        b"#",
        b"-",
        b"+",
        b"[",
        b"]",
        b"{",
    ),
    *(b"}", b"'", b"?", b"\0", b"a", b"m", b"0", b"\xff", b"\xc3\xa9", b"\xa6", b"\xef\xbb\xbf", b"\r\n", b"\n"),
    *(
        b"model",
        b"name",
        b"name=",
        b"filename=",
        b"charset",
        b"boundary=",
        b"--b",
        b"--",
        b"models/",
        b"application/json",
    ),
    *(b"%25", b"%6d", b"%2e", b"%20", b"&model=", b"&model", b'"model"', b'"model":', b'{"a":', b"\\u006d", b"\\u0000"),
    *(
        b"[1,",
        b'"x",',
        b"1e9,",
        b'{"Model":1},',
        b"gzip,",
        b"multipart",
        b"json",
        b"\r\n--b\r\n",
        b"Content-Type: a\r\n",
    ),
    b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n',
]
texts = st.lists(st.sampled_from(TOKENS), max_size=4).map(b"".join)


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
@settings(max_examples=30)
@given(begin=texts, unit=texts.filter(bool), end=texts)
def test_each_byte_goes_through_a_few_lines_however_long_the_text(
    parser: Callable[[bytes], object], begin: bytes, unit: bytes, end: bytes
) -> None:
    # Some texts are read by a library up to a size, and by lines of ours from there on: each byte costs up to 40.
    # By the square of its length, a byte of the longest would cost hundreds.
    for count in (200, 400, 800):
        octets = begin + unit * count + end
        found = lines(quietly(parser, octets))
        assert found <= 5_000 + 60 * len(octets), (found, len(octets))


# Texts that have taken time by the square of their length somewhere, or might.
HOSTILE = {
    "blanks behind a name": ("a part's header section", b'filename="name', b" ", b'x"'),
    "many parameters": ("a part's header section", b"", b"a=b;", b""),
    "escapes in a name": ("a name", b"", b"%25", b""),
    "many colons": ("templates", b"models/", b":", b"/x"),
    "many models": ("templates", b"", b"models/", b":x"),
    "every place is one to begin at": ("templates", b"", b"a/", b""),
    "every place is one to begin at, before an end": ("templates", b"", b"a/", b"x/a"),
    "every second place is one to begin at": ("templates", b"", b"b/", b"x"),
    "models and colons": ("templates", b"", b"models/:", b":x"),
    "escaped colons": ("templates", b"models/", b"%3A", b"%3Ax"),
    "many segments": ("path patterns", b"", b"models/", b"x"),
    "stars that could end anywhere": ("path patterns", b"", b"aabbc/", b""),
    "commas": ("types", b"", b",", b""),
    "semicolons": ("types", b"a/b", b";", b""),
    "charsets without a value": ("types", b"a/b;", b"charset ", b""),
    "many codings": ("codings", b"", b",", b""),
    "an odd path": ("path patterns", b"", b"%2e;/", b""),
    "separators": ("a body: a form", b"", b"&", b""),
    "blanks before a key": ("a body: a form", b"&", b" ", b"x"),
    "odd keys": ("a body: a form", b"", b"&%", b""),
    "odd keys with the letters of model": ("a body: a form", b"", b"&%d6453", b""),
    "a long odd key without them": ("a body: a form", b"&%", b"mmoodd", b""),
    "keys without the eighth bit": ("a body: a form", b"", b"\xa6\xa5", b""),
    "a form in JSON": ("a body: JSON or a form", b'{"x":"', b"&%6d;", b'"}'),
    "brackets": ("a body: JSON", b'{"a":', b"[", b""),
    "escapes": ("a body: JSON", b'{"a":"', b"\\u006d", b'"}'),
    "keys": ("a body: JSON", b"{", b'"m\\u006f":1,', b'"model":"a"}'),
    "keys of fields": ("a body: JSON with fields", b"{", b'"user":1,', b'"model":"a"}'),
    "keys of fields in other letters": ("a body: JSON with fields", b"{", b'"us\\u0045r":1,', b'"model":"a"}'),
    "models beside fields": ("a body: JSON with fields", b"{", b'"model":1,', b'"user":"a"}'),
    "keys of fields below": ("a body: JSON with fields", b'{"x":[', b'{"user":1,"k":2},', b'0],"user":"a"}'),
    "brackets in an object with fields": ("a body: JSON with fields", b'{"k":{"x":[', b"[],", b"0]}}"),
    "keys in an object with fields": ("a body: JSON with fields", b'{"k":{', b'"s":1,', b'"m":"a"}}'),
    "keys of a short document": ("a whole document", b"{", b'"mode\\u006c\\u0000":1,', b'"x":1}'),
    "dashes": ("a body: multipart", b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n', b"\r\n--", b""),
    "names": ("a body: multipart of another kind", b"", b"name ", b""),
    "names with escapes": ("a body: multipart of another kind", b"", b"%--b'filename=", b""),
    "objects of a short document": ("a whole document", b'{"x":[', b"{},", b'0],"model":""}'),
    "lists of a short document": ("a whole document", b"[", b"[],", b"0]"),
    "equal keys of a short document": ("a whole document", b"{", b'"":0 ,', b'"model":"a"}'),
    "numbers of a short document": ("a whole document", b"[", b"1e23,", b"0]"),
    "a long number of a short document": ("a whole document", b"[1.", b"1", b"]"),
    "almost NULs of a short document": ("a whole document", b'{"x":"', rb"\u000", b'"}'),
    "blanks of a short document": ("a whole document", b'{"x":', b" ", b"}"),
    "names that are cut": ("a body: multipart of another kind", b"", b"name*'", b""),
}
MOST_BYTES = {"templates": 4000, "path patterns": 4000, "types": 1000, "codings": 250, "a name": 120}
MOST_BYTES["a part's header section"] = 8000


def grows_by_its_length(read: Callable[[bytes], object], begin: bytes, unit: bytes, end: bytes, most: int) -> bool:
    count = max(1, (most - len(begin + end)) // len(unit) // 4)
    small, large = (quietly(read, begin + unit * many + end) for many in (count, 4 * count))
    repeated = max(1, int(0.002 / max(seconds(small, 1), 1e-6)))

    def many(call: Callable[[], object]) -> Callable[[], object]:
        return lambda: [call() for _ in range(repeated)]

    return take_as_long(many(large), many(small), 10)


@pytest.mark.parametrize(("parser", "begin", "unit", "end"), HOSTILE.values(), ids=HOSTILE)
def test_four_times_the_text_takes_about_four_times_as_long(parser: str, begin: bytes, unit: bytes, end: bytes) -> None:
    most = MOST_BYTES.get(parser, 64 << 10)
    assert grows_by_its_length(PARSERS[parser], begin, unit, end, most)


@pytest.mark.parametrize("size", [60_000, 1 << 20])
@pytest.mark.parametrize("octets", [b",", b";", b"/", b":", b"%", b"a/", b"model=", b" "])
@pytest.mark.parametrize(
    "parser",
    ["content-type", "content-encoding", "path", "codings", "the boundary", "templates", "path patterns", "the query"],
)
def test_what_is_longer_than_its_limit_is_not_looked_at(parser: str, octets: bytes, size: int) -> None:
    assert lines(quietly(PARSERS[parser], octets * (size // len(octets)))) < 60


# The most lines of ours that may be gone through at once: some 0.1 us each, so less than a millisecond.
MOST_LINES = 8000


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@settings(max_examples=30)
@given(begin=texts, unit=texts.filter(bool), end=texts, whole_bytes=st.sampled_from([0, 256 << 10]))
@example(begin=b"", unit=b";\xa6%25", end=b"", whole_bytes=0)  # keys to be judged with and without their eighth bits
@example(begin=b'[1,"k":{', unit=b'"', end=b"", whole_bytes=0)  # strings with nothing between them
def test_no_step_is_long(kind: Kind, begin: bytes, unit: bytes, end: bytes, whole_bytes: int) -> None:
    octets = begin + unit * (100_000 // len(unit)) + end
    for coding in kind.encodings:
        octets = COMPRESS[coding](octets)
    reading = kind.open(whole_bytes)
    try:
        for step in steps(reading, octets):
            assert lines(step) < MOST_LINES
    except Refusal:
        pass


# The slowest that a search through the tokens found, for each kind of body.
SLOW = {
    "multipart of another kind": (b":/", b"%--b'filename=", b"&"),
    "JSON or a form": (b"", b"%25; \xff", b""),
    "a form": (b"", b"&\xff%d6453", b""),
    "a form by its word": (b"\xef\xbb\xbf ", b"&", b"model"),
    "zstd": (b'\xffmultipart"x",', b"&", b""),
    "br": (b"filename=/", b"\\u006d%20%25;", b""),
    "gzip": (b"multipart0?", b"\xc3\xa9\\boundary=--b\r\n", b"\0/"),
    "JSON": (b"", b"a", b"[1,:"),
}


@pytest.mark.parametrize("whole_bytes", [0, 256 << 10], ids=["long", "short"])
@pytest.mark.parametrize("which", SLOW)
def test_no_step_takes_much_more_than_a_millisecond(which: str, whole_bytes: int) -> None:
    begin, unit, end = SLOW[which]
    kind = KINDS[which]
    octets = begin + unit * (200_000 // len(unit)) + end
    for coding in kind.encodings:
        octets = COMPRESS[coding](octets)

    def longest() -> float:
        most = 0.0
        with contextlib.suppress(Refusal):
            for step in steps(kind.open(whole_bytes), octets):
                begun = time.thread_time()
                try:
                    step()
                finally:
                    most = max(most, time.thread_time() - begun)
        return most

    assert is_within(2, longest)


# These are short: dots are resolved and letters made small, one segment after another.
MOST_LINES_OF_A_PATH = 3 * MOST_LINES

MANY_TEMPLATES = {
    "vendors": "azure-openai gemini bedrock " + " ".join(f"/**/x{number}/{{model}}/y" for number in range(17)),
    "open ends": " ".join(f"/**/x{number}/{{model}}/**" for number in range(32)),
    "verbs": " ".join(f"/**/x{number}/{{model}}:*" for number in range(32)),
    "stars before the name": " ".join(f"/**/*/a{number}*/{{model}}/**" for number in range(32)),
    "nothing but stars": " ".join(f"/**/*/*{number}/{{model}}:*" for number in range(32)),
    "stars behind the name": " ".join(f"/**/models/{{model}}/x*/{'*/' * number}**" for number in range(30)),
}
MANY_PATTERNS = {
    "literals": [f"/**/a{number}/**/b*c" for number in range(64)],
    "stars": [f"/**/*{number}*a*b*c/**" for number in range(64)],
    "few": ["/v1/**", "/**/*x*y/**/z"],
}
# The slowest of 20,000 that a search found.
ODD_PATHS = [
    *(b"/models/%252525\\;/..//.#", b"/models/%2541\\;/..//.", b"/a;/..//", b"/x4/a/./a58/.//a22", b"/%2f/a", b"/./"),
    *(b"/a", b"/x1/a", b"//", b"/models/a", b"/x3/a/x28/amodels", b"a30/a20\\/x17/a", b":/x23/a/a48", b"#/", b"/a1/bc"),
]
BEGINS = [
    *(b"/", b"/v1/%41//;./", b"/v1/models/a%252541/./.;\\", b"/%25412//./"),
    *(b"".join(b"/x%d/a" % number for number in range(32)), b"".join(b"/a%d" % number for number in range(64)) + b"//"),
]


def each_path() -> Iterator[bytes]:
    for begin, unit, size in itertools.product(BEGINS, ODD_PATHS, (60, 500, 1_024, 4_096)):
        for end in (b"", b"/a:x"):
            yield (begin + unit * (size // len(unit)))[: size - len(end)] + end


@pytest.mark.parametrize("which", MANY_TEMPLATES)
def test_no_path_takes_long_whatever_the_templates(which: str) -> None:
    templates = parse_templates(MANY_TEMPLATES[which])
    for path in each_path():
        look = quietly(lambda octets: model_in_path(octets, templates), path)
        assert lines(look) < MOST_LINES_OF_A_PATH


@pytest.mark.parametrize("which", MANY_PATTERNS)
def test_no_path_takes_long_whatever_the_patterns(which: str) -> None:
    patterns = tuple(map(PathPattern, MANY_PATTERNS[which]))
    for path in each_path():
        for paths in (PathFilter(patterns, patterns), PathFilter((), patterns)):
            assert lines(lambda paths=paths, path=path: paths.reads(path)) < MOST_LINES_OF_A_PATH  # type: ignore[misc]


@pytest.mark.parametrize("which", ["vendors", "open ends"])
def test_the_odd_paths_take_about_a_millisecond(which: str) -> None:
    templates = parse_templates(MANY_TEMPLATES[which])
    stars = tuple(map(PathPattern, MANY_PATTERNS["stars"]))
    for begin, unit in itertools.product((BEGINS[1], BEGINS[4]), ODD_PATHS[:4]):
        path = begin + unit * ((1_000 - len(begin)) // len(unit))
        look = quietly(lambda octets: model_in_path(octets, templates), path)
        assert is_within(2, lambda look=look: seconds(look, 1))  # type: ignore[misc]
        assert is_within(2, lambda path=path: seconds(lambda: PathFilter(stars, stars).reads(path), 1))  # type: ignore[misc]


COMPRESS: dict[bytes, Callable[[bytes], Any]] = {
    b"gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"br": lambda octets: brotli.compress(octets, quality=5),
    b"zstd": zstd.compress,
}
